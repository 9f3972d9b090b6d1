"""Keeps the slow part of the campaign out of `make test`, and writes what came of each experiment.

make faults          everything, and results/faults.json and .md
pytest               the fast part alone
"""

import pytest

from faults.experiments import EXPERIMENTS, write

_outcomes = {number: {"outcome": "not run", "tests": 0, "seconds": 0.0, "facts": {}} for number in EXPERIMENTS}


def pytest_addoption(parser):
    parser.addoption("--faults", action="store_true", help="the whole fault campaign, with its table")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--faults", False):
        return
    slow = [item for item in items if item.get_closest_marker("campaign")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture
def record(request):
    """record(number, name=value, …): a fact of an experiment; numbers add up, lists grow, of `most_…` the highest."""

    def note(number, **facts):
        known = _outcomes[number]["facts"]
        for name, value in facts.items():
            if name.startswith("most_"):
                known[name] = max(known.get(name, value), value)
            else:
                known[name] = known[name] + value if name in known else value

    return note


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    marker = item.get_closest_marker("experiment")
    if marker and (report.when == "call" or report.outcome != "passed"):
        for number in marker.args:
            found = _outcomes[number]
            found["tests"] += 1
            found["seconds"] += call.duration
            worse = ["not run", "passed", "skipped", "failed"]
            found["outcome"] = max(found["outcome"], report.outcome, key=worse.index)
            if report.outcome == "skipped":
                found["facts"]["skipped"] = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
    return report


def pytest_sessionfinish(session):
    if session.config.getoption("--faults", False) and not session.config.option.collectonly:
        write(_outcomes)
