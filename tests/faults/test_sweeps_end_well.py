"""Real sweeps on a real Ray head: drivers and workers killed, signals, two drivers, a small disk, clocks.

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

import pytest

from faults.lab import ROWS, SLOWLY

pytestmark = [pytest.mark.campaign, pytest.mark.slow, pytest.mark.usefixtures("healthy")]

MOST_AGAIN = 3  # epochs of a trial: they are so short here that a checkpoint may cost too much for each (kills.py: 1)


@pytest.mark.experiment(1)
def test_a_driver_killed_three_times(lab, head, goes_on, record):
    chance = random.Random(1)
    lab.plant(*SLOWLY)
    for alone in (False, True, False):
        driver = lab.start("drivers", alone=alone).rows(chance.randint(1, 5))
        time.sleep(chance.random())
        driver.kill()
        lab.no_orphans(head)
        record(1, kills=1, most_seconds_to_a_new_row=driver.first_row)
    goes_on("drivers", 1)
    again = lab.again()
    assert again and max(begun for begun, _ in again) <= MOST_AGAIN, again
    record(1, most_epochs_again_per_interrupted_trial=max(begun for begun, _ in again))


@pytest.mark.experiment(2)
def test_a_worker_killed(lab, head, whole, record):
    lab.plant(*SLOWLY)
    driver = lab.start("worker")
    lab.wait(lambda: lab.in_epoch(2), 90)
    os.kill(lab.in_epoch(2)[0], signal.SIGKILL)
    ended = driver.finish()
    assert ended.code == 0 and "its process died" in ended.out, ended
    lab.no_orphans(head)
    lab.same("worker", whole)
    assert [row["restarts"] for row in lab.trials("worker") if row["restarts"]] == [1]
    (again,) = lab.again()
    assert again[0] <= MOST_AGAIN
    record(2, kills=1, most_epochs_again=again[0])


@pytest.fixture
def small_disk(lab):
    place = lab.place / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", place], capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.experiment(6)
def test_a_small_disk_that_fills(lab, head, goes_on, record, small_disk):
    driver = lab.start("small").rows(4)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    driver.finish(60).told(4, "No space left on device", "make room, then continue with: ", "ablation.py")
    lab.no_orphans(head)
    filler.unlink()
    goes_on("small", 6)


@pytest.mark.experiment(8)
def test_signals_end_a_sweep_in_order(lab, head, goes_on, record):
    held = lab.place / "held"
    held.touch()
    for name, epoch in (("SIGINT", 3), ("SIGTERM", 5), ("SIGHUP", 6)):
        lab.plant({"when": {}, "epoch": epoch, "do": "wait", "until": str(held), "once": False})  # none is too fast
        driver = lab.start("signals", before=("env", "--default-signal")).rows(1)  # whatever nohup ignores
        driver.signal(getattr(signal, name))
        if name == "SIGTERM":  # Ray would have what has not ended after three seconds aborted, as on a busy machine
            time.sleep(0.2)
            driver.signal(signal.SIGSTOP)
            time.sleep(4)
            driver.signal(signal.SIGCONT)
        ended = driver.finish(30)
        ended.told(130, f"interrupted by {name}", "continue with: ", "ablation.py")
        statuses = {row["status"] for row in lab.trials("signals")}
        assert "running" not in statuses and "interrupted" in statuses
        lab.no_orphans(head)
        record(8, signals=1)
    lab.plant()
    goes_on("signals", 8)


@pytest.mark.experiment(8)
def test_a_signal_while_ray_starts(lab, head, record):
    before = set(lab.ours("gcs_server "))
    driver = lab.start("starts", alone=True)
    lab.wait(lambda: set(lab.ours("gcs_server ")) - before, 60)
    driver.signal(signal.SIGTERM).finish(30).told(130, "interrupted by SIGTERM", "continue with: ", "ablation.py")
    lab.no_orphans(head)
    record(8, signals=1)


@pytest.mark.experiment(9)
def test_a_second_driver_is_told_who_the_first_is(lab, head, whole, record):
    since = time.strftime("%Y-%m-%d")
    lab.plant(*SLOWLY)
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
    ended = lab.run("hangs", "--set", f"resources.epoch_timeout_s={limit}")
    assert ended.code == 0, ended
    rows = lab.trials("hangs")
    (lost,) = [row for row in rows if row["status"] != "complete"]
    assert lost["status"] == "failed" and lost["epochs_run"] == 2 and lost["kernel"] == 1
    assert f"an epoch took longer than {limit} s (resources.epoch_timeout_s)" in lost["reason"]
    assert len(lab.epochs("hangs")) == ROWS - 4
    lab.no_orphans(head)
    record(18, complete=len(rows) - 1, ended=1)
