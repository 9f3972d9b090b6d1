"""Which arms to run, so that their means answer the question asked. Pure functions from levels to rows.

A design is a list of arms; an arm gives a value to every factor of the incumbent. Every arm is run with the same seeds
(blocks), so each design here is balanced.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resnetlab.wording import level_text

MOST_CANDIDATES = 1000  # combinations that a D-optimal design chooses from; of more, so many drawn at random

# Generators of two-level fractions of resolution V or higher: added factor = product of basic factors (by position).
# Box, Hunter & Hunter, Statistics for Experimenters, table of minimum-aberration fractions.
_GENERATORS: dict[int, tuple[tuple[int, ...], ...]] = {
    5: ((0, 1, 2, 3),),
    6: ((0, 1, 2, 3, 4),),
    7: ((0, 1, 2, 3, 4, 5),),
    8: ((0, 1, 2, 3), (0, 1, 4, 5)),
}


@dataclass(frozen=True)
class Arm:
    """One combination of levels. `changed` holds what differs from the incumbent: none for the incumbent itself."""

    values: Mapping[str, Any]
    changed: Mapping[str, Any]

    @property
    def name(self) -> str:
        return ", ".join(f"{factor}={level_text(level)}" for factor, level in self.changed.items()) or "incumbent"


def contrast_name(factor: str, level: Any, reference: Any) -> str:
    """`kernel: 5 - 3`: what the comparison of two levels is called everywhere."""
    return f"{factor}: {level_text(level)} - {level_text(reference)}"


def interaction_name(*swaps: tuple[str, Any, Any]) -> str:
    """`kernel × blocks: (5 - 3) × (2 - 3)`, from (factor, level, reference) of each."""
    factors = " × ".join(factor for factor, _, _ in swaps)
    return f"{factors}: " + " × ".join(
        f"({level_text(level)} - {level_text(reference)})" for _, level, reference in swaps
    )


def one_factor(incumbent: Mapping[str, Any], alternatives: Mapping[str, Sequence[Any]]) -> list[Arm]:
    """What does changing this one choice do, everything else left as the incumbent has it?

    The incumbent, and one arm for each alternative level of each factor: 1 + Σ levels arms. Its estimand is the swap
    at the incumbent; it says nothing about interactions.
    """
    arms = [Arm(dict(incumbent), {})]
    for factor, levels in alternatives.items():
        arms += [Arm(dict(incumbent) | {factor: level}, {factor: level}) for level in levels]
    return arms


def full_factorial(incumbent: Mapping[str, Any], alternatives: Mapping[str, Sequence[Any]]) -> list[Arm]:
    """What does each choice do on average over all settings of the others, and which choices depend on each other?

    Every combination of every level: the product of the numbers of levels.
    """
    choices = {factor: (incumbent[factor], *levels) for factor, levels in alternatives.items()}
    return [_arm(incumbent, dict(zip(choices, row, strict=True))) for row in itertools.product(*choices.values())]


def fractional(incumbent: Mapping[str, Any], alternatives: Mapping[str, Any]) -> list[Arm]:
    """The same as the full factorial for two levels a factor, from a fraction of its runs.

    A two-level fraction of resolution V or higher: no main effect or two-factor interaction is confused with another
    (three-factor interactions are taken to be negligible). 3 factors 8 rows, 4: 16, 5: 16, 6: 32, 7: 64, 8: 64.
    `alternatives` gives one level to each factor. ValueError outside 2 to 8 factors.
    """
    factors = list(alternatives)
    signs = fraction(len(factors))
    return [
        _arm(
            incumbent,
            {f: alternatives[f] if sign > 0 else incumbent[f] for f, sign in zip(factors, row, strict=True)},
        )
        for row in signs
    ]


def candidates(incumbent: Mapping[str, Any], alternatives: Mapping[str, Sequence[Any]], seed: int) -> Iterable[Arm]:
    """The incumbent, and the other combinations of levels in an order drawn by `seed`: all, or as many as can be
    looked through where there are very many."""
    choices = [(incumbent[factor], *levels) for factor, levels in alternatives.items()]
    total, rng = math.prod(map(len, choices)), random.Random(seed)
    yield _arm(incumbent, {})
    for number in rng.sample(range(1, total), min(total - 1, 20 * MOST_CANDIDATES)):
        row = []
        for levels in reversed(choices):
            number, position = divmod(number, len(levels))
            row.append(levels[position])
        yield _arm(incumbent, dict(zip(alternatives, reversed(row), strict=True)))


def d_optimal(
    arms: Sequence[Arm], alternatives: Mapping[str, Sequence[Any]], size: int | None, seed: int
) -> tuple[list[Arm], float]:
    """What does each choice do, by itself, where factors have three or more levels or not all combinations can be run?

    `size` of `arms` (those that can be run, the incumbent first, which is kept), chosen so that all main effects
    together are known best, with the D-efficiency against running them all. Factors are taken not to interact; a
    default size leaves arms over to test that. ValueError where main effects cannot be told apart.
    """
    from resnetlab.planning.d_optimal import (  # numpy: not for every study that is only read
        choose,
        good_size,
        main_effects,
    )

    incumbent = arms[0].values
    levels = [(incumbent[factor], *found) for factor, found in alternatives.items()]
    model = main_effects(levels, [[arm.values[factor] for factor in alternatives] for arm in arms])
    rows, efficiency = choose(model, size or good_size(model, seed), seed)
    return [arms[row] for row in rows], efficiency


def fraction(factors: int) -> list[tuple[int, ...]]:
    """Rows of -1 and +1 of a two-level design of resolution V or higher; the first row is all -1 where it can be.

    Rows are folded so that the all -1 row (the incumbent) is in the design.
    """
    if not 2 <= factors <= 8:
        raise ValueError(f"need 2 to 8 factors for a two-level fraction, got {factors}")
    generators = _GENERATORS.get(factors, ())
    basic = factors - len(generators)
    rows = []
    for row in itertools.product((-1, 1), repeat=basic):
        extra = []
        for generator in generators:
            sign = -1 if len(generator) % 2 == 0 else 1  # so that all -1 gives -1
            for position in generator:
                sign *= row[position]
            extra.append(sign)
        rows.append((*row, *extra))
    return rows


def _arm(incumbent: Mapping[str, Any], chosen: Mapping[str, Any]) -> Arm:
    changed = {f: level for f, level in chosen.items() if level != incumbent[f]}
    return Arm({**incumbent, **chosen}, changed)
