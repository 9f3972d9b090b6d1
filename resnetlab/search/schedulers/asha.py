"""Asynchronous successive halving (ASHA, Li et al. 2020), as Ray Tune decides it, with every decision kept as a row.

A trial that reaches a rung is compared with the (1 - 1/reduction_factor) quantile of what was recorded there before it,
and stopped if it lies below. The difference from Ray's `ASHAScheduler(brackets=1)`: the decision is returned whole
(epoch, value, cutoff, number recorded, decision), the rungs can be rebuilt from those rows, trials can be exempt (the
audit), and a trial that skipped a rung does not fill it with a later score.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from resnetlab.builtin import Settings, StoppingRule, need
from resnetlab.search.rule import Decision
from resnetlab.wording import plural

if TYPE_CHECKING:
    from resnetlab.search.rule import Values


class Asha:
    """One bracket of ASHA over `rung_epochs(grace_period, reduction_factor, epochs)`.

    sign: 1 where larger values are better, -1 where smaller ones are.
    """

    def __init__(self, grace_period: int, reduction_factor: int, epochs: int, sign: int = 1):
        self._sign = sign
        self.reduction_factor = reduction_factor
        self.epochs = rung_epochs(grace_period, reduction_factor, epochs)
        self._recorded: list[dict[str, float]] = [{} for _ in self.epochs]
        self._ordered: list[list[float]] = [[] for _ in self.epochs]  # the same values, sorted

    def report(self, trial_id: str, epoch: int, value: float, exempt: bool = False) -> Decision | None:
        """Record `value` if `epoch` is a rung that this trial has not been recorded at; None elsewhere."""
        if epoch not in self.epochs:
            return None
        rung = self.epochs.index(epoch)
        recorded = self._recorded[rung]
        if trial_id in recorded:
            return None
        cutoff = _quantile(self._ordered[rung], 1 - 1 / self.reduction_factor) if recorded else None
        below = cutoff is not None and self._sign * value < cutoff
        decision = "continue" if not below else "exempt" if exempt else "stop"
        reached = None if cutoff is None else self._sign * cutoff
        row = Decision(rung, epoch, float(value), reached, len(recorded), decision)
        self._record(rung, trial_id, float(value))
        return row

    def _record(self, rung: int, trial_id: str, value: float) -> None:
        self._recorded[rung][trial_id] = value
        insort(self._ordered[rung], self._sign * value)

    def replay(self, rows: Iterable[dict[str, Any]], values: Values | None = None) -> None:
        """Rebuild the rungs from recorded rows (`trial_id`, `rung`, `value`) alone; nothing is decided again."""
        for row in rows:
            if row["rung"] < len(self._recorded) and row["trial_id"] not in self._recorded[row["rung"]]:
                self._record(row["rung"], row["trial_id"], row["value"])


def _quantile(ordered: list[float], share: float) -> float:
    """What `np.percentile(ordered, 100 * share)` gives, to the last bit, without looking at more than two of them.

    Ray's ASHA asks NumPy, which divides its percent by 100 again: that may change the last bit of `share`.
    """
    percent = share * 100
    place = percent / 100 * (len(ordered) - 1)
    lower = int(place)
    a, b = ordered[lower], ordered[min(lower + 1, len(ordered) - 1)]
    part = place - lower
    return b - (b - a) * (1 - part) if part >= 0.5 else a + (b - a) * part


def rung_epochs(grace_period: int, reduction_factor: int, epochs: int) -> list[int]:
    """The epochs at which ASHA decides: `grace_period`, then `reduction_factor` times the one before, below
    `epochs` (at `epochs` a trial is complete)."""
    rungs, epoch = [], grace_period
    while epoch < epochs:
        rungs.append(epoch)
        epoch *= reduction_factor
    return rungs


def asha(
    epochs: int,
    sign: int,
    *,
    grace_period: Annotated[int, Field(ge=1, description="epochs before a trial can be stopped")] = 1,
    reduction_factor: Annotated[int, Field(ge=2, le=100, description="one in so many goes on at each rung")] = 3,
) -> Asha:
    return Asha(grace_period, reduction_factor, epochs, sign)


def rungs(settings: Settings) -> list[int]:
    """`rung_epochs` of a study's settings."""
    return rung_epochs(settings["grace_period"], settings["reduction_factor"], settings["epochs"])


def limits(settings: Settings) -> None:
    allowed = settings["grace_period"] <= settings["epochs"]
    need(allowed, "grace_period <= epochs", settings, "grace_period", "epochs")


def words(settings: Settings) -> str:
    grace, factor = settings["grace_period"], settings["reduction_factor"]
    return f"ASHA with a grace period of {plural(grace, 'epoch')} and a reduction factor of {factor}"


PARTS = (
    StoppingRule(
        "asha",
        asha,
        limits,
        decides=rungs,
        words=words,
        keeps=lambda settings: 1 / settings["reduction_factor"],
    ),
)
