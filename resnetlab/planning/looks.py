"""When a plan looks at its confirm runs before all of them have run, and what it stops for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from resnetlab.study.frozen import Frozen
from resnetlab.wording import level_text

if TYPE_CHECKING:
    from resnetlab.study import Study

SINGLE = ("one-factor", "arms")  # designs in which an arm can stop alone: it enters no other comparison
# Where the spread of the first blocks sets the last one it is also part of the errors that the tests use, so that they
# find too much (Wittes & Brittain 1990). Spending less makes up for it: results/reference/looks.md.
REPLANNED_SHARE = 0.92
FUTILE, FUTILE_SINGLE = 0.10, 0.02
FUTILE_FROM, FUTILE_SINGLE_FROM = 2, 3


class Looks(Frozen):
    """A look after each whole block from the second, with O'Brien-Fleming spending and Holm's adjustment.

    futility: conditional power of both an effect and equivalence below which a comparison is given up, from the look
    after block `futility_from` on; non-binding, so that no error rate rests on it.
    """

    after: Literal["each block from the second"] = "each block from the second"
    spending: Literal["obrien-fleming"] = "obrien-fleming"
    primaries: list[tuple[str, str, str]]  # (factor, level, reference), all of which must be settled before all stops
    stops: Literal["arms", "all"]  # whether an arm stops once its comparisons are settled, or all arms together
    futility: float
    futility_from: int
    reestimate: bool  # the last block is set after the second, by the pooled spread of seeds alone
    share: float  # of every error rate, that the looks may spend in all
    sources: dict[str, str] = Field(default_factory=dict)  # named arm: the arm from whose runs its own start


def looks_of(study: Study, design: str, pairs: Sequence[tuple[str, Any, Any]]) -> dict[str, Looks]:
    """The field `looks` of a plan that compares `pairs` (factor, level, reference); nothing where there are none."""
    if study.confirm.looks == "none" or not pairs:
        return {}
    asked = set(study.confirm.primaries or ())
    named = 1 if design == "arms" else 0  # an arm by its own name, else a factor
    wanted = [pair for pair in pairs if pair[named] in asked] or list(pairs)
    single = design in SINGLE
    sources: Mapping[str, str] = {name: arm["source"] for name, arm in study.arms.items() if "source" in arm}
    return {
        "looks": Looks(
            after="each block from the second",
            spending="obrien-fleming",
            primaries=[(factor, level_text(level), level_text(reference)) for factor, level, reference in wanted],
            stops="arms" if single else "all",
            futility=FUTILE_SINGLE if single else FUTILE,
            futility_from=FUTILE_SINGLE_FROM if single else FUTILE_FROM,
            reestimate=(again := study.confirm.reestimate and not single),
            share=REPLANNED_SHARE if again else 1.0,
            sources=dict(sources),
        )
    }
