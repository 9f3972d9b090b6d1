"""Real sweeps on a real Ray head: drivers, workers and nodes killed, signals, two drivers, a small disk, clocks.

Each must end with the right code and one line of cause, leave no process behind, and, continued, end with the tables
of a sweep to which nothing happened.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from faults.lab import ROWS, Cluster, Lab

pytestmark = [pytest.mark.campaign, pytest.mark.slow]

MOST_AGAIN = 3  # epochs of a trial: they are so short here that a checkpoint may cost too much for each (kills.py: 1)


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


@pytest.fixture(autouse=True)
def healthy(lab):
    """No fault is planted but a test's own, and no driver of a test that failed runs on."""
    lab.plant()
    yield
    lab.end("sweeps/ablation.py")


def goes_on(lab, head, name, whole, record, number):
    """Continue to the end, which must be that of the unfaulted sweep."""
    driver = lab.start(name).rows()
    ended = driver.finish()
    assert ended.code == 0, ended
    lab.no_orphans(head)
    lab.same(name, whole)
    record(number, most_seconds_to_a_new_row=driver.first_row)


@pytest.mark.experiment(1)
def test_a_driver_killed_three_times(lab, head, whole, record):
    chance = random.Random(1)
    for alone in (False, True, False):
        driver = lab.start("drivers", alone=alone).rows(chance.randint(1, 5))
        time.sleep(chance.random())
        driver.kill()
        lab.no_orphans(head)
        record(1, kills=1, most_seconds_to_a_new_row=driver.first_row)
    goes_on(lab, head, "drivers", whole, record, 1)
    again = lab.again()
    assert again and max(begun for begun, _ in again) <= MOST_AGAIN, again
    record(1, most_epochs_again_per_interrupted_trial=max(begun for begun, _ in again))


@pytest.mark.experiment(2)
def test_a_worker_killed(lab, head, whole, record):
    driver = lab.start("worker").rows(2)
    os.kill(lab.workers()[0], signal.SIGKILL)
    ended = driver.finish()
    assert ended.code == 0 and "its process died" in ended.out, ended
    lab.no_orphans(head)
    lab.same("worker", whole)
    assert [row["restarts"] for row in lab.trials("worker") if row["restarts"]] == [1]
    (again,) = lab.again()
    assert again[0] <= MOST_AGAIN
    record(2, kills=1, most_epochs_again=again[0])


@pytest.mark.experiment(3)
def test_a_worker_node_lost(lab, head, whole, record):
    head.join(1)
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
def test_the_node_under_the_driver_lost(lab, head, whole, record):
    other = Cluster(lab)
    try:
        driver = lab.start("under", "--address", other.address).rows(2)
        other.kill_part("raylet")
        lost = time.monotonic()
        driver.finish(60).told(75, "the cluster was lost", "continue with: python", "--name faults")
        record(4, most_seconds_to_the_end=time.monotonic() - lost)
    finally:
        other.stop()
    lab.no_orphans(head)
    goes_on(lab, head, "under", whole, record, 4)


@pytest.mark.experiment(5)
@pytest.mark.parametrize("alone", [True, False], ids=["own Ray", "joined"])
def test_the_control_service_killed(lab, head, whole, record, alone):
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
        driver.finish(60).told(75, "the cluster was lost", "continue with: python", "--name faults")
        record(5, most_seconds_to_the_end=time.monotonic() - lost)
    finally:
        if other:
            other.stop()
    lab.no_orphans(head)
    goes_on(lab, head, name, whole, record, 5)


@pytest.fixture
def small_disk(lab):
    place = lab.place / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", place], capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.experiment(6)
def test_a_small_disk_that_fills(lab, head, whole, record, small_disk):
    driver = lab.start("small").rows(4)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    driver.finish(60).told(4, "No space left on device", "make room, then continue with: python")
    lab.no_orphans(head)
    filler.unlink()
    goes_on(lab, head, "small", whole, record, 6)


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


