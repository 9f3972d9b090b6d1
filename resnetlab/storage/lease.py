"""The lease of a results folder, which lets only one driver at a time write it.

A driver takes the next fencing number by creating `lease/<number>.json`, which succeeds for one driver only. It holds
the folder until it releases it, until its process is gone (same host), or until it has not renewed the lease for
`EXPIRES` seconds of the storage's clock (another host). A driver that finds the folder held on another host waits until
the holder renews, and is then refused, or until the lease expires: so a job that is requeued after its node died can
continue. Clocks of different machines are never compared, and setting a clock back does not prolong a lease. Before
each write a driver checks that it still holds the lease, and stops if another one has taken over.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from resnetlab.errors import FolderRefused
from resnetlab.storage.results_folder import ResultsFolder

EXPIRES = 60.0  # seconds without renewal after which another host may take over
RENEW = 10.0  # seconds between renewals


class Lease:
    """Takes the right to write `folder`. Raises FolderRefused, naming the holder, if another driver has it.

    say: gets a line if it must wait, up to `EXPIRES` seconds, to see whether the holder is alive.
    """

    def __init__(self, folder: ResultsFolder, say: Callable[[str], None] = lambda line: None):
        self._folder = folder
        self._token = secrets.token_hex(8)
        self._since = time.time()
        self._renewals = 0
        while True:
            number, holder = _newest(folder)
            if holder is not None and _alive(folder, number, holder, say):
                raise _held(folder, holder)
            self.fence = number + 1
            if folder.create(_name(self.fence), self._content(released=False)):
                break
        self._renewed = time.monotonic()
        for old in folder.names("lease"):
            if not old.startswith(f"{self.fence:06d}."):  # a request to this driver (`control`) may be there already
                folder.delete(f"lease/{old}")

    def _content(self, released: bool) -> bytes:
        content = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process": _process_start(os.getpid()),
            "token": self._token,
            "since": self._since,
            "renewals": self._renewals,
            "released": released,
        }
        return json.dumps(content).encode()

    def check(self) -> None:
        """Renew the lease if due. Raises FolderRefused if another driver has taken over."""
        number, holder = _newest(self._folder)
        if number != self.fence or holder is None or holder["token"] != self._token:
            by = f"taken over by host {holder['host']}, pid {holder['pid']}" if holder else "its lease was deleted"
            raise FolderRefused(f"{self._folder.url}: {by}; this sweep stops")
        if time.monotonic() - self._renewed > RENEW:
            self._renewed = time.monotonic()
            self._renewals += 1
            self._folder.write(_name(self.fence), self._content(released=False))

    def renew(self) -> None:
        """Check and renew, at most every `RENEW` seconds: cheap enough to call often."""
        if time.monotonic() - self._renewed > RENEW:
            self.check()

    def release(self) -> None:
        """Give the folder up, unless another driver has taken over already."""
        number, holder = _newest(self._folder)
        if number == self.fence and holder is not None and holder["token"] == self._token:
            self._folder.write(_name(self.fence), self._content(released=True))


@dataclass(frozen=True)
class Holder:
    """The driver that holds a folder, as a reader sees it.

    since: when it took the folder, in seconds since 1970 by its own clock. silent: seconds since it last renewed its
    lease, the difference of this machine's clock and the storage's. fence: its fencing number.
    """

    host: str
    pid: int
    since: float
    silent: float
    alive: bool
    fence: int


def holder(folder: ResultsFolder) -> Holder | None:
    """The driver that took the folder last; None if it has released it. Writes nothing."""
    number, lease = _newest(folder)
    changed = folder.changed(_name(number))
    if lease is None or lease["released"] or changed is None:
        return None
    silent = time.time() - changed
    here = lease["host"] == socket.gethostname()
    alive = _process_start(lease["pid"]) == lease["process"] if here and lease["process"] else silent < EXPIRES
    return Holder(lease["host"], lease["pid"], lease["since"], silent, alive, number)


def check_free(folder: ResultsFolder, here: bool = False) -> None:
    """Raise FolderRefused if a driver that seems to be alive holds the folder. Writes nothing.

    here: only if it runs on this host. Of one on another host `Lease` waits to see whether it renews.
    """
    number, lease = _newest(folder)
    if lease is None:
        return
    if here:
        held = lease["host"] == socket.gethostname() and _alive(folder, number, lease, lambda line: None)
    else:
        current = holder(folder)
        held = current is not None and current.alive
    if held:
        raise _held(folder, lease)


def _held(folder: ResultsFolder, holder: dict[str, Any]) -> FolderRefused:
    return FolderRefused(
        f"{folder.url}: held by another sweep ({_who(holder)}); wait for it, or stop it, then run again"
    )


def _name(fence: int) -> str:
    return f"lease/{fence:06d}.json"


def _newest(folder: ResultsFolder) -> tuple[int, dict[str, Any] | None]:
    """The highest fencing number and the content of its file. An unreadable file, left by a power cut, is released."""
    names = [name for name in folder.names("lease") if Path(name).stem.isdigit()]
    if not names:
        return 0, None
    number = int(Path(names[-1]).stem)
    nobody = dict.fromkeys(_KINDS) | {"host": "unknown", "pid": 0, "since": 0.0, "renewals": 0, "released": True}
    try:
        content = json.loads(folder.read(f"lease/{names[-1]}") or b"")
        read = {key: content[key] for key, kind in _KINDS.items() if isinstance(content.get(key), kind)}
    except (ValueError, AttributeError, RecursionError):
        return number, nobody
    return number, nobody | {"released": False} | read


_KINDS = {
    "host": str, "pid": int, "process": str, "token": str, "since": float, "renewals": int, "released": bool,
}  # fmt: skip


def _alive(folder: ResultsFolder, number: int, holder: dict[str, Any], say: Callable[[str], None]) -> bool:
    """True if `holder`, of lease `number`, still holds the folder; waits if only time can tell."""
    if holder["released"]:
        return False
    if holder["host"] == socket.gethostname():
        return holder["process"] is not None and _process_start(holder["pid"]) == holder["process"]
    began, announced = time.monotonic(), False
    while True:
        newest, now = _newest(folder)
        if newest != number or now is None or now["renewals"] != holder["renewals"] or now["released"]:
            return now is not None and not now["released"]
        try:
            age = folder.age(_name(number))
        except FileNotFoundError:
            continue
        if age >= EXPIRES or (age < 0 and time.monotonic() - began > 2.5 * RENEW):  # the storage's clock was set back
            return False
        if not announced:
            announced = True
            say(
                f"{folder.url}: held by a sweep that may be dead ({_who(holder)}): "
                f"waiting until it renews its lease or that expires, {EXPIRES - max(age, 0):.0f} s at most"
            )
        time.sleep(RENEW / 10)


def _process_start(pid: int) -> str | None:
    """An identifier of when a process of this host started, None if there is no such process.

    On Linux, the boot and the kernel's count since then. psutil's start time, used on other systems, shifts when the
    machine's clock is set, so that a running driver would seem dead.
    """
    if not Path("/proc/self").exists():
        try:
            return str(psutil.Process(pid).create_time())
        except psutil.Error:
            return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None
    return None if stat[0] == "Z" else f"{boot} {stat[19]}"


def _who(holder: dict[str, Any]) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
    return f"host {holder['host']}, pid {holder['pid']}, since {since}"
