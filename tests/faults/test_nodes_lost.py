"""Real sweeps that lose a node, the node under the driver, the cluster's control service, or memory.

Each must end with the right code and one line of cause, leave no process behind, and, continued, end with the tables
of a sweep to which nothing happened.
"""

import os
import signal
import time
from pathlib import Path

import pytest

from faults.lab import SLOWLY, Cluster

pytestmark = [pytest.mark.campaign, pytest.mark.slow, pytest.mark.usefixtures("healthy")]


@pytest.mark.experiment(3)
def test_a_worker_node_lost(lab, head, whole, record):
    head.join(1)
    lab.plant(*SLOWLY)
    driver = lab.start("node", "--nodes", "2").rows(1)
    lab.wait(lambda: set(head.processes(1)) & set(lab.workers()), 30)
    time.sleep(1)
    head.kill_node(1)
    ended = driver.finish()
    assert ended.code == 0 and "its process died" in ended.out, ended
    lab.no_orphans(head)
    lab.same("node", whole)
    record(3, kills=1)


@pytest.mark.experiment(4)
def test_the_node_under_the_driver_lost(lab, head, goes_on, record):
    other = Cluster(lab)
    try:
        driver = lab.start("under", "--address", other.address).rows(2)
        other.kill_part("raylet")
        lost = time.monotonic()
        driver.finish(60).told(75, "the cluster was lost", "continue with: ", "ablation.py", "--name faults")
        record(4, most_seconds_to_the_end=time.monotonic() - lost)
    finally:
        other.stop()
    lab.no_orphans(head)
    goes_on("under", 4)


@pytest.mark.experiment(5)
@pytest.mark.parametrize("alone", [True, False], ids=["own Ray", "joined"])
def test_the_control_service_killed(lab, head, goes_on, record, alone):
    name = f"gcs-{alone}"
    other = None if alone else Cluster(lab)
    try:
        before = set(lab.ours("gcs_server "))
        driver = lab.start(name, *([] if alone else ["--address", other.address]), alone=alone).rows(2)
        if other:
            other.kill_part("gcs_server")
        else:
            (gcs,) = set(lab.ours("gcs_server ")) - before
            os.kill(gcs, signal.SIGKILL)
        lost = time.monotonic()
        driver.finish(60).told(75, "the cluster was lost", "continue with: ", "ablation.py", "--name faults")
        record(5, most_seconds_to_the_end=time.monotonic() - lost)
    finally:
        if other:
            other.stop()
    lab.no_orphans(head)
    goes_on(name, 5)


@pytest.mark.experiment(7)
def test_a_trial_that_takes_too_much_memory(lab, head, whole, record):
    total, free = memory()
    eaten = 5 << 30
    if free < 2 * eaten:
        pytest.skip(f"needs {2 * eaten >> 30} GiB of free memory")
    limit = (total - free + eaten * 0.6) / total  # of the machine's memory in use, when Ray ends a worker
    other = Cluster(lab, RAY_memory_usage_threshold=f"{limit:.4f}", RAY_memory_monitor_refresh_ms="100")
    try:
        seeds = {row["seed"] for row in lab.trials("whole")}
        greedy = {"kernel": 1, "seed": min(seeds)}
        lab.plant({"when": greedy, "epoch": 3, "do": "eat", "bytes": eaten, "once": False})
        ended = lab.run("memory", "--address", other.address)
    finally:
        other.stop()
    assert ended.code == 0, ended
    rows = lab.trials("memory")
    (lost,) = [row for row in rows if row["status"] != "complete"]
    assert lost["status"] == "out_of_memory" and "memory" in lost["reason"] and lost["epochs_run"] == 2
    assert (lost["kernel"], lost["seed"]) == (1, min(seeds)) and len(rows) == 6
    lab.no_orphans(head)
    record(7, complete=len(rows) - 1, out_of_memory=1)


def memory():
    """Bytes of this machine's memory: all, and those that could be taken."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return tuple(int(lines[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
