"""How trials ended: their number by outcome, in words, and which of them may be compared with each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from resnetlab.study.records import Status
from resnetlab.wording import plural

LOST = (Status.DIVERGED, Status.OUT_OF_MEMORY, Status.FAILED)
WORDS = {
    Status.COMPLETE: "complete",
    Status.STOPPED: "stopped early",
    Status.DIVERGED: "diverged",
    Status.OUT_OF_MEMORY: "out of memory",
    Status.FAILED: "failed",
    Status.INTERRUPTED: "interrupted",
    Status.RUNNING: "running",
    Status.WAITING: "waiting",
    Status.REPLACED: "replaced",
}


@dataclass(frozen=True)
class Counts:
    """How many trials a figure or table rests on, and how they ended."""

    by_status: Mapping[str, int]

    @classmethod
    def of(cls, trials: pd.DataFrame) -> Counts:
        found = trials["status"].value_counts()
        return cls({status: int(found.get(status, 0)) for status in Status})

    @property
    def total(self) -> int:
        return sum(self.by_status.values())

    @property
    def lost(self) -> int:
        """Trials that ended without a result: diverged, out of memory or failed."""
        return sum(self.by_status[status] for status in LOST)

    def words(self, kind: str = "explore") -> str:
        """`30 explore trials: 9 complete, 17 stopped early, 2 diverged, 2 failed`. Stopped, failed: always said.
        kind: of the trials, or empty for those of all kinds."""
        always = (
            (Status.COMPLETE, Status.STOPPED, Status.FAILED) if kind != "confirm" else (Status.COMPLETE, Status.FAILED)
        )
        parts = [f"{n:,} {WORDS[Status(s)]}" for s, n in self.by_status.items() if n or s in always]
        return f"{plural(self.total, f'{kind} trial'.strip())}: {', '.join(parts)}"


def full_budget(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that may be compared with each other: complete, at all the epochs they were allowed."""
    return trials[(trials["status"] == Status.COMPLETE) & (trials["epochs_run"] == trials["epochs_allowed"])]
