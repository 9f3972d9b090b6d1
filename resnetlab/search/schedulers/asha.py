"""Asynchronous successive halving (ASHA, Li et al. 2020), as Ray Tune decides it, with every decision kept as a row.

A trial that reaches a rung is compared with the (1 - 1/reduction_factor) quantile of what was recorded there before it,
and stopped if it lies below. The difference from Ray's `ASHAScheduler(brackets=1)`: the decision is returned whole
(epoch, value, cutoff, number recorded, decision), the rungs can be rebuilt from those rows, trials can be exempt (the
audit), and a trial that skipped a rung does not fill it with a later score.
"""

from bisect import insort
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from resnetlab.study.rungs import rung_epochs


@dataclass(frozen=True)
class RungDecision:
    """What ASHA saw and said when one trial reached one rung.

    value: the metric. cutoff: what it had to reach, None for the first arrival.
    recorded: how many trials had been recorded at this rung before. decision: `continue`, `stop`, or `exempt` where
    the trial would have been stopped but is in the audit.
    """

    rung: int
    epoch: int
    value: float
    cutoff: float | None
    recorded: int
    decision: str

    def as_row(self) -> dict[str, Any]:
        return asdict(self)


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

    def report(self, trial_id: str, epoch: int, value: float, exempt: bool = False) -> RungDecision | None:
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
        row = RungDecision(rung, epoch, float(value), reached, len(recorded), decision)
        self._record(rung, trial_id, float(value))
        return row

    def _record(self, rung: int, trial_id: str, value: float) -> None:
        self._recorded[rung][trial_id] = value
        insort(self._ordered[rung], self._sign * value)

    def replay(self, rows: Iterable[dict[str, Any]]) -> None:
        """Rebuild the rungs from recorded rows (`trial_id`, `rung`, `value`); nothing is decided again."""
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
