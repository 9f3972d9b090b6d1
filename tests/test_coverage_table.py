"""The table that `make coverage` prints, from a report as coverage.py writes it."""

from coverage_table import room, runs, table


def found(statements, missing):
    return {
        "summary": {"num_statements": statements, "covered_lines": statements - len(missing)},
        "missing_lines": missing,
    }


def test_a_room_is_a_folder_of_the_package_and_the_modules_beside_them_are_one():
    assert room("resnetlab/vision/data/cifar.py") == "vision/"
    assert room("resnetlab/errors.py") == "resnetlab/"


def test_lines_that_follow_each_other_are_one_range():
    assert runs([3, 7, 8, 9, 11]) == "3, 7-9, 11" and runs([]) == ""


def test_rooms_are_summed_over_their_files_and_files_sorted_by_what_is_missing():
    files = {"storage/a.py": found(60, [5]), "storage/sub/b.py": found(40, [1, 2, 3]), "errors.py": found(10, [])}
    lines = table({f"resnetlab/{name}": one for name, one in files.items()})
    assert lines[2:5] == ["| `resnetlab/` | 10 | 100.0% |", "| `storage/` | 100 | 96.0% |", "| all | 110 | 96.4% |"]
    assert lines[-2:] == ["| `resnetlab/storage/sub/b.py` | 3 | 1-3 |", "| `resnetlab/storage/a.py` | 1 | 5 |"]
