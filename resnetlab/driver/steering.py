"""What may stop a sweep from running trials, looked at before each step: requests of its users, and other sweeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from resnetlab.commands import command, short
from resnetlab.errors import Stopped
from resnetlab.ray_backend.capacity import Capacity
from resnetlab.storage.control import Request, Requests
from resnetlab.study.records import Status
from resnetlab.sweep.state_machine import Sweep
from resnetlab.wording import plural

if TYPE_CHECKING:
    from resnetlab.ray_backend.sharing import Sharing


class Steering:
    """Sets what `capacity` allows and what `sweep` says of it. A context manager, around the run.

    hint: says how to continue a sweep that was stopped. sharing: with other sweeps on the cluster; None on a Ray of the
    sweep's own.
    """

    def __init__(self, sweep: Sweep, capacity: Capacity, hint: Callable[[], str], sharing: Sharing | None = None):
        self._sweep, self._capacity, self._hint, self._sharing = sweep, capacity, hint, sharing
        self._requests = Requests(sweep.store.folder, sweep.store.lease.fence)
        self._paused_at: float | None = None
        self._paused_before = 0.0

    def __enter__(self) -> Steering:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sharing is not None:
            self._sharing.leave()

    def tick(self) -> None:
        """Call before each step. Raises Stopped once no trial trains any more, if the sweep was asked to stop."""
        self._obey(self._requests.read())
        if self._sharing is not None:
            self._share(self._sharing)
        self._sweep.waits_for = "" if self._capacity.held else self._capacity.waited_for()

    @property
    def paused_seconds(self) -> float:
        """How long this run has been paused so far."""
        now = 0.0 if self._paused_at is None else time.monotonic() - self._paused_at
        return self._paused_before + now

    def _obey(self, request: Request | None) -> None:
        sweep, asked = self._sweep, request.what if request is not None else ""
        self._capacity.held = request is not None
        if request is not None and asked != sweep.asked:
            sweep.notes.append(f"asked to {asked} ({_who(request)}): trials end after the epoch that they train")
        elif request is None and sweep.asked:
            sweep.notes.append("resumed")
        was, sweep.asked = sweep.paused, asked
        if sweep.paused and self._paused_at is None:
            self._paused_at = time.monotonic()
            sweep.store.flush()
            place = short(sweep.store.folder.place)
            sweep.notes.append(f"paused; continue with: {command('resume', place)}")
        elif was and not sweep.paused:
            self._paused_before, self._paused_at = self.paused_seconds, None
        if request is not None and asked == "stop" and not sweep.with_workers:
            self._requests.clear()
            raise Stopped(f"interrupted by resnetlab stop ({_who(request)}); {self._hint()}")

    def _share(self, sharing: Sharing) -> None:
        capacity = self._capacity
        sharing.update(capacity.room, len(self._sweep.with_workers), self._wants)
        capacity.share = sharing.share
        holders = [f"{one.who} runs {plural(one.running, 'trial')}" for one in sharing.others if one.running]
        own = [f"the share of this one is {capacity.share} of {capacity.room}"] if capacity.share is not None else []
        self._sweep.shared = capacity.others = "; ".join([*holders, *own]) if holders else ""

    def _wants(self) -> int:
        """How many trials could run now."""
        if self._capacity.held:
            return 0
        ended = sum(number for status, number in self._sweep.counts().items() if Status(status).ended)
        return max(1, min(self._capacity.slots, self._sweep.progress.planned - ended))


def _who(request: Request) -> str:
    return f"host {request.host}, pid {request.pid}"
