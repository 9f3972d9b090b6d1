"""No rule: every trial runs to its full budget."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from resnetlab.builtin import Settings, StoppingRule

if TYPE_CHECKING:
    from resnetlab.search.rule import Decision, Values


class Never:
    """Decides nothing, and so leaves no rows."""

    def __init__(self, epochs: int, sign: int):
        pass

    def report(self, trial_id: str, epoch: int, value: float, exempt: bool = False) -> Decision | None:
        return None

    def replay(self, rows: Iterable[dict[str, Any]], values: Values) -> None:
        pass


def words(settings: Settings) -> str:
    return "No stopping rule"


PARTS = (StoppingRule("none", Never, decides=lambda settings: [], words=words, keeps=lambda settings: 1.0),)
