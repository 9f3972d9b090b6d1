"""What a driver's own Ray leaves behind ends with the driver, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnetlab.tuning import reaper

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="Linux only")

DRIVER = """
import os, subprocess, sys, time
from resnetlab.tuning.reaper import NAME, reaped
with reaped(0.5) as mark:
    child = subprocess.Popen(["sleep", "300"], env=os.environ | {NAME: mark}, start_new_session=True)
    print(mark, flush=True)
    if "waits" in sys.argv:
        time.sleep(300)
    if "ends it" in sys.argv:
        child.kill()
        child.wait()
"""


def gone(mark, pid, within):
    deadline = time.monotonic() + within
    while reaper.processes(mark) or Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def start(*words):
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, *words], stdout=subprocess.PIPE, text=True)
    return driver, driver.stdout.readline().strip()


def reaper_of(mark):
    lines = {entry.parent.name: entry.read_bytes() for entry in Path("/proc").glob("[0-9]*/cmdline") if ours(entry)}
    (pid,) = [int(pid) for pid, line in lines.items() if b"reaper.py\0" + mark.encode() in line]
    return pid


def ours(entry):
    try:
        return entry.stat().st_uid == os.getuid() and bool(entry.read_bytes())
    except OSError:
        return False


def test_what_a_killed_driver_had_started_ends():
    driver, mark = start("waits")
    assert len(reaper.processes(mark)) == 1
    watcher = reaper_of(mark)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert gone(mark, watcher, 10)


def test_what_a_driver_leaves_behind_ends():
    driver, mark = start()
    assert driver.wait(20) == 0
    assert not driver.stdout.read() and gone(mark, driver.pid, 10)


def test_where_nothing_is_left_it_ends_at_once():
    with reaper.reaped(grace=60) as mark:
        watcher = reaper_of(mark)
    deadline = time.monotonic() + 10
    while os.waitpid(watcher, os.WNOHANG) == (0, 0):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_only_what_has_the_mark_ends():
    with reaper.reaped(grace=0.1) as mark:
        other = subprocess.Popen(["sleep", "300"], env=os.environ | {reaper.NAME: mark[:-1]})
        watcher = reaper_of(mark)
    os.waitpid(watcher, 0)
    assert other.poll() is None
    other.kill()
    other.wait()