@pytest.mark.experiment(8)
def test_signals_end_a_sweep_in_order(lab, head, whole, record):
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        driver = lab.start("signals").rows(2)
        ended = driver.signal(getattr(signal, name)).finish(30)
        ended.told(130, f"interrupted by {name}", "continue with: python")
        statuses = {row["status"] for row in lab.trials("signals")}
        assert "running" not in statuses and "interrupted" in statuses
        lab.no_orphans(head)
        record(8, signals=1)
    goes_on(lab, head, "signals", whole, record, 8)


@pytest.mark.experiment(8)
def test_a_signal_while_ray_starts(lab, head, record):
    before = set(lab.ours("gcs_server "))
    driver = lab.start("starts", alone=True)
    lab.wait(lambda: set(lab.ours("gcs_server ")) - before, 60)
    driver.signal(signal.SIGTERM).finish(30).told(130, "interrupted by SIGTERM", "continue with: python")
    lab.no_orphans(head)
    record(8, signals=1)


@pytest.mark.experiment(9)
def test_a_second_driver_is_told_who_the_first_is(lab, head, whole, record):
    since = time.strftime("%Y-%m-%d")
    first = lab.start("two").rows()
    host = os.uname().nodename
    lab.run("two").told(4, "held by another sweep", f"host {host}", f"pid {first.process.pid}", f"since {since}")
    ended = first.finish()
    assert ended.code == 0, ended
    lab.no_orphans(head)
    lab.same("two", whole)
    record(9, refused=1)


@pytest.mark.experiment(9)
def test_of_two_drivers_at_once_one_goes_on(lab, head, whole, record):
    both = [lab.start("at-once"), lab.start("at-once")]
    ended = sorted((driver.finish() for driver in both), key=lambda ended: ended.code)
    assert ended[0].code == 0, ended
    ended[1].told(4, "held by another sweep")
    lab.no_orphans(head)
    lab.same("at-once", whole)
    record(9, refused=1)


@pytest.mark.experiment(15)
def test_where_every_trial_fails_the_exit_code_says_so(lab, head, record):
    wild = ["baseline.lr=100", "baseline.weight_decay=10", "search.epochs=1"]
    options = [word for setting in wild for word in ("--set", setting)]
    lab.run("fails", *options).told(1, "none of 6 trials reached the full budget")
    assert {row["status"] for row in lab.trials("fails")} == {"diverged"}
    lab.no_orphans(head)
    record(15, diverged=6)


@pytest.mark.experiment(16)
def test_a_clock_set_back_between_runs(lab, head, whole, record):
    if shutil.which("faketime") is None:
        pytest.skip("needs faketime (tests/faults/debian.sh)")
    lab.start("clock").rows(6).kill()
    lab.no_orphans(head)
    driver = lab.start("clock", before=("faketime", "-m", "-f", "-2d"), FAKETIME_DONT_FAKE_MONOTONIC="1").rows()
    ended = driver.finish()
    assert ended.code == 0, ended
    lab.no_orphans(head)
    lab.same("clock", whole)
    rows = lab.trials("clock")
    assert all(row["ended"] >= row["started"] for row in rows)
    yesterday = datetime.now(UTC).timestamp() - 24 * 3600
    assert any(row["started"].timestamp() < yesterday for row in rows)
    sessions = json.loads((lab.place / "clock/faults/sweep.json").read_text())["sessions"]
    assert sessions[1]["started"] < sessions[0]["started"]
    record(16, days_back=2)


@pytest.mark.experiment(18)
def test_a_trial_that_hangs(lab, head, whole, record):
    limit = 15
    lab.plant({"when": {"kernel": 1}, "epoch": 3, "do": "hang"})
    ended = lab.run("hangs", "--set", f"resources.epoch_limit={limit}")
    assert ended.code == 0, ended
    rows = lab.trials("hangs")
    (lost,) = [row for row in rows if row["status"] != "complete"]
    assert lost["status"] == "failed" and lost["epochs_run"] == 2 and lost["kernel"] == 1
    assert f"an epoch took longer than {limit} s (resources.epoch_limit)" in lost["reason"]
    assert len(lab.epochs("hangs")) == ROWS - 4
    lab.no_orphans(head)
    record(18, complete=len(rows) - 1, ended=1)
