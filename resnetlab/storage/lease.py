"""One driver at a time writes a results folder.

Each driver that opens the folder takes the next fencing number by creating `lease/<number>.json`, which only one can
do. It holds the folder until it releases it, until its process is gone (same host), or until it has not renewed for
`EXPIRES` seconds of the storage's clock (another host). Who finds the folder held from another host waits until the
holder renews, and is refused, or until its lease expires: a job that was queued again after its node died goes on.
No two clocks are compared, and a clock that was set back makes nobody a holder for longer. A driver that was overtaken
finds that out before its next write, and stops.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from resnetlab.errors import FolderRefused
from resnetlab.storage.results_folder import ResultsFolder

EXPIRES = 60.0
RENEW = 10.0


class Lease:
    """The right to write `folder`. Raises FolderRefused, naming the holder, where another driver has it.

    say: told where it takes up to `EXPIRES` seconds to find out.
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
            if old != Path(_name(self.fence)).name:
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
        """Renew where that is due; raise FolderRefused where another driver has taken over."""
        number, holder = _newest(self._folder)
        if number != self.fence or holder is None or holder["token"] != self._token:
            by = f"taken over by host {holder['host']}, pid {holder['pid']}" if holder else "its lease was deleted"
            raise FolderRefused(f"{self._folder.url}: {by}; this sweep stops")
        if time.monotonic() - self._renewed > RENEW:
            self._renewed = time.monotonic()
            self._renewals += 1
            self._folder.write(_name(self.fence), self._content(released=False))

    def renew(self) -> None:
        """Call often: checks, and renews, every `RENEW` seconds."""
        if time.monotonic() - self._renewed > RENEW:
            self.check()

    def release(self) -> None:
        """Let the next driver in; nothing happens where another has taken over."""
        number, holder = _newest(self._folder)
        if number == self.fence and holder is not None and holder["token"] == self._token:
            self._folder.write(_name(self.fence), self._content(released=True))


@dataclass(frozen=True)
class Holder:
    """Who holds a folder, as far as one can tell who only looks. since: when it took it, seconds since 1970 by its
    clock; heard: seconds since its last sign of life, by the clock of this machine and of the storage."""

    host: str
    pid: int
    since: float
    heard: float
    alive: bool


def holder(folder: ResultsFolder) -> Holder | None:
    """The driver that has the folder; None where it was released. Writes nothing."""
    number, found = _newest(folder)
    changed = folder.changed(_name(number))
    if found is None or found["released"] or changed is None:
        return None
    heard = time.time() - changed
    here = found["host"] == socket.gethostname()
    alive = _process_start(found["pid"]) == found["process"] if here and found["process"] else heard < EXPIRES
    return Holder(found["host"], found["pid"], found["since"], heard, alive)


def check_free(folder: ResultsFolder) -> None:
    """FolderRefused where a driver has the folder, as far as one can tell who only looks. Writes nothing."""
    found = holder(folder)
    if found is not None and found.alive:
        raise _held(folder, asdict(found))


def _held(folder: ResultsFolder, holder: dict[str, Any]) -> FolderRefused:
    return FolderRefused(
        f"{folder.url}: held by another sweep ({_who(holder)}); wait for it, or stop it, then run again"
    )


def _name(fence: int) -> str:
    return f"lease/{fence:06d}.json"


def _newest(folder: ResultsFolder) -> tuple[int, dict[str, Any] | None]:
    """The highest fencing number and who took it; what cannot be read was left by a power cut, and holds nothing."""
    names = [name for name in folder.names("lease") if Path(name).stem.isdigit()]
    if not names:
        return 0, None
    number = int(Path(names[-1]).stem)
    nobody = dict.fromkeys(_KINDS) | {"host": "unknown", "pid": 0, "since": 0.0, "renewals": 0, "released": True}
    try:
        found = json.loads(folder.read(f"lease/{names[-1]}") or b"")
        read = {key: found[key] for key, kind in _KINDS.items() if isinstance(found.get(key), kind)}
    except (ValueError, AttributeError, RecursionError):
        return number, nobody
    return number, nobody | {"released": False} | read


_KINDS = {
    "host": str, "pid": int, "process": str, "token": str, "since": float, "renewals": int, "released": bool,
}  # fmt: skip


def _alive(folder: ResultsFolder, number: int, holder: dict[str, Any], say: Callable[[str], None]) -> bool:
    if holder["released"]:
        return False
    if holder["host"] == socket.gethostname():
        return holder["process"] is not None and _process_start(holder["pid"]) == holder["process"]
    began, told = time.monotonic(), False
    while True:
        found, now = _newest(folder)
        if found != number or now is None or now["renewals"] != holder["renewals"] or now["released"]:
            return now is not None and not now["released"]
        try:
            age = folder.age(_name(number))
        except FileNotFoundError:
            continue
        if age >= EXPIRES or (age < 0 and time.monotonic() - began > 2.5 * RENEW):  # the storage's clock was set back
            return False
        if not told:
            told = True
            say(
                f"{folder.url}: held by a sweep that may be dead ({_who(holder)}): "
                f"waiting until it renews its lease or that expires, {EXPIRES - max(age, 0):.0f} s at most"
            )
        time.sleep(RENEW / 10)


def _process_start(pid: int) -> str | None:
    """When a process of this host started, with the boot it belongs to; None where there is no such process.

    On Linux by the kernel's own count since boot. psutil's time, which is taken elsewhere, moves when the machine's
    clock is set, and a driver that runs would be taken for dead.
    """
    if not Path("/proc/self").exists():
        return _started(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None
    return None if stat[0] == "Z" else f"{boot} {stat[19]}"


def _started(pid: int) -> str | None:
    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def _who(holder: dict[str, Any]) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
    return f"host {holder['host']}, pid {holder['pid']}, since {since}"
