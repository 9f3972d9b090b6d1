"""The median rule (Golovin et al. 2017, Google Vizier), as Ray Tune decides it, with every decision kept as a row.

A trial stops where the best that it has reached is below the median of the others' running means up to the same epoch,
from `grace_period` on. It asks after every epoch: a trial that starts slowly is compared with what others had on
average until then, not with what the best of them have now.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from resnetlab.builtin import Settings, StoppingRule, need
from resnetlab.search.rule import Decision

if TYPE_CHECKING:
    from resnetlab.search.rule import Values


class Median:
    """sign: 1 where larger values are better, -1 where smaller ones are. Means begin at `grace_period`, as Ray's do."""

    def __init__(
        self,
        epochs: int,
        sign: int,
        *,
        grace_period: Annotated[int, Field(ge=1, description="epochs before a trial can be stopped")] = 1,
        min_samples: Annotated[
            int, Field(ge=1, le=10_000, description="median: other trials that must have come as far")
        ] = 3,
    ) -> None:
        self._epochs, self._sign = epochs, sign
        self._grace, self._least = grace_period, min_samples
        self._best: dict[str, float] = {}
        self._sums: dict[str, tuple[int, float]] = {}  # of each trial: its last epoch, the sum from the grace period on
        self._means: dict[int, list[float]] = {}  # by epoch, of all trials that came so far, sorted

    def report(self, trial_id: str, epoch: int, value: float, exempt: bool = False) -> Decision | None:
        """Record `value` if `epoch` is new for this trial; None before the grace period and at the full budget."""
        if epoch <= self._sums.get(trial_id, (0, 0.0))[0]:
            return None
        others = self._means.get(epoch, [])
        cutoff, count = _median(others) if len(others) >= self._least else None, len(others)
        self._record(trial_id, epoch, self._sign * value)
        if not self._grace <= epoch < self._epochs:
            return None
        below = cutoff is not None and self._best[trial_id] < cutoff
        decision = "continue" if not below else "exempt" if exempt else "stop"
        reached = None if cutoff is None else self._sign * cutoff
        return Decision(epoch - self._grace, epoch, float(value), reached, count, decision)

    def _record(self, trial_id: str, epoch: int, value: float) -> None:
        self._best[trial_id] = max(value, self._best.get(trial_id, value))
        total = self._sums.get(trial_id, (0, 0.0))[1] + (value if epoch >= self._grace else 0.0)
        self._sums[trial_id] = epoch, total
        mean = total / max(1, epoch - self._grace + 1)
        if epoch >= self._grace and isfinite(mean):
            insort(self._means.setdefault(epoch, []), mean)

    def replay(self, rows: Iterable[dict[str, Any]], values: Values) -> None:
        """Take up all values: what was decided does not change what will be."""
        for trial_id, found in values.items():
            for epoch, value in sorted(found):
                if epoch > self._sums.get(trial_id, (0, 0.0))[0]:
                    self._record(trial_id, epoch, self._sign * value)


def _median(ordered: list[float]) -> float:
    """Of a sorted list."""
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def limits(settings: Settings) -> None:
    need(settings["grace_period"] <= settings["epochs"], "grace_period <= epochs", settings, "grace_period", "epochs")


def words(settings: Settings) -> str:
    return (
        f"The median rule from epoch {settings['grace_period']} on, where {settings['min_samples']} others came as far"
    )


PARTS = (
    StoppingRule(
        "median",
        Median,
        limits,
        decides=lambda settings: list(range(settings["grace_period"], settings["epochs"])),
        words=words,
    ),
)
