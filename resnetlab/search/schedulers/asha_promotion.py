"""ASHA as it was published (Li et al. 2020, Algorithm 2): a trial waits at each rung until it is promoted.

Where a slot is free, the best trial of the highest rung goes on that is in the first 1/reduction_factor of those that
have come to its rung; where there is none, a new one is proposed. `asha` decides once, when a trial arrives, and may
let early ones pass that would not pass later; here none is stopped too soon, at the price of trials that pause and go
on from their checkpoints. What was never promoted is stopped once nothing else is left to explore.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from resnetlab.builtin import Settings, StoppingRule
from resnetlab.search.rule import PAUSE, Decision
from resnetlab.search.schedulers import asha
from resnetlab.search.schedulers.asha import rung_epochs, rungs

if TYPE_CHECKING:
    from resnetlab.search.rule import Values


class Promotion:
    """sign: 1 where larger values are better, -1 where smaller ones are. Of equal values the lower trial id is first,
    so that a continued sweep promotes as an uninterrupted one would."""

    def __init__(self, grace_period: int, reduction_factor: int, epochs: int, sign: int = 1):
        self._sign, self._factor = sign, reduction_factor
        self.epochs = rung_epochs(grace_period, reduction_factor, epochs)
        self._recorded: list[dict[str, float]] = [{} for _ in self.epochs]
        self._ranked: list[list[tuple[float, str]]] = [[] for _ in self.epochs]  # the same, the best first
        self._settled: list[set[str]] = [set() for _ in self.epochs]  # that have their decision

    def report(self, trial_id: str, epoch: int, value: float, exempt: bool = False) -> Decision | None:
        """Record `value` at a rung; the trial pauses there unless it is exempt, or was promoted before."""
        if epoch not in self.epochs:
            return None
        rung = self.epochs.index(epoch)
        here = self._recorded[rung]
        if trial_id not in here:
            self._record(rung, trial_id, float(value))
        if exempt or trial_id in self._settled[rung]:
            return None
        return Decision(rung, epoch, here[trial_id], None, len(here) - 1, PAUSE)

    def promote(self, drained: bool = False) -> tuple[str, Decision] | None:
        """The next trial that goes on, whether it pauses or was exempt.

        drained: nothing runs, and nothing will be proposed: the best of a rung goes on even where fewer than
        reduction_factor have come to it, so that some trial reaches the full budget.
        """
        for rung in reversed(range(len(self.epochs))):
            ranked = self._ranked[rung]
            count = max(len(ranked) // self._factor, int(drained))
            for _, trial_id in ranked[:count]:
                if trial_id not in self._settled[rung]:
                    self._settled[rung].add(trial_id)
                    return trial_id, self._decision(rung, trial_id, "continue")
        return None

    def left(self, exempt: Collection[str]) -> list[tuple[str, Decision]]:
        """The end of all that was not promoted: `stop`, or `exempt`."""
        found = []
        for rung in range(len(self.epochs)):
            for _, trial_id in self._ranked[rung]:
                if trial_id not in self._settled[rung]:
                    self._settled[rung].add(trial_id)
                    said = "exempt" if trial_id in exempt else "stop"
                    found.append((trial_id, self._decision(rung, trial_id, said)))
        return found

    def pauses(self, trial_id: str) -> bool:
        """Whether the trial has come to a rung that has not let it go on yet."""
        return any(
            trial_id in here and trial_id not in settled
            for here, settled in zip(self._recorded, self._settled, strict=True)
        )

    def _record(self, rung: int, trial_id: str, value: float) -> None:
        self._recorded[rung][trial_id] = value
        insort(self._ranked[rung], (-self._sign * value, trial_id))

    def _decision(self, rung: int, trial_id: str, decision: str) -> Decision:
        """cutoff: the worst value that would be promoted now."""
        here, ranked = self._recorded[rung], self._ranked[rung]
        cutoff = here[ranked[max(len(ranked) // self._factor, 1) - 1][1]]
        return Decision(rung, self.epochs[rung], here[trial_id], cutoff, len(here) - 1, decision)

    def replay(self, rows: Iterable[dict[str, Any]], values: Values) -> None:
        for trial_id, found in values.items():
            for epoch, value in found:
                if epoch in self.epochs:
                    self._record(self.epochs.index(epoch), trial_id, float(value))
        for row in rows:
            self._settled[row["rung"]].add(row["trial_id"])


def promotion(
    epochs: int,
    sign: int,
    *,
    grace_period: Annotated[int, Field(ge=1, description="epochs before a trial can be stopped")] = 1,
    reduction_factor: Annotated[int, Field(ge=2, le=100, description="one in so many goes on at each rung")] = 3,
) -> Promotion:
    return Promotion(grace_period, reduction_factor, epochs, sign)


def words(settings: Settings) -> str:
    return f"{asha.words(settings)}, whose trials wait to be promoted"


PARTS = (
    StoppingRule(
        "asha-promotion",
        promotion,
        asha.limits,
        decides=rungs,
        words=words,
        keeps=lambda settings: 1 / settings["reduction_factor"],
    ),
)
