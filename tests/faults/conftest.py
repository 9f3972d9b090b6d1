"""Keeps the slow part of the campaign out of `make test`, and writes what came of each experiment.

make faults          everything, and results/faults.json and .md
pytest               the fast part alone
"""

import pytest

from faults.experiments import EXPERIMENTS, write
from faults.lab import Cluster, Lab

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
    """record(number, name=value, …): a fact of an experiment; numbers add up, of `most_…` the highest is kept."""

    def note(number, **facts):
        request.node.user_properties.append(("fact", [number, facts]))

    return note


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    marker = item.get_closest_marker("experiment")
    if marker and report.when == "setup":
        item.user_properties.append(("experiments", list(marker.args)))
        report.user_properties = list(item.user_properties)
    return report


def pytest_runtest_logreport(report):
    """Where processes share the tests (pytest-xdist), all reports come to the one that writes."""
    told = [value for name, value in report.user_properties if name == "experiments"]
    if not told or (report.when != "call" and report.outcome == "passed"):
        return
    for number in told[0]:
        found = _outcomes[number]
        found["tests"] += 1
        found["seconds"] += report.duration
        worse = ["not run", "passed", "skipped", "failed"]
        found["outcome"] = max(found["outcome"], report.outcome, key=worse.index)
        if report.outcome == "skipped":
            found["facts"]["skipped"] = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
    if report.when == "call":
        for number, facts in (value for name, value in report.user_properties if name == "fact"):
            known = _outcomes[number]["facts"]
            for name, value in facts.items():
                if name.startswith("most_"):
                    known[name] = max(known.get(name, value), value)
                else:
                    known[name] = known[name] + value if name in known else value


def pytest_sessionfinish(session):
    config = session.config
    if config.getoption("--faults", False) and not config.option.collectonly and not hasattr(config, "workerinput"):
        write(_outcomes)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("faults"))
    yield lab
    lab.end()


@pytest.fixture(scope="module")
def head(lab):
    """One Ray head for all sweeps that need not lose theirs."""
    head = Cluster(lab)
    lab.address = head.address
    yield head
    head.stop()


@pytest.fixture(scope="module")
def whole(lab, head):
    """The content hash of a sweep to which nothing happens."""
    ended = lab.run("whole")
    assert ended.code == 0, ended
    lab.no_orphans(head)
    return lab.hash("whole")


@pytest.fixture
def healthy(lab):
    """No fault is planted but a test's own, and no driver of a test that failed runs on."""
    lab.plant()
    yield
    lab.end("sweeps/ablation.py")


@pytest.fixture
def goes_on(lab, head, whole, record):
    """goes_on(name, number): continue to the end, which must be that of the unfaulted sweep."""

    def go_on(name, number):
        driver = lab.start(name).rows()
        ended = driver.finish()
        assert ended.code == 0, ended
        lab.no_orphans(head)
        lab.same(name, whole)
        record(number, most_seconds_to_a_new_row=driver.first_row)

    return go_on
