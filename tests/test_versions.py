"""The table of versions (docs/versions.md): which versions are installed as oldest, and how a run is counted."""

import importlib.util
import json
import re
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def campaign():
    spec = importlib.util.spec_from_file_location("versions_run", ROOT / "tests/versions/run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_promise_has_an_oldest_version_that_is_installed(campaign):
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = campaign.constraints(pyproject)
    assert all(re.fullmatch(r"[\w.-]+==\d+(\.\d+)*", pin) for pin in pins) and len(pins) == len(
        {pin.partition("==")[0] for pin in pins}
    )
    names = {pin.partition("==")[0] for pin in pins}
    assert {re.match(r"[\w.-]+", one)[0] for one in pyproject["project"]["dependencies"]} <= names
    assert set(campaign.SHOWN) <= names and "pytest" in names and "ruff" not in names
    with pytest.raises(SystemExit, match=r"pyproject\.toml: torch: need `torch>=`"):
        campaign.constraints({"project": {"name": "x", "dependencies": ["torch"], "optional-dependencies": {}}})


def test_a_test_counts_once_and_by_its_worst_part(campaign, tmp_path):
    (tmp_path / "junit.xml").write_text(
        "<testsuites><testsuite>"
        '<testcase classname="tests.test_a" name="test_1"/>'
        '<testcase classname="tests.test_a" name="test_2"><failure/></testcase>'
        '<testcase classname="tests.test_a" name="test_3"><skipped/></testcase>'
        '<testcase classname="tests.test_a" name="test_4"/>'
        '<testcase classname="tests.test_a" name="test_4"><error/></testcase>'
        "</testsuite></testsuites>"
    )
    found = campaign.counted(tmp_path / "junit.xml")
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 2, 1)
    assert found["names"] == ["test_a::test_2", "test_a::test_4"]


def test_the_page_marks_what_was_not_run(campaign):
    rows = {
        "oldest-3.11": {
            "python": "3.11.7", "versions": {"torch": "2.9.0"}, "passed": 1500, "failed": 1, "skipped": 20, "busy": 2,
            "load": 4.6, "seconds": 1530,
            "names": ["test_a::test_2"], "ended": "2026-01-02T03:04:05+00:00", "machine": "m", "system": "s",
            "code": "c",
        },
        "newest-3.12": {"error": "not installed: pip failed", "ended": "2026-01-02T03:04:05+00:00"},
    }  # fmt: skip
    lines = campaign.page(rows).splitlines()
    table = {tuple(cell.strip() for cell in line.split("|")[1:3]): line for line in lines if line.startswith("|")}
    assert (
        "| 2.9.0 | – |" in table["oldest", "3.11.7"]
        and "| 2 busy | 4.6 | 1,500 | 1 | 20 | 26 | 2026-01-02 |" in table["oldest", "3.11.7"]
    )
    assert table["newest", "3.12"].endswith("| – | – | – | – | – | – | not installed: pip failed, 2026-01-02 |")
    assert table["newest", "3.13"].endswith("| not run |") and table["newest", "3.14"].endswith("| not run |")
    assert "- oldest, Python 3.11.7: `test_a::test_2`" in lines and "Run on: m, s; code c." in lines


def test_a_command_runs_beside_the_tests_and_ends_with_them(campaign, tmp_path):
    with campaign.running(f"echo begun > {tmp_path}/said; exec sleep 60", tmp_path / "log"):
        deadline = time.monotonic() + 20
        while not (tmp_path / "said").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert (tmp_path / "said").read_text() == "begun\n"
    with (
        pytest.raises(RuntimeError, match="exit 3: ended with code 3 while the tests ran"),
        campaign.running("exit 3", tmp_path / "log"),
    ):
        time.sleep(1)


def test_the_page_is_that_of_the_recorded_runs(campaign):
    assert campaign.PAGE.read_text() == campaign.page(json.loads(campaign.JSON.read_text()))
