"""Rising bandits (Li et al. 2020, AAAI, arXiv:2012.04371): a trial stops where it cannot overtake any more.

Learning curves rise, and rise ever more slowly. So what a trial has is the least that it will end with, and a straight
line on from its last epochs is the most. It stops where this most is no better than what another trial has already. A
trial that starts slowly and climbs steeply goes on, however far behind it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from resnetlab.builtin import Settings, StoppingRule, need
from resnetlab.search.rule import Decision
from resnetlab.wording import plural

if TYPE_CHECKING:
    from resnetlab.search.rule import Values


class Rising:
    """sign: 1 where larger values are better, -1 where smaller ones are.

    window: epochs over which the slope is taken (C in the paper). A longer one is smoother, and steeper, as the curve
    was: it stops later. `cutoff` of a row is the value that the trial would have to have, at its slope, to go on.
    """

    def __init__(
        self,
        epochs: int,
        sign: int,
        *,
        grace_period: Annotated[int, Field(ge=1, description="epochs before a trial can be stopped")] = 1,
        window: Annotated[int, Field(ge=1, le=1000, description="rising: epochs over which a slope is taken")] = 2,
    ) -> None:
        self._epochs, self._sign = epochs, sign
        self._first, self._window = first_decision(grace_period, window), window
        self._seen: dict[str, list[float]] = {}
        self._leaders: list[tuple[float, str]] = []  # the best that any trial has had; of the two best trials

    def report(self, trial_id: str, epoch: int, value: float, exempt: bool = False) -> Decision | None:
        """Record `value` if `epoch` is the trial's next; None before there is a slope, and at the full budget."""
        curve = self._seen.setdefault(trial_id, [])
        if epoch != len(curve) + 1:
            return None
        self._record(trial_id, self._sign * value)
        if not self._first <= epoch < self._epochs:
            return None
        slope = max(0.0, (curve[-1] - curve[-1 - self._window]) / self._window)
        best = next((found for found, name in self._leaders if name != trial_id), None)
        cutoff = None if best is None else best - slope * (self._epochs - epoch)
        below = cutoff is not None and curve[-1] <= cutoff
        decision = "continue" if not below else "exempt" if exempt else "stop"
        others = len(self._seen) - 1
        reached = None if cutoff is None else self._sign * cutoff
        return Decision(epoch - self._first, epoch, float(value), reached, others, decision)

    def _record(self, trial_id: str, value: float) -> None:
        self._seen.setdefault(trial_id, []).append(value)
        held = {name: found for found, name in self._leaders}
        held[trial_id] = max(value, held.get(trial_id, value))
        self._leaders = sorted(((found, name) for name, found in held.items()), reverse=True)[:2]

    def replay(self, rows: Iterable[dict[str, Any]], values: Values) -> None:
        """Take up all values: what was decided does not change what will be."""
        for trial_id, found in values.items():
            for epoch, value in sorted(found):
                if epoch == len(self._seen.get(trial_id, ())) + 1:
                    self._record(trial_id, self._sign * value)


def first_decision(grace_period: int, window: int) -> int:
    """The first epoch at which there is a slope, and the grace period is over."""
    return max(grace_period, window + 1)


def limits(settings: Settings) -> None:
    need(settings["grace_period"] <= settings["epochs"], "grace_period <= epochs", settings, "grace_period", "epochs")
    need(settings["window"] + 1 < settings["epochs"], "window + 1 < epochs", settings, "window", "epochs")


def words(settings: Settings) -> str:
    window = settings["window"]
    return f"Rising bandits with slopes over {plural(window, 'epoch')}"


PARTS = (
    StoppingRule(
        "rising",
        Rising,
        limits,
        decides=lambda settings: list(
            range(first_decision(settings["grace_period"], settings["window"]), settings["epochs"])
        ),
        words=words,
    ),
)
