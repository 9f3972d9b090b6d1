"""Decide how many trials share a GPU (`--gpus-per-trial auto`), from measurements on one GPU before the first trial.

A probe runs trials side by side for a few steps and measures them: first one alone, then twice as many each time, as
long as they fit the memory, the GPU was not busy all the time, and the last doubling raised the throughput enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from resnetlab.errors import BadRequest

FREE_SHARE = 0.05  # of a GPU's memory, left free
MEMORY_MARGIN = 1.2  # factor by which a trial's memory may exceed what was measured
MIN_SPEEDUP = 1.1  # factor by which a doubling must raise the throughput
BUSY = 0.95  # utilisation from which on more trials are not tried
MAX_TRIALS = 32  # on one GPU


@dataclass(frozen=True)
class Measurement:
    """What a probe measured of `trials` trials side by side.

    rate: training images/s of all together. memory: most GPU memory that a process held, in bytes, with its CUDA
    context; total: bytes of the GPU; used: bytes that other processes held before. utilisation: share of the time in
    which the GPU was busy; None if NVML does not report it.
    """

    trials: int
    rate: float
    memory: int
    total: int
    used: int = 0
    utilisation: float | None = None


@dataclass(frozen=True)
class Share:
    """How many trials share a GPU, and why."""

    trials: int
    reason: str

    @property
    def gpus(self) -> float:
        """GPUs that a trial requests from Ray, which counts in ten thousandths."""
        return (10_000 // self.trials) / 10_000


class Probe(Protocol):
    """Runs `trials` trials side by side on one GPU."""

    def __call__(self, trials: int) -> Measurement: ...


def fits(measured: Measurement) -> int:
    """How many trials fit in the GPU's memory."""
    room = measured.total * (1 - FREE_SHARE) - measured.used
    return max(0, int(room / (measured.memory * MEMORY_MARGIN)))


def following(measurements: Sequence[Measurement], most: int) -> int:
    """How many trials to try next, 0 to stop. most: trials per GPU that there are CPUs for."""
    last, limit = measurements[-1], min(most, MAX_TRIALS, *map(fits, measurements))
    if last.trials >= limit or (last.utilisation is not None and last.utilisation >= BUSY):
        return 0
    if len(measurements) > 1 and not _worth(measurements[-2], last):
        return 0
    return min(2 * last.trials, limit)


def _worth(before: Measurement, after: Measurement) -> bool:
    """True if the step raised the throughput enough: MIN_SPEEDUP times for a doubling, in proportion for less."""
    return after.rate / before.rate >= 1 + (MIN_SPEEDUP - 1) * (after.trials / before.trials - 1)


def decide(measurements: Sequence[Measurement], most: int) -> Share:
    """Choose from measurements of 1, 2, 4, … trials. BadRequest if not even one fits in the memory."""
    alone = measurements[0]
    room = fits(alone)
    if alone.memory > alone.total - alone.used:
        raise BadRequest(
            f"resources.gpus: auto: a trial needs {_gib(alone.memory)} of a GPU that has "
            f"{_gib(alone.total - alone.used)} free"
        )
    chosen = alone
    for candidate in measurements[1:]:
        if not _worth(chosen, candidate) or fits(candidate) < candidate.trials:
            break
        chosen = candidate
    return Share(chosen.trials, _reason(chosen, measurements, room, most))


def _reason(chosen: Measurement, measurements: Sequence[Measurement], room: int, most: int) -> str:
    alone, last = measurements[0], measurements[-1]
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
    elif chosen.trials < MAX_TRIALS:
        facts.append("which leaves nothing to gain")
    return ", ".join(facts)


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def measure(probe: Probe, most: int) -> tuple[Share, list[Measurement]]:
    """Measure 1, 2, 4, … trials and decide. most: trials per GPU that there are CPUs for."""
    measurements = [probe(1)]
    while (trials := following(measurements, most)) > 0:
        measurements.append(probe(trials))
    return decide(measurements, most), measurements


def record(share: Share, measurements: Sequence[Measurement]) -> dict[str, Any]:
    """The decision as sweep.json holds it."""
    return asdict(share) | {"gpus": share.gpus, "seen": [asdict(measured) for measured in measurements]}


def cpus_for(nodes: Sequence[dict[str, Any]], cpus: float) -> int:
    """Trials per GPU that there are CPUs for, on the node with the most CPUs per GPU. BadRequest if no node has a GPU.

    cpus: of a trial.
    """
    per_gpu = [
        node["Resources"].get("CPU", 0.0) / cpus / node["Resources"]["GPU"]
        for node in nodes
        if node["Alive"] and node["Resources"].get("GPU")
    ]
    if not per_gpu:
        raise BadRequest("resources.gpus: auto: no node has a GPU (allowed: 0, or a cluster with GPUs)")
    return max(1, int(max(per_gpu) + 1e-9))
