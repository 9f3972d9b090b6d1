"""Nodes that join are used; SIGTERM costs no epoch, the loss of a node at most one; waiting trials are shown."""

import json
import os
import signal
from collections import Counter

import pytest

from faults.lab import Cluster, Lab

pytestmark = pytest.mark.campaign

STUDY = """
dataset: {name: glyphs, variants: 2, limit: 600}
baseline: {blocks: 1, width: 8, downsample: 1, batch_size: 32, lr: 0.1}
arms:
  kernel-1: {kernel: 1}
  kernel-3: {kernel: 3}
search: {epochs: 6}
confirm: {design: arms, seeds: 2}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A cluster of one CPU, to which nodes are joined."""
    made = Lab(tmp_path_factory.mktemp("elastic"), STUDY)
    cluster = Cluster(made, cpus=1)
    made.address = cluster.address
    yield made, cluster
    cluster.stop()


def begun(lab):
    """How often each epoch of each trial was begun."""
    lines = [line.split() for line in (lab.place / "trained.log").read_text().splitlines()]
    return Counter((trial, epoch) for trial, _, what, epoch in lines if what == "begun")


def record(lab):
    return json.loads((lab.place / "elastic/faults/sweep.json").read_text())


def changes(lab):
    return record(lab)["node_changes"]


def test_nodes_come_and_go(lab):
    lab, cluster = lab
    held = {(1, 2): lab.place / "notice", (1, 4): lab.place / "loss", (3, 6): lab.place / "known"}  # kernel, epoch
    for file in held.values():
        file.touch()
    lab.plant(
        *(
            {"when": {"kernel": kernel}, "epoch": epoch, "do": "wait", "until": str(file)}
            for (kernel, epoch), file in held.items()
        )
    )
    driver = lab.start("elastic").rows(1)
    (first,) = lab.workers()

    # One CPU: one trial runs, the next waits. A node that joins takes it.
    assert sorted(Counter(row["status"] for row in lab.trials("elastic")).items()) == [("running", 1), ("waiting", 1)]
    cluster.join(cpus=1)
    lab.wait(lambda: len(lab.workers()) == 2, 60)

    # A notice in the midst of epoch 2: it is finished, saved, and gone on from by another process.
    lab.wait(lambda: any(epoch == "2" for _, epoch in begun(lab)), 60)
    os.kill(first, signal.SIGTERM)
    held[1, 2].unlink()
    lab.wait(lambda: first not in lab.workers(), 30)
    assert max(begun(lab).values()) == 1

    # The node that joined is gone, in the midst of an epoch.
    lab.wait(lambda: any(epoch == "4" for _, epoch in begun(lab)), 60)
    cluster.kill_node(1)
    held[1, 4].unlink()

    # The cluster takes some seconds to know.
    lab.wait(lambda: [line["event"] for line in changes(lab)] == ["joined", "left"], 60)
    held[3, 6].unlink()
    ended = driver.finish()
    assert ended.code == 0, ended.err
    rows = lab.trials("elastic")
    assert {row["status"] for row in rows} == {"complete"} and len(rows) == 4
    assert sorted(lab.epochs("elastic")) == sorted((row["trial_id"], e) for row in rows for e in range(1, 7))
    twice = Counter(trial for (trial, _), times in begun(lab).items() for _ in range(times - 1))
    assert all(times <= 1 for times in twice.values()), twice
    assert "its machine is leaving" in ended.out

    lab.no_orphans(cluster)
    assert [line["event"] for line in changes(lab)] == ["joined", "left"]
    assert record(lab)["waiting"] == {"trials": 0, "for": ""}
    assert "joined: room for 2 trials at once" in ended.out and "left: room for 1 trial at once" in ended.out
    assert "waiting for 1 CPU (room for 1 trial, on 1 node)" in ended.out
