"""Student's t and Welch's intervals, and the confidence level of every interval that this package shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from scipy import special

LEVEL = 0.95

Numbers: TypeAlias = Any  # floats or arrays of them


def quantile(df: Numbers, level: float = LEVEL) -> Numbers:
    """How many standard errors a two-sided t interval reaches to either side, at `df` degrees of freedom; NaN where
    `df` is NaN or not above 0."""
    return special.stdtrit(df, 0.5 + level / 2)


def t_interval(
    estimate: Numbers, standard_error: Numbers, df: Numbers, level: float = LEVEL
) -> tuple[Numbers, Numbers]:
    """Low and high ends of the two-sided t interval around `estimate`; arrays are taken element by element."""
    half = quantile(df, level) * standard_error
    return estimate - half, estimate + half


def mean_interval(values: Sequence[float] | np.ndarray, level: float = LEVEL) -> tuple[float, float, float, int]:
    """Mean, ends of its t interval (NaN for fewer than two values) and number of `values`; NaN values are left out."""
    found = np.asarray(values, dtype=float)
    found = found[~np.isnan(found)]
    n = len(found)
    if n == 0:
        return np.nan, np.nan, np.nan, 0
    mean = float(found.mean())
    if n == 1:
        return mean, np.nan, np.nan, 1
    low, high = t_interval(mean, float(found.std(ddof=1)) / np.sqrt(n), n - 1, level)
    return mean, float(low), float(high), n


def welch_df(parts: Numbers, dfs: Numbers, c: float = 0.0) -> np.ndarray:
    """Degrees of freedom of a sum of independent variances (Welch 1938, Satterthwaite 1946).

    parts: (..., terms), the variances that are added up, weights included; dfs: those of each, terms with 0 left out.
    c: 0, or what `contrasts.contrast` takes for many arms of few runs. Returns (...), NaN where all variances are 0.
    """
    parts, dfs = np.asarray(parts, dtype=float), np.asarray(dfs, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(parts.sum(-1) ** 2 / np.where(dfs > 0, parts**2 / (dfs + c), 0.0).sum(-1) - c)


def welch_interval(means: Sequence[float], parts: Sequence[float], dfs: Sequence[float]) -> tuple[float, float, float]:
    """Estimate, low and high end: of one mean, or of the first of two less the second.

    parts: the variance of each mean (its squared standard error); dfs: its degrees of freedom.
    """
    estimate = means[0] - sum(means[1:])
    low, high = t_interval(estimate, np.sqrt(sum(parts)), welch_df(parts, dfs))
    return float(estimate), float(low), float(high)
