"""What a plan's design can be asked: each question as a weighted sum of arm means, and what it is an average over.

One-factor designs ask for changes at the incumbent. Crossed designs (full and fractional) ask for main effects,
averages over the settings of the other factors, and for two-factor interactions; the simple effects stand ready to
replace a main effect whose interaction is found. D-optimal designs ask for main effects of a model without
interactions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, TypeAlias

import numpy as np

from resnetlab.planning.designs import contrast_name, interaction_name
from resnetlab.planning.orientation import Swap
from resnetlab.planning.plan import Layout
from resnetlab.wording import level_text

Key: TypeAlias = frozenset[tuple[str, Any]]  # levels that are set together

SWAP = "change at the incumbent"
SWAP_BASELINE = "change at the baseline"
ARMS = "difference between two arms"
AVERAGE = "average over the other factors"
INTERACTION = "interaction"
ADDITIVE = "main effect, if factors do not interact"


@dataclass(frozen=True)
class Estimand:
    """One comparison. `terms` are coefficients of model columns; `pair` names the factors of an interaction or of
    the simple effect that it would bring in."""

    kind: str  # swap, main, interaction or simple
    name: str
    factor: str
    level: str
    reference: str
    estimand: str
    terms: Mapping[int, float]
    pair: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Estimands:
    """A layout's questions and the model they are asked in.

    model: (arms, columns), the columns' values at each arm; an effect is a row of `asked` (questions, columns) times
    the coefficients. Treatment coding with the centre's level as zero (Box, Hunter & Hunter 2005, chapters 5 to 8,
    code -1 and +1 and so report half of these interactions). crossed: errors are pooled over arms; additive: the model
    has no interactions, which arms beyond its columns can refute. blocks: variances are those about what all arms of a
    seed share (`contrasts.about_blocks`).
    """

    items: tuple[Estimand, ...]
    model: np.ndarray
    asked: np.ndarray
    crossed: bool
    additive: bool = False
    blocks: bool = False

    def of_kind(self, *kinds: str) -> np.ndarray:
        """Positions of the questions of these kinds."""
        return np.flatnonzero([item.kind in kinds for item in self.items])

    def weights(self, ran: np.ndarray) -> np.ndarray:
        """(questions, arms): what each arm's mean counts for, by least squares over the arms with `ran` (arms,) true.

        In a complete design these are plain averages of arm means. NaN in the row of a question that the arms cannot
        answer. Where arms are absent, what remains rests on there being no three-factor interaction.
        """
        rows = np.flatnonzero(ran)
        found = np.zeros((len(self.items), len(ran)))
        if len(rows) == 0 or len(self.items) == 0:
            return found * np.nan
        model = self.model[rows]
        solution = np.round(self.asked @ np.linalg.pinv(model), 12)  # exact zeros where an arm does not count
        found[:, rows] = solution
        answered = np.isclose(solution @ model, self.asked, atol=1e-7).all(-1)
        found[~answered] = np.nan
        return found


def _as_planned(ask: Callable[..., Estimands]) -> Callable[..., Estimands]:
    """The questions with the variances that the plan asks for. Arms of several tasks share nothing by a seed."""

    @wraps(ask)
    def asked(plan: Layout, *more: Any) -> Estimands:
        together = plan.variance == "blocks" and len({arm.task for arm in plan.arms}) == 1
        return replace(ask(plan, *more), blocks=together)

    return asked


@_as_planned
def estimands(plan: Layout) -> Estimands:
    """All that `plan`'s design was laid out to answer, arms that cannot be run included."""
    if plan.design == "arms":
        return _against_first(plan)
    if _one_factor(plan):
        return between(plan, [_pair(swap) for swap in plan.swaps])
    columns = _Columns(plan)
    items = [_main(columns, *_pair(swap)) for swap in plan.swaps]
    if not columns.additive:
        pairs = itertools.combinations(plan.swaps, 2)
        items += [_interaction(columns, one, other) for one, other in pairs if one.factor != other.factor]
        for factor, other in itertools.permutations(plan.compared, 2):
            items += [
                _main(columns, *_pair(swap), at=(other, setting))
                for swap in plan.swaps
                if swap.factor == factor
                for setting in columns.levels[other]
            ]
    return columns.questions(items)


def _pair(swap: Swap) -> tuple[str, Any, Any]:
    return swap.factor, swap.level, swap.reference


def _against_first(plan: Layout) -> Estimands:
    """Each named arm against the first of its task."""
    first: dict[str, str] = {}
    pairs = [(arm.name, first.setdefault(arm.task, arm.name)) for arm in plan.arms]
    return between(plan, [("arm", name, other) for name, other in pairs if name != other])


