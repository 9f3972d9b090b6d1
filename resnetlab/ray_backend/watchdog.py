"""Notice that the driver has lost its cluster, which Ray itself may wait for forever.

A thread connects every second to the two sockets that a sweep needs: the cluster's control service, and Ray on the
driver's own node. If one has refused for `SILENCE` seconds, or the driver has not called `beat` for `STUCK` seconds,
the next `beat` raises ClusterLost; if the driver does not end within `GRACE` seconds, its process is ended.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

from resnetlab.errors import ClusterLost

SILENCE = 20.0
STUCK = 600.0
GRACE = 15.0


class Watchdog:
    """Watches the cluster while its `with` block runs; the driver calls `beat` regularly inside it.

    say: prints the reason before a driver that does not end by itself is killed.
    ends_process: False leaves a process alone whose driver has already reported the loss, as in a notebook.
    """

    def __init__(self, say: Callable[[str], None], ends_process: bool = True):
        self._say = say
        self._ends_process = ends_process
        self._places: dict[str, tuple[str, int]] = {}
        self._beat = time.monotonic()
        self._over = threading.Event()  # the `with` block has ended
        self._lost = ""  # what was lost, as a sentence

    def __enter__(self) -> Watchdog:
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def hold(self, what: str, host: str, port: int) -> None:
        """Watch `host:port` from now on; `what` names it in messages."""
        self._places[f"{what} ({host}:{port})"] = host, port

    def beat(self) -> None:
        """Note that the driver is alive. Raises ClusterLost if the cluster is lost."""
        self._beat = time.monotonic()
        if self._lost:
            raise ClusterLost(self._lost)

    def _watch(self) -> None:
        refused: dict[str, float] = {}
        while not self._lost and not self._over.wait(1.0):
            for what, place in list(self._places.items()):
                if _answers(place):
                    refused.pop(what, None)
                elif time.monotonic() - refused.setdefault(what, time.monotonic()) > SILENCE:
                    self._lost = f"{what} has not answered for {SILENCE:.0f} s"
            if time.monotonic() - self._beat > STUCK:
                self._lost = f"Ray has not answered for {STUCK:.0f} s"
        if self._lost:
            reported = self._over.wait(GRACE)
            if reported and not self._ends_process:
                return
            if reported:
                time.sleep(GRACE)  # for Ray's own exit handlers
            else:
                self._say(self._lost)
            os._exit(ClusterLost.exit_code)


def _answers(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, timeout=3).close()
    except OSError:
        return False
    return True
