"""The shared code of the benchmarks and the table of their results. `make bench` runs the benchmarks themselves."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bench():
    """The modules `common` and `table` of benchmarks/."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import common
        import table

        yield common, table
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
        for name in ("common", "table"):
            sys.modules.pop(name, None)


def test_a_row_has_median_spread_and_n(bench):
    common, _ = bench
    row = common.spread("x", "ms", [5.0, 1.0, 2.0, 3.0, 4.0])
    assert (row["median"], row["low"], row["high"], row["n"]) == (3.0, 2.0, 4.0, 5)
    assert common.shown(row) == "3 ms (2 to 4, n=5)"
    assert common.shown(common.spread("x", "×", [1.234, 0.5, 2.0])) == "1.23 × (0.5 to 2, n=3)"
    assert common.shown(common.spread("x", "MiB", [12345.6])) == "12,346 MiB (n=1)"


def test_arms_take_turns_and_the_first_round_does_not_count(bench):
    order = []
    arms = {name: lambda name=name: order.append(name) or float(len(order)) for name in "ab"}
    assert bench[0].interleaved(arms, 2) == {"a": [3.0, 5.0], "b": [4.0, 6.0]} and "".join(order) == "ababab"


def test_a_benchmark_goes_on_where_it_was_unless_the_code_is_another(bench, tmp_path, monkeypatch, capsys):
    common, table = bench
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    made = []

    def part(name, value):
        return lambda: made.append(name) or [common.spread(name, "×", [value])]

    common.Book("frozen", quick=False).part("one", part("one", 2.0))
    book = common.Book("frozen", quick=False)
    (row,) = book.part("one", part("one", 9.0))
    book.target("at least 3 times", row, 3.0, at_most=False)
    book.target("at most 3 times", row, 3.0)
    book.target("unknown", None, 1.0)
    book.note(book.part("two", part("two", 0.5))[0])
    book.finish()
    assert made == ["one", "two"]
    lines = table.table().splitlines()
    assert "| at least 3 times | 2 × (n=1) | **no** |" in lines and "| at most 3 times | 2 × (n=1) | yes |" in lines
    assert "| unknown | – | not measured |" in lines and "| two | 0.5 × (n=1) |" in lines
    assert "Not measured on a GPU." in lines[-1] and "NOT MET: at least 3 times" in capsys.readouterr().out
    monkeypatch.setattr(common, "code_hash", lambda name: "other")
    common.Book("frozen", quick=False).part("one", part("again", 1.0))
    assert made == ["one", "two", "again"]
    assert list(json.loads((tmp_path / "frozen.json").read_text())["parts"]) == ["one"]
