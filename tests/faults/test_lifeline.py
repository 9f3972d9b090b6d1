"""The cluster is lost: the driver ends, even if it hangs."""

import socket
import subprocess
import sys
import threading
import time

import pytest

from resnetlab.errors import ClusterLost
from resnetlab.ray_backend import watchdog


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(watchdog, "SILENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_cluster_that_is_gone_is_noticed(server, monkeypatch):
    monkeypatch.setattr(watchdog, "GRACE", 1.0)
    line = watchdog.Watchdog(lambda text: None)
    monkeypatch.setattr(watchdog.os, "_exit", lambda code: None)
    with line:
        line.hold("its control service", *server.getsockname())
        for _ in range(3):
            line.beat()
            time.sleep(0.5)
        server.close()
        began = time.monotonic()
        with pytest.raises(ClusterLost, match=r"its control service \(127\.0\.0\.1:\d+\) has not answered"):
            while time.monotonic() - began < 120:
                line.beat()
                time.sleep(0.05)
    for thread in threading.enumerate():  # it would end this process, later, were os._exit itself again
        if thread.name == "watchdog":
            thread.join(timeout=120)
            assert not thread.is_alive()


def test_a_driver_that_hangs_is_ended_with_its_last_words():
    code = (
        "import time; from resnetlab.ray_backend import watchdog as l; l.SILENCE = l.GRACE = 0.2\n"
        "with l.Watchdog(lambda text: print(text, flush=True)) as line:\n"
        "    line.hold('x', '127.0.0.1', 1); time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 75 and "x (127.0.0.1:1) has not answered" in done.stdout


def test_a_driver_that_goes_nowhere_is_ended():
    code = (
        "import time; from resnetlab.ray_backend import watchdog as l; l.STUCK = l.GRACE = 0.2\n"
        "with l.Watchdog(lambda text: print(text, flush=True)): time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 75 and "Ray has not answered" in done.stdout
