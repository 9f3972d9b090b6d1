"""Notices that the cluster under the driver is gone, for which Ray itself may wait without end.

A thread tries the two sockets without which nothing can go on, that of the cluster's control service and that of the
driver's own node. Where one has refused for `SILENCE` seconds, or the driver has not come round for `STUCK` seconds,
the sweep is told to end; where the driver cannot even do that within `GRACE` seconds, its process is ended.
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
    """`say` prints the last words of a process that is ended; `beat` is called wherever the driver comes round.

    ends_process: False leaves a process alone that the driver has told of the loss itself.
    """

    def __init__(self, say: Callable[[str], None], ends_process: bool = True):
        self._say = say
        self._ends_process = ends_process
        self._places: dict[str, tuple[str, int]] = {}
        self._beat = time.monotonic()
        self._over = threading.Event()  # the sweep has ended, or says itself why it does
        self._lost = ""

    def __enter__(self) -> Watchdog:
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def hold(self, what: str, host: str, port: int) -> None:
        """From now on, where `host:port` does not answer, `what` is lost."""
        self._places[f"{what} ({host}:{port})"] = host, port

    def beat(self) -> None:
        """Raise ClusterLost where the cluster is gone."""
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
            told = self._over.wait(GRACE)
            if told and not self._ends_process:
                return
            if told:
                time.sleep(GRACE)  # for what Ray does when a process ends
            else:
                self._say(self._lost)
            os._exit(ClusterLost.exit_code)


def _answers(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, timeout=3).close()
    except OSError:
        return False
    return True
