"""Hyperband (Li et al. 2018), asynchronous: ASHA in several brackets, of which later ones begin to stop later.

Bracket s is ASHA with a grace period of grace_period · reduction_factor^s; the last may stop nothing at all. So a share
of the trials, whatever they propose, has time to show what it becomes: that is what a slow starter needs. Brackets are
as large as Optuna's `HyperbandPruner` makes them, and a trial's is drawn, as there, from a checksum of its name, so
that a continued sweep draws the same. Within a bracket it is decided as in `asha`.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from resnetlab.builtin import Settings, StoppingRule, need
from resnetlab.search.rule import Decision
from resnetlab.search.schedulers.asha import Asha, rungs

if TYPE_CHECKING:
    from resnetlab.search.rule import Values


class Hyperband:
    """sizes: how many of `sum(sizes)` trials each bracket gets on average."""

    def __init__(self, epochs: int, sign: int, grace_period: int, reduction_factor: int, brackets: int = 0):
        fitting = most_brackets(grace_period, reduction_factor, epochs)
        count = brackets or fitting
        self.sizes = [_size(s, fitting, reduction_factor) for s in range(count)]
        graces = [grace_period * reduction_factor**s for s in range(count)]
        self._brackets = [Asha(grace, reduction_factor, epochs, sign) for grace in graces]

    def bracket(self, trial_id: str) -> int:
        """The bracket of a trial: 0 may stop earliest."""
        place = crc32(trial_id.encode()) % sum(self.sizes)
        for number, size in enumerate(self.sizes):
            place -= size
            if place < 0:
                return number
        raise AssertionError("sizes sum to more than any remainder")

    def report(self, trial_id: str, epoch: int, value: float, exempt: bool = False) -> Decision | None:
        """As ASHA decides in its bracket. A rung has one number in all brackets, that of its epoch; `recorded` and
        `cutoff` are of the trial's own bracket."""
        number = self.bracket(trial_id)
        found = self._brackets[number].report(trial_id, epoch, value, exempt)
        return None if found is None else replace(found, rung=found.rung + number)

    def replay(self, rows: Iterable[dict[str, Any]], values: Values | None = None) -> None:
        """Rebuild the brackets from recorded rows alone."""
        own: list[list[dict[str, Any]]] = [[] for _ in self._brackets]
        for row in rows:
            number = self.bracket(row["trial_id"])
            own[number].append({**row, "rung": row["rung"] - number})
        for bracket, found in zip(self._brackets, own, strict=True):
            bracket.replay(found)


def most_brackets(grace_period: int, reduction_factor: int, epochs: int) -> int:
    """How many have a grace period of at most the full budget."""
    count = 0
    while grace_period * reduction_factor**count <= epochs:
        count += 1
    return count


def _size(bracket: int, count: int, reduction_factor: int) -> int:
    """Algorithm 1 of Li et al. (2018): trials of a bracket for one of equal total cost to all others."""
    left = count - 1 - bracket
    shares: int = reduction_factor**left
    return -(-count * shares // (left + 1))


def hyperband(
    epochs: int,
    sign: int,
    *,
    grace_period: Annotated[int, Field(ge=1, description="epochs before a trial can be stopped")] = 1,
    reduction_factor: Annotated[int, Field(ge=2, le=100, description="one in so many goes on at each rung")] = 3,
    brackets: Annotated[int, Field(ge=0, le=20, description="hyperband: how many; 0: as many as fit")] = 0,
) -> Hyperband:
    return Hyperband(epochs, sign, grace_period, reduction_factor, brackets)


def limits(settings: Settings) -> None:
    fitting = most_brackets(settings["grace_period"], settings["reduction_factor"], settings["epochs"])
    names = ("grace_period", "reduction_factor", "epochs")
    need(fitting >= 2, "grace_period × reduction_factor <= epochs, for a second bracket", settings, *names)
    need(settings["brackets"] != 1, "brackets of at least 2 (one is stopping: asha), or 0", settings, "brackets")
    need(settings["brackets"] <= fitting, f"at most {fitting} brackets, which fit", settings, "brackets", *names)


def words(settings: Settings) -> str:
    grace, factor = settings["grace_period"], settings["reduction_factor"]
    count = settings["brackets"] or most_brackets(grace, factor, settings["epochs"])
    first = ", ".join(str(grace * factor**s) for s in range(count))
    return f"Hyperband with {count} brackets, with grace periods of {first} epochs, and a reduction factor of {factor}"


PARTS = (
    StoppingRule(
        "hyperband",
        hyperband,
        limits,
        decides=rungs,
        words=words,
    ),
)
