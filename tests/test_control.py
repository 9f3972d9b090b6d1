"""Requests to pause, resume and stop a running driver: who hears them, and who does not."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from resnetlab.errors import BadRequest, CannotWrite
from resnetlab.storage.control import Requests, ask, asked
from resnetlab.storage.lease import Lease
from resnetlab.storage.results_folder import ResultsFolder


@pytest.fixture(params=["", "fsspec+file://"], ids=["disk", "url"])
def folder(request, tmp_path):
    folder = ResultsFolder.at(f"{request.param}{tmp_path}/x")
    folder.write("study.json", b"{}")
    return folder


def heard(folder, lease):
    """What the driver that has this lease reads."""
    found = Requests(folder, lease.fence).read()
    return found and found.what


def test_a_driver_hears_what_it_is_asked(folder):
    lease = Lease(folder)
    assert heard(folder, lease) is None and asked(folder) is None
    driver = ask(folder, "pause")
    assert (driver.host, driver.pid, driver.fence) == (socket.gethostname(), os.getpid(), lease.fence)
    assert heard(folder, lease) == "pause" == asked(folder).what
    assert (asked(folder).host, asked(folder).pid) == (socket.gethostname(), os.getpid())
    first = asked(folder)
    ask(folder, "pause")
    assert asked(folder) == first  # as it was asked first
    ask(folder, "resume")
    assert heard(folder, lease) is None and asked(folder) is None
    ask(folder, "pause")
    ask(folder, "stop")
    assert heard(folder, lease) == "stop" == asked(folder).what


def test_what_cannot_be_asked(folder):
    with pytest.raises(BadRequest, match=r"no sweep runs there, so there is nothing to stop"):
        ask(folder, "stop")
    lease = Lease(folder)
    with pytest.raises(BadRequest, match="not paused, so there is nothing to resume"):
        ask(folder, "resume")
    ask(folder, "stop")
    for what in ("pause", "resume"):
        with pytest.raises(BadRequest, match=rf"already asked to stop \(by host .*, pid {os.getpid()}\)"):
            ask(folder, what)
    lease.release()
    with pytest.raises(BadRequest, match="no sweep runs there"):
        ask(folder, "pause")
    assert asked(folder) is None
    with pytest.raises(BadRequest, match="not a results folder"):
        ask(folder.sub("lease"), "pause")


def test_the_next_driver_does_not_hear_what_a_killed_one_was_asked(tmp_path):
    folder = ResultsFolder.at(tmp_path)
    folder.write("study.json", b"{}")
    code = """
import os, sys
from resnetlab.storage.control import ask
from resnetlab.storage.lease import Lease
from resnetlab.storage.results_folder import ResultsFolder
folder = ResultsFolder.at(sys.argv[1])
Lease(folder)
ask(folder, "stop")
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    assert (tmp_path / "lease/000001.asked.json").exists() and asked(folder) is None
    folder.write("lease/000002.asked.json", (tmp_path / "lease/000001.asked.json").read_bytes())
    lease = Lease(folder)  # takes number 2, and leaves what it was asked itself
    assert heard(folder, lease) == "stop" and folder.names("lease") == ["000002.asked.json", "000002.json"]
    lease.release()
    assert heard(folder, Lease(folder)) is None and folder.names("lease") == ["000003.json"]


def test_a_driver_looks_once_a_second_at_most(folder, monkeypatch):
    lease, looks = Lease(folder), []
    real = folder.read
    monkeypatch.setattr(folder, "read", lambda name, *more: (looks.append(name), real(name, *more))[1])
    requests = Requests(folder, lease.fence)
    for _ in range(50):
        requests.read()
    assert len(looks) == 1


def test_a_request_that_is_obeyed_is_cleared(folder):
    lease = Lease(folder)
    requests = Requests(folder, lease.fence)
    ask(folder, "stop")
    requests.clear()
    requests.clear()
    assert asked(folder) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"what": "dance", "at": 0, "host": "h", "pid": 1}'])
def test_a_file_that_is_no_request_asks_for_nothing(folder, text):
    lease = Lease(folder)
    folder.write(f"lease/{lease.fence:06d}.asked.json", text.encode())
    assert heard(folder, lease) is None
    ask(folder, "pause")
    assert heard(folder, lease) == "pause"


def test_a_read_only_folder_is_named():
    with tempfile.TemporaryDirectory() as place:
        folder = ResultsFolder.at(place)
        folder.write("study.json", b"{}")
        lease = Lease(folder)
        ask(folder, "pause")
        Path(place).chmod(0o755)
        (Path(place) / "lease").chmod(0o555)
        me = os.geteuid()
        if me == 0:
            os.seteuid(65534)  # root may write anywhere
        try:
            for what in ("stop", "resume"):
                with pytest.raises(CannotWrite, match=rf"{lease.fence:06d}.asked.json: cannot be written: .*denied"):
                    ask(folder, what)
        finally:
            os.seteuid(me)
            (Path(place) / "lease").chmod(0o755)
