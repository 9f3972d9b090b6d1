"""The intervals of simple effects in an analysis: held to studies that find the interaction which brought them in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from resnetlab.analysis.confirm.selected import found_up_to, interval
from resnetlab.analysis.intervals import LEVEL, quantile

if TYPE_CHECKING:
    from resnetlab.analysis.confirm.effects import Analysis


def simple_interval(found: Analysis, alpha: float, repeat: int, i: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of simple effect `i`; NaN where it has no error, and where its factors have more than one
    interaction (three levels or more), so that more than one of them may have brought it in."""
    asked, cells = found.questions, found.cells
    family = asked.of_kind("interaction")
    mine = [place for place, q in enumerate(family) if asked.items[q].pair == asked.items[i].pair]
    if len(mine) != 1:
        return np.nan, np.nan
    other = family[mine[0]]
    weights = asked.weights(cells.n[repeat] > 0)[[i, other]]
    known = cells.df[repeat] > 0
    spread = np.where(known, cells.variance[repeat], np.nan)
    spread = np.where(known, spread, np.nanmean(spread) if known.any() else np.nan) / np.maximum(cells.n[repeat], 1)
    cover = (weights[:, None] * weights[None] * np.where(cells.n[repeat] > 0, spread, 0.0)).sum(-1)
    estimates = found.estimates
    estimate, error, df = (x[repeat] for x in (estimates.estimate, estimates.standard_error, estimates.df))
    p = found_up_to(estimates.p[repeat, family], mine[0], alpha)
    slope = cover[0, 1] / cover[0, 0]
    cut = float(quantile(df[other], 1 - p) * error[other])
    return interval(estimate[i], error[i], df[i], slope, estimate[other] - slope * estimate[i], cut, level)
