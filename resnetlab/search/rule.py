"""What a stopping rule must offer, and what it says."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

PAUSE = "pause"  # the trial leaves its worker, and may be promoted later: see `Pausing`
Values = Mapping[str, Sequence[tuple[int, float]]]  # (epoch, value) of each trial that was searched


@dataclass(frozen=True)
class Decision:
    """What a rule saw and said when one trial reached one rung: an epoch at which it decides.

    value: the metric. cutoff: what it had to reach, None for the first arrival, and where the rule has no such number.
    recorded: how many trials had been recorded at this rung before. decision: `continue`, `stop`, `exempt` where the
    trial would have been stopped but is in the audit, or PAUSE, which is no row: the row comes when that is decided.
    """

    rung: int
    epoch: int
    value: float
    cutoff: float | None
    recorded: int
    decision: str

    def as_row(self) -> dict[str, Any]:
        return asdict(self)


class Rule(Protocol):
    """Is told the metric of each trial after each epoch, and says which trial stops."""

    def report(self, trial_id: str, epoch: int, value: float, exempt: bool = False) -> Decision | None:
        """Record `value`; None where nothing is decided at this epoch."""
        ...

    def replay(self, rows: Iterable[dict[str, Any]], values: Values) -> None:
        """Take up what was recorded: its decisions (`trial_id`, `rung`, `value`), and all values. Nothing is decided
        again."""
        ...


@runtime_checkable
class Pausing(Rule, Protocol):
    """A rule at whose rungs trials wait until one of them is promoted."""

    def promote(self, drained: bool = False) -> tuple[str, Decision] | None:
        """The next trial that goes on from its rung. drained: nothing runs, and nothing will be proposed."""
        ...

    def left(self, exempt: Collection[str]) -> list[tuple[str, Decision]]:
        """What becomes of all that still wait, or were exempt, where nothing is left to explore."""
        ...

    def pauses(self, trial_id: str) -> bool:
        """Whether the trial waits, as far as it is not exempt."""
        ...
