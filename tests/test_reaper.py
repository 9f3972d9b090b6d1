"""The processes of a driver's local Ray end with the driver, however it ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from resnetlab.ray_backend import reaper

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux only")

DRIVER = """
import subprocess, sys, time
from pathlib import Path
from resnetlab.ray_backend.reaper import reaped
folder = Path(sys.argv[1])
own = (folder / "driver.log").open("w")
with reaped(0.5) as ends, (folder / "child.log").open("w") as log:
    ends(str(folder))
    child = subprocess.Popen(["sleep", "300"], env={}, stdout=log, stderr=log, start_new_session=True)
    print("up", flush=True)
    if sys.argv[2] == "is killed":
        time.sleep(300)
if sys.argv[2] == "goes on":
    child.wait()
    print("alone", flush=True)
"""


def start(folder, what):
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, folder, what], stdout=subprocess.PIPE, text=True)
    assert driver.stdout.readline() == "up\n" and len(reaper.processes(folder)) >= 1
    return driver


def gone(happens, within=120):
    deadline = time.monotonic() + within
    while not happens():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("how", ["is killed", "ends"])
def test_what_a_driver_had_started_ends_after_it(tmp_path, how):
    driver = start(tmp_path, how)
    if how == "is killed":
        driver.send_signal(signal.SIGKILL)
    driver.wait(120)
    assert not driver.stdout.read()  # nothing holds its output open
    assert gone(lambda: not reaper.processes(tmp_path))


def test_a_driver_that_goes_on_afterwards_is_left_alone(tmp_path):
    driver = start(tmp_path, "goes on")
    assert driver.stdout.readline() == "alone\n" and driver.wait(120) == 0


def test_only_what_has_files_of_the_session_ends(tmp_path):
    mine, other = tmp_path / "session_1", tmp_path / "session_10"
    for folder in (mine, other):
        folder.mkdir()
    with (other / "log").open("w") as log, (mine / "log").open("w") as own:
        left = subprocess.Popen(["sleep", "300"], stdout=log)
        ended = subprocess.Popen(["sleep", "300"], stdout=own)
        with reaper.reaped(grace=0.1) as ends:
            ends(str(mine))
        assert ended.wait(120) == -signal.SIGKILL and left.poll() is None
    left.kill()
    left.wait()


def test_a_reaper_ends_at_once_where_nothing_is_left(tmp_path):
    (tmp_path / "session").mkdir()
    before = reapers()  # those of sweeps that other tests ran in this process
    with reaper.reaped(grace=900) as ends:
        ends(str(tmp_path / "session"))
        assert gone(lambda: reapers() - before)  # it may not be up yet
        (pid,) = reapers() - before
    assert gone(lambda: os.waitpid(pid, os.WNOHANG) != (0, 0))


def reapers():
    """Those that this process has started and that still run."""
    found = set()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            line = (entry / "cmdline").read_bytes().split(b"\0")
            if reaper.__file__.encode() in line and str(os.getpid()).encode() in line:
                found.add(int(entry.name))
    return found