@_as_planned
def between(plan: Layout, pairs: Sequence[tuple[str, Any, Any]]) -> Estimands:
    """One question for each (factor, level, reference), both of them the incumbent's or compared by `plan`: the swap
    at the incumbent, or the main effect. Named arms are the levels of a factor called `arm`."""
    if plan.design == "arms":
        place = {arm.name: i for i, arm in enumerate(plan.arms)}
        named = [
            Estimand("swap", contrast_name(*pair), *pair, ARMS, {place[pair[1]]: 1.0, place[pair[2]]: -1.0})
            for pair in pairs
        ]
        return Estimands(tuple(named), np.eye(len(plan.arms)), _asked(named, len(plan.arms)), crossed=False)
    if not _one_factor(plan):
        columns = _Columns(plan)
        return columns.questions([_main(columns, *pair) for pair in pairs])
    levels = [(factor, level) for factor, found in plan.compared.items() for level in found]
    at = SWAP if plan.around == "incumbent" else SWAP_BASELINE
    model = np.array([[1.0, *(arm.changed.get(f) == x for f, x in levels)] for arm in plan.arms], dtype=float)
    items = []
    for factor, level, reference in pairs:
        signs = ((level, 1.0), (reference, -1.0))
        terms = {1 + levels.index((factor, x)): sign for x, sign in signs if x != plan.incumbent[factor]}
        name = contrast_name(factor, level, reference)
        items.append(Estimand("swap", name, factor, level_text(level), level_text(reference), at, terms))
    return Estimands(tuple(items), model, _asked(items, len(levels) + 1), crossed=False)


def _one_factor(plan: Layout) -> bool:
    return plan.design in ("one-factor", "none")


class _Columns:
    """The model's columns: intercept, (factor, level) for each alternative, and their two-factor products, which a
    D-optimal plan takes as none."""

    def __init__(self, plan: Layout):
        self.additive = plan.design == "d-optimal"
        self.levels = {factor: (plan.incumbent[factor], *found) for factor, found in plan.compared.items()}
        alternatives = [(factor, level) for factor, found in plan.compared.items() for level in found]
        pairs = [] if self.additive else itertools.combinations(alternatives, 2)
        products = [(one, other) for one, other in pairs if one[0] != other[0]]
        keys: list[Key] = [
            frozenset(),
            *(frozenset([one]) for one in alternatives),
            *map(frozenset, products),
        ]
        self._position = {key: i for i, key in enumerate(keys)}
        self.model = np.array([[self._holds(arm.values, key) for key in keys] for arm in plan.arms], dtype=float)
        self.model = self.model.reshape(len(plan.arms), len(keys))
        self._planned = [arm.values for arm in plan.arms]

    @staticmethod
    def _holds(values: Mapping[str, Any], key: Key) -> bool:
        return all(values.get(factor) == level for factor, level in key)

    def at(self, *levels: tuple[str, Any]) -> int:
        return self._position[frozenset(levels)]

    def questions(self, items: Sequence[Estimand]) -> Estimands:
        asked = _asked(items, self.model.shape[1])
        return Estimands(tuple(items), self.model, asked, crossed=True, additive=self.additive)

    def shared(self, factor: str, both: tuple[Any, Any], other: str) -> list[Any]:
        """The levels of `other` at which the plan runs `both` levels of `factor`."""
        return [
            setting
            for setting in self.levels[other]
            if all(any(v.get(factor) == x and v.get(other) == setting for v in self._planned) for x in both)
        ]


def _main(columns: _Columns, factor: str, level: Any, reference: Any, at: tuple[str, Any] | None = None) -> Estimand:
    """The effect of `level` averaged over the settings of the other factors; with `at`, where one of them is fixed.

    Averages take only settings at which both levels can be run; where these are not all, the estimand says so.
    """
    sides = [(x, sign) for x, sign in ((level, 1.0), (reference, -1.0)) if x != columns.levels[factor][0]]
    terms = {columns.at((factor, x)): sign for x, sign in sides}
    limits = [] if at is None else [f"{at[0]}={level_text(at[1])}"]
    for other, levels in columns.levels.items():
        if other == factor or columns.additive:
            continue
        if at is not None and other == at[0]:
            settings = [at[1]]
        else:
            settings = columns.shared(factor, (level, reference), other) or list(levels)
            if len(settings) < len(levels):
                limits.append(f"{other}={' or '.join(map(level_text, settings))}")
        for setting in settings:
            if setting != levels[0]:
                terms |= {columns.at((factor, x), (other, setting)): sign / len(settings) for x, sign in sides}
    where = f" where {', '.join(limits)}" if limits else ""
    name = contrast_name(factor, level, reference)
    estimand = ADDITIVE if columns.additive else AVERAGE + where
    question = Estimand("main", name, factor, level_text(level), level_text(reference), estimand, terms)
    if at is None:
        return question
    pair = frozenset((factor, at[0]))
    return replace(question, kind="simple", name=f"{name} where {at[0]}={level_text(at[1])}", pair=pair)


def _interaction(columns: _Columns, one: Swap, other: Swap) -> Estimand:
    """How much more `one` does at the level of `other` than at its reference: a difference of differences."""
    swaps = [_pair(one), _pair(other)]
    sides = [((swap.level, 1.0), (swap.reference, -1.0)) for swap in (one, other)]
    terms = {
        columns.at((one.factor, a), (other.factor, b)): sign * also
        for (a, sign), (b, also) in itertools.product(*sides)
        if a != columns.levels[one.factor][0] and b != columns.levels[other.factor][0]
    }
    factor = " × ".join(name for name, _, _ in swaps)
    return Estimand(
        "interaction",
        interaction_name(*swaps),
        factor,
        ", ".join(level_text(level) for _, level, _ in swaps),
        ", ".join(level_text(reference) for _, _, reference in swaps),
        INTERACTION,
        terms,
        frozenset((one.factor, other.factor)),
    )


def _asked(items: Sequence[Estimand], columns: int) -> np.ndarray:
    asked = np.zeros((len(items), columns))
    for row, item in enumerate(items):
        for column, value in item.terms.items():
            asked[row, column] = value
    return asked
