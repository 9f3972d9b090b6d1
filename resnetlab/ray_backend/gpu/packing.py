"""How many trials share a GPU: `--gpus-per-trial auto`. Measured on one GPU before the first trial, then decided.

A rig runs some trials side by side for a few steps and says what it saw. First one alone; then twice as many, as long
as they fit the memory, the GPU was not busy all the time, and the last doubling was worth it. The decision is made from
the numbers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from resnetlab.errors import BadRequest

RESERVE = 0.05  # of a GPU's memory that is left free
MARGIN = 1.2  # by which a trial's memory may exceed what was measured
GAIN = 1.1  # what a doubling must multiply the throughput by
BUSY = 0.95  # share of the time above which a GPU has nothing left to give
MOST = 32  # trials on one GPU


@dataclass(frozen=True)
class Seen:
    """What a rig saw of `trials` side by side.

    rate: training images/s of all together. memory: bytes of the GPU that the largest process held at most, its CUDA
    context included; total: bytes of the GPU, used: bytes of it that others held before. utilisation: share of the time
    in which the GPU was busy; None where nothing tells.
    """

    trials: int
    rate: float
    memory: int
    total: int
    used: int = 0
    utilisation: float | None = None


@dataclass(frozen=True)
class Share:
    """How many trials are put on a GPU, and why."""

    trials: int
    reason: str

    @property
    def gpus(self) -> float:
        """What a trial asks Ray for, which counts in ten thousandths of a GPU."""
        return (10_000 // self.trials) / 10_000


class Rig(Protocol):
    """Runs `trials` trials side by side on one GPU."""

    def __call__(self, trials: int) -> Seen: ...


def fits(seen: Seen) -> int:
    """Trials that the memory holds, 0 where not even one."""
    room = seen.total * (1 - RESERVE) - seen.used
    return max(0, int(room / (seen.memory * MARGIN)))


def following(seen: Sequence[Seen], most: int) -> int:
    """How many trials to try next, 0 where enough is known. most: for which a GPU has CPUs."""
    last, limit = seen[-1], min(most, MOST, *(fits(one) for one in seen))
    if last.trials >= limit or (last.utilisation is not None and last.utilisation >= BUSY):
        return 0
    if len(seen) > 1 and not _worth(seen[-2], last):
        return 0
    return min(2 * last.trials, limit)


def _worth(before: Seen, after: Seen) -> bool:
    """True where going from `before` to `after` added throughput; less is asked of less than a doubling."""
    return after.rate / before.rate >= 1 + (GAIN - 1) * (after.trials / before.trials - 1)


def decide(seen: Sequence[Seen], most: int) -> Share:
    """From what was seen of 1, 2, 4, … trials side by side. BadRequest where not even one fits the memory."""
    alone = seen[0]
    room = fits(alone)
    if alone.memory > alone.total - alone.used:
        raise BadRequest(
            f"resources.gpus: auto: a trial needs {_gib(alone.memory)} of a GPU that has "
            f"{_gib(alone.total - alone.used)} free"
        )
    chosen = alone
    for one in seen[1:]:
        if not _worth(chosen, one) or fits(one) < one.trials:
            break
        chosen = one
    return Share(chosen.trials, _why(chosen, seen, room, most))


def _why(chosen: Seen, seen: Sequence[Seen], room: int, most: int) -> str:
    alone, last = seen[0], seen[-1]
    facts = [f"one alone holds {_gib(alone.memory)} of {_gib(alone.total)}"]
    if alone.utilisation is not None:
        facts.append(f"keeps the GPU busy for {alone.utilisation:.0%} of the time")
    if chosen is not alone:
        facts.append(f"{chosen.trials} together are {chosen.rate / alone.rate:.2f} times as fast")
    if chosen is not last:
        facts.append(f"{last.trials} together only {last.rate / alone.rate:.2f} times")
    elif room <= chosen.trials:
        facts.append("no more fit the memory")
    elif most <= chosen.trials:
        facts.append("there are CPUs for no more")
    elif chosen.trials < MOST:
        facts.append("which leaves nothing to gain")
    return ", ".join(facts)


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def measure(rig: Rig, most: int) -> tuple[Share, list[Seen]]:
    """Try 1, 2, 4, … trials on the rig and decide. most: for which a GPU has CPUs."""
    seen = [rig(1)]
    while (trials := following(seen, most)) > 0:
        seen.append(rig(trials))
    return decide(seen, most), seen


def record(share: Share, seen: Sequence[Seen]) -> dict[str, Any]:
    """For sweep.json."""
    return {"trials": share.trials, "gpus": share.gpus, "reason": share.reason, "seen": [asdict(one) for one in seen]}


def cpus_for(nodes: Sequence[dict[str, Any]], cpus: float) -> int:
    """Trials a GPU for which the GPU node with the most CPUs a GPU has CPUs. BadRequest where no node has a GPU."""
    found = [
        node["Resources"].get("CPU", 0.0) / cpus / node["Resources"]["GPU"]
        for node in nodes
        if node["Alive"] and node["Resources"].get("GPU")
    ]
    if not found:
        raise BadRequest("resources.gpus: auto: no node has a GPU (allowed: 0, or a cluster with GPUs)")
    return max(1, int(max(found) + 1e-9))
