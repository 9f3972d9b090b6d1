"""One driver at a time writes a results folder.

Each driver that opens the folder takes the next fencing number by creating `lease/<number>.json`, which only one can
do. It holds the folder until it releases it, until its process is gone (same host), or until it has not renewed for
`EXPIRES` seconds (another host). A driver that was overtaken finds a higher number before its next write, and stops.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from resnetlab.errors import FolderRefused
from resnetlab.tables.folder import Folder

EXPIRES = 60.0
RENEW = 10.0


class Lease:
    """The right to write `folder`. Raises FolderRefused, naming the holder, where another driver has it."""

    def __init__(self, folder: Folder):
        self._folder = folder
        self._since = time.time()
        while True:
            number, holder = _newest(folder)
            if holder is not None and _alive(holder):
                raise FolderRefused(
                    f"{folder.url}: held by another sweep (host {holder['host']}, pid {holder['pid']}, "
                    f"since {_when(holder['since'])}); wait for it, or stop it, then run again"
                )
            self.fence = number + 1
            self._renewed = time.time()
            if folder.create(self._name(self.fence), self._content(released=False)):
                break
        for old in folder.names("lease"):
            if old != Path(self._name(self.fence)).name:
                folder.delete(f"lease/{old}")

    @staticmethod
    def _name(fence: int) -> str:
        return f"lease/{fence:06d}.json"

    def _content(self, released: bool) -> bytes:
        content = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process": _process_start(os.getpid()),
            "since": self._since,
            "renewed": self._renewed,
            "released": released,
        }
        return json.dumps(content).encode()

    def check(self) -> None:
        """Renew from time to time; raise FolderRefused where another driver has taken over."""
        number, holder = _newest(self._folder)
        if number > self.fence or holder is None:
            by = f" by host {holder['host']}, pid {holder['pid']}" if holder else ""
            raise FolderRefused(f"{self._folder.url}: taken over{by}; this sweep stops")
        if time.time() - self._renewed > RENEW:
            self._renewed = time.time()
            self._folder.write(self._name(self.fence), self._content(released=False))

    def release(self) -> None:
        self._folder.write(self._name(self.fence), self._content(released=True))


def _newest(folder: Folder) -> tuple[int, dict[str, Any] | None]:
    names = folder.names("lease")
    if not names:
        return 0, None
    number = int(Path(names[-1]).stem)
    try:
        return number, json.loads(folder.read(f"lease/{names[-1]}") or b"")
    except ValueError:
        return number, {"host": "unknown", "pid": 0, "process": None, "since": 0.0, "renewed": 0.0, "released": True}


def _alive(holder: dict[str, Any]) -> bool:
    if holder["released"]:
        return False
    if holder["host"] == socket.gethostname():
        return holder["process"] is not None and _process_start(holder["pid"]) == holder["process"]
    return time.time() - holder["renewed"] < EXPIRES


def _process_start(pid: int) -> str | None:
    """When a process of this host started, with the boot it belongs to; None where there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return _exists(pid)
    return None if stat[0] == "Z" else f"{boot} {stat[19]}"


def _exists(pid: int) -> str | None:
    if Path("/proc/self").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return str(pid)
    return str(pid)


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
