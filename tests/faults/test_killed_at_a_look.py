"""A real sweep that looks at its confirm runs: its driver killed between a block and the look at it, and right after a
look."""

import signal

import pytest

from faults.lab import Cluster, Lab

pytestmark = pytest.mark.slow

STUDY = """
dataset: {name: digits}
baseline: {blocks: 1, width: 8, downsample: 0, batch_size: 32, lr: 0.2, schedule: one-cycle}
arms:
  usual: {}
  slow: {lr: 0.02}
  plain: {shortcut: false}
search: {epochs: 3}
confirm: {design: arms, seeds: 5, looks: blocks, delta: 2}
"""
SETTLES = 3  # the look, after four blocks, that settles `slow`


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path, STUDY)
    cluster = Cluster(made)
    made.address = cluster.address
    yield made
    cluster.stop()
    made.end()


def looks(lab, name):
    return lab.table(name, "looks")


def begun(lab, name):
    """The confirm runs of a sweep, by arm and block."""
    return sorted((row["arm"], row["seed_block"]) for row in lab.trials(name))


def killed(lab, name, look, at):
    """Have the driver killed before or after it writes its `look`; all that it had asked for must have ended."""
    lab.plant({"look": look, "at": at, "do": "die"})
    ended = lab.run(name)
    assert ended.code == -signal.SIGKILL, ended
    lab.wait(lambda: not lab.workers(), 20)
    assert {row["status"] for row in lab.trials(name)} == {"complete"}
    assert max((row["look"] for row in looks(lab, name)), default=0) == look - (at == "before")
    assert max(block for _, block in begun(lab, name)) == look  # blocks count from 0, and the first look is at two
    lab.look(name)


@pytest.mark.campaign
@pytest.mark.experiment(24)
def test_a_driver_killed_at_a_look(lab, record):
    whole = lab.run("whole")
    assert whole.code == 0, whole
    decisions = {(row["name"], row["look"]): row["decision"] for row in looks(lab, "whole")}
    assert decisions["arm: slow - usual", SETTLES] == "effect" and ("arm: slow - usual", SETTLES + 1) not in decisions
    assert decisions["arm: plain - usual", SETTLES] == "open"  # so that what goes on depends on the look

    for at in ("before", "after"):
        killed(lab, "killed", SETTLES, at)
        record(24, kills=1)
    lab.plant()
    ended = lab.run("killed")
    assert ended.code == 0, ended
    assert "looked after 5 of 5 blocks" in ended.out

    assert begun(lab, "killed") == begun(lab, "whole") and len(begun(lab, "whole")) == 14
    lab.same("killed", lab.hash("whole"), rows=14 * 3)
    assert looks(lab, "killed") == looks(lab, "whole")
    assert lab.table("killed", "effects") == lab.table("whole", "effects")
    assert not lab.again()
    record(24, rows_of_looks=len(looks(lab, "whole")), runs=len(begun(lab, "whole")))
