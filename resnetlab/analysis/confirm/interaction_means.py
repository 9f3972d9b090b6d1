"""Mean accuracy at each pair of levels of two factors, averaged over a crossed design: an interaction to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.power import noise_floor
from resnetlab.analysis.intervals import quantile
from resnetlab.planning.plan import Layout
from resnetlab.wording import level_text


@dataclass(frozen=True)
class InteractionMeans:
    """factors: two names; levels: two of each, the reference first. mean, half: (2, 2) fractions, by level of the
    first and of the second factor, half being half of a 95% interval (NaN without two runs of any arm)."""

    factors: tuple[str, str]
    levels: tuple[tuple[Any, Any], tuple[Any, Any]]
    mean: np.ndarray
    half: np.ndarray


def cells(runs: ConfirmRuns, swap: Mapping[str, str]) -> InteractionMeans | None:
    """At the reference level of the two factors in `swap` and at the level, as text, that it names for each.

    None where a pair of levels has no run. The interval is of the average over the arms that were run, with the spread
    of seeds pooled over all arms.
    """
    plan, floor = runs.plan, noise_floor(runs.values)
    first, second = swap
    levels = _two(plan, first, swap[first]), _two(plan, second, swap[second])
    counts = (~np.isnan(runs.values)).sum(1)
    mean, half = np.full((2, 2), np.nan), np.full((2, 2), np.nan)
    for i, one in enumerate(levels[0]):
        for j, other in enumerate(levels[1]):
            at = [(arm.values[first], arm.values[second]) == (one, other) for arm in plan.arms]
            rows = np.flatnonzero(np.array(at) & (counts > 0))
            if len(rows) == 0:
                return None
            mean[i, j] = np.nanmean(runs.values[rows], axis=1).mean()
            error = np.sqrt((1 / counts[rows]).sum()) / len(rows) * floor.sd
            half[i, j] = quantile(floor.df) * error if floor.known else np.nan
    return InteractionMeans((first, second), levels, mean, half)


def _two(plan: Layout, factor: str, against: str) -> tuple[Any, Any]:
    swap = next(swap for swap in plan.swaps if swap.factor == factor and level_text(swap.level) == against)
    return swap.reference, swap.level
