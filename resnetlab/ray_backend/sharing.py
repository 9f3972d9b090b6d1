"""Sweeps that share a Ray cluster: each knows the others, and takes no more than its share while they want theirs.

Ray knows nothing of sweeps, and a worker of Tune runs trial after trial, so that a sweep that came first would keep the
whole cluster to its end. Each driver therefore writes on a board, a named actor in the cluster that needs no CPU, how
many trials it has room for, wants and runs. From what stands there each works out the share of every sweep, by the same
rule (`shares`). A sweep that runs more than its share hands trials back after the epoch that they train.

The board ends with the driver that asked for it first; the others then ask for a new one and write on it again. What a
driver wrote that has been silent for `EXPIRES` seconds does not count.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from resnetlab.wording import plural

NAME, NAMESPACE = "resnetlab-sweeps-1", "resnetlab"  # the number is the version of what stands on the board
BEAT = 2.0  # seconds between two entries of a driver
EXPIRES = 20.0
SETTLED = 3 * BEAT  # age of a board on which all drivers have written
FIRST_ANSWER = 30.0  # seconds that a driver waits for a board before its first trial
TURN = 300.0  # seconds: of a turn, where there are more sweeps than places; without a worker, before others make room


@dataclass(frozen=True)
class Entry:
    """What a sweep says of itself. room: how many of its trials fit on the whole cluster; wants: how many it could run
    now; running: how many have a worker. starved: it has had none for long, though others keep to their shares."""

    study: str
    host: str
    pid: int
    room: int
    wants: int
    running: int
    starved: bool = False

    @property
    def who(self) -> str:
        return f"sweep {self.study} on host {self.host} (pid {self.pid})"


def shares(sweeps: Sequence[Entry], turn: int = 0) -> list[int]:
    """How many trials each sweep may run at once, given in the order in which they came.

    Places are given one by one: always to the sweep that wants more and has the smallest part of what fits on the
    cluster. If some sweep gets none, because there are too few, the sweep that is served first changes with `turn`.
    While sweeps are starved, because the free CPUs or GPUs are on different nodes, only the first of them gets one.
    """
    starved = next((at for at, sweep in enumerate(sweeps) if sweep.starved), None)
    if starved is not None:
        return [int(at == starved) for at in range(len(sweeps))]
    found = _served(sweeps, 0)
    if any(sweep.wants and sweep.room and not share for sweep, share in zip(sweeps, found, strict=True)):
        found = _served(sweeps, turn % len(sweeps))
    return found


def _served(sweeps: Sequence[Entry], first: int) -> list[int]:
    given, free = [0] * len(sweeps), 1.0
    line = [(first + place) % len(sweeps) for place in range(len(sweeps))]
    while wanting := [at for at in line if given[at] < sweeps[at].wants and free * sweeps[at].room > 1 - 1e-9]:
        at = min(wanting, key=lambda at: given[at] / sweeps[at].room)
        given[at] += 1
        free -= 1 / sweeps[at].room
    return given


class Board:
    """The actor: the entries of the sweeps, in the order in which they came."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._entries: dict[str, tuple[dict[str, Any], float]] = {}

    def write(self, key: str, entry: dict[str, Any] | None) -> tuple[float, dict[str, dict[str, Any]]]:
        """Set a sweep's entry (None: remove it); returns the board's age in seconds and all entries that count."""
        now = time.monotonic()
        if entry is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = entry, now
        self._entries = {key: (entry, at) for key, (entry, at) in self._entries.items() if now - at < EXPIRES}
        return now - self._began, {key: entry for key, (entry, _) in self._entries.items()}


class Sharing:
    """One driver's part in it, on the cluster that this process is connected to.

    say: gets a line when another sweep comes or goes, or if the others cannot be known.
    """

    def __init__(self, study: str, say: Callable[[str], None]):
        self._about, self._say = (study, socket.gethostname(), os.getpid()), say
        self._key = secrets.token_hex(8)
        self._board: Any = None
        self._answer: Any = None
        self._entries: dict[str, Entry] = {}  # by key, with its own, in the order in which they came
        self._shares: dict[str, int] = {}
        self._began = self._fed = time.monotonic()  # fed: when it last had a worker, or had no right to one
        self._wrote, self._starved = self._began - BEAT, False
        self._lost = "no answer"  # why there is no board; empty once that was said

    @property
    def share(self) -> int | None:
        """How many trials this sweep may run at once; None for any number, as it is alone."""
        if not self._entries:
            return 0 if time.monotonic() - self._began < FIRST_ANSWER else None
        return self._shares[self._key] if self.others and self._entries[self._key].room else None

    @property
    def others(self) -> list[Entry]:
        """The other sweeps on this cluster."""
        return [entry for key, entry in self._entries.items() if key != self._key]

    def update(self, room: int, running: int, wants: Callable[[], int]) -> None:
        """Say how this sweep stands (see Entry), and take note of the others: every `BEAT` seconds, without waiting."""
        now = time.monotonic()
        if not self._entries and self._lost and now - self._began >= FIRST_ANSWER:
            self._say(f"note: other sweeps on this cluster are not known, so it is not shared with them: {self._lost}")
            self._lost = ""
        if running or (not self._starved and (not self.share or self._others_exceed())):
            self._fed = now
        self._starved = now - self._fed > TURN
        try:
            if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
                answer, self._answer = self._answer, None
                self._take(*ray.get(answer))
            if self._answer is None and now - self._wrote >= BEAT:
                self._wrote = now
                entry = Entry(*self._about, room, wants(), running, self._starved)
                self._answer = self._asked_for().write.remote(self._key, asdict(entry))
        except (RayError, ValueError) as error:  # the driver that had asked for the board has ended
            self._board = self._answer = None
            if self._lost:
                self._lost = (str(error).strip().splitlines() or [type(error).__name__])[0]

    def _asked_for(self) -> Any:
        if self._board is None:
            actor = ray.remote(num_cpus=0)(Board)
            self._board = actor.options(name=NAME, namespace=NAMESPACE, get_if_exists=True).remote()
        return self._board

    def _take(self, age: float, found: Mapping[str, Mapping[str, Any]]) -> None:
        before = self.others
        fresh = {key: Entry(**entry) for key, entry in found.items()}
        self._entries = fresh if age > SETTLED else self._entries | fresh
        given = shares([*self._entries.values()], int(age / TURN))
        self._shares = dict(zip(self._entries, given, strict=True))
        here, were = {one.who for one in self.others}, {one.who for one in before}
        for who in sorted(here - were):
            self._say(f"{who} shares the cluster: this one runs at most {plural(self.share or 0, 'trial')} at once")
        for who in sorted(were - here):
            self._say(f"{who} has left the cluster")

    def _others_exceed(self) -> bool:
        return any(entry.running > self._shares[key] for key, entry in self._entries.items() if key != self._key)

    def leave(self) -> None:
        """Take this sweep off the board, so that the others need not wait until it is silent."""
        if self._board is not None:
            with suppress(RayError):
                ray.wait([self._board.write.remote(self._key, None)], timeout=2)
