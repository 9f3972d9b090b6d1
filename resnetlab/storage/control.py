"""What a running driver was asked to do: to pause or to stop.

A request is a small file beside the lease of the driver that it is meant for, named with the lease's fencing number,
and lasts as long as that driver or until it is withdrawn by `resume`. The next driver of the folder has another number:
whatever was asked before, and however the earlier driver ended, it starts without a request.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from typing import Literal

from resnetlab.errors import BadRequest
from resnetlab.storage.lease import Holder, holder
from resnetlab.storage.results_folder import ResultsFolder

POLL = 1.0  # seconds between two looks of the driver

What = Literal["pause", "resume", "stop"]


@dataclass(frozen=True)
class Request:
    """what: `pause` or `stop`. at: when it was asked, in seconds since 1970 by the asker's clock. host, pid: of the
    process that asked."""

    what: Literal["pause", "stop"]
    at: float
    host: str
    pid: int


def ask(folder: ResultsFolder, what: What) -> Holder:
    """Ask the driver of `folder` to pause, to go on after a pause, or to stop; returns that driver.

    It obeys once the trials that train have ended their epoch. To pause what is paused already, or to stop what is
    stopping, changes nothing. Writes nothing else.

    Raises:
        BadRequest: `folder` is no results folder, no driver runs there, it is asked to go on and does not pause, or it
            was already asked to stop.
        CannotWrite: the folder cannot be written.
    """
    if folder.read("study.json") is None:
        raise BadRequest(f"{folder.url}: not a results folder: it has no study.json")
    driver = holder(folder)
    if driver is None or not driver.alive:
        raise BadRequest(f"{folder.url}: no sweep runs there, so there is nothing to {what}")
    now = _read(folder, driver.fence)
    if now is not None and now.what == "stop" and what != "stop":
        raise BadRequest(f"{folder.url}: the sweep was already asked to stop (by host {now.host}, pid {now.pid})")
    if what == "resume":
        if now is None:
            raise BadRequest(f"{folder.url}: the sweep is not paused, so there is nothing to resume")
        folder.delete(_name(driver.fence))
    elif now is None or now.what != what:
        request = Request(what, time.time(), socket.gethostname(), os.getpid())
        folder.write(_name(driver.fence), json.dumps(asdict(request)).encode())
    return driver


def asked(folder: ResultsFolder) -> Request | None:
    """The request that the running driver of `folder` has obeyed or will obey; None if there is none, or no driver."""
    driver = holder(folder)
    return _read(folder, driver.fence) if driver is not None and driver.alive else None


class Requests:
    """The requests to the driver that holds `folder` with fencing number `fence`, as that driver reads them."""

    def __init__(self, folder: ResultsFolder, fence: int):
        self._folder, self._fence = folder, fence
        self._looked = -POLL
        self._now: Request | None = None

    def read(self) -> Request | None:
        """The request in force. Cheap enough to call often: looks at the folder every `POLL` seconds at most."""
        if time.monotonic() - self._looked >= POLL:
            self._now = _read(self._folder, self._fence)
            self._looked = time.monotonic()
        return self._now

    def clear(self) -> None:
        """Forget the request in force: it was obeyed, and the driver ends."""
        self._folder.delete(_name(self._fence))


def _name(fence: int) -> str:
    return f"lease/{fence:06d}.asked.json"


def _read(folder: ResultsFolder, fence: int) -> Request | None:
    """The request to the driver with this number. A file that this module did not write asks for nothing."""
    raw = folder.read(_name(fence))
    try:
        found = Request(**json.loads(raw or b""))
    except (ValueError, TypeError):
        return None
    return found if found.what in ("pause", "stop") else None
