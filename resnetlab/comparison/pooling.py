"""The mean of an effect over studies, random effects between them: Paule and Mandel's variance, t intervals.

Paule and Mandel (1982, Journal of Research of the National Bureau of Standards 87: 377) choose the variance between
studies at which the weighted squares are what they should be, k - 1. The interval is Hartung and Knapp's (2001,
Statistics in Medicine 20: 1771), k - 1 degrees of freedom, never narrower than the weights alone make it (Knapp and
Hartung 2003; Röver, Knapp and Friede 2015, BMC Medical Research Methodology 15: 99): for two studies it is wide, and
rightly so. With Paule and Mandel's variance Hartung and Knapp's factor is 1 wherever that variance is above 0, and at
most 1 where it is 0, so that the rule leaves the factor at 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from resnetlab.analysis.intervals import t_interval


@dataclass(frozen=True)
class Pooled:
    """All on the scale of the estimates; NaN where fewer than two studies have a standard error.

    between: standard deviation between studies; share: of the variance that lies between them, I² (Higgins and
    Thompson 2002) at this `between`; q, p: Cochran's test of there being none. weights: of each study, adding up to 1.
    """

    studies: int
    estimate: float
    standard_error: float
    low: float
    high: float
    between: float
    share: float
    q: float
    p: float
    weights: tuple[float, ...]


def pooled(estimates: Sequence[float], standard_errors: Sequence[float]) -> Pooled:
    """The mean effect of independent studies; those without a standard error above 0 are left out, with weight 0."""
    y, error = np.asarray(estimates, dtype=float), np.asarray(standard_errors, dtype=float)
    used = np.isfinite(y) & np.isfinite(error) & (error > 0)
    k = int(used.sum())
    if k < 2:
        none = float("nan")
        return Pooled(k, none, none, none, none, none, none, none, none, (0.0,) * len(y))
    v = error[used] ** 2
    variance = between_variance(y[used], v)
    w = 1 / (v + variance)
    mean, se = float((w * y[used]).sum() / w.sum()), float(1 / np.sqrt(w.sum()))
    low, high = t_interval(mean, se, k - 1)
    q = _squares(y[used], v, 0.0)
    fixed = 1 / v
    typical = (k - 1) * fixed.sum() / (fixed.sum() ** 2 - (fixed**2).sum())  # variance within a study
    weights = np.zeros(len(y))
    weights[used] = w / w.sum()
    return Pooled(
        k, mean, se, float(low), float(high), float(np.sqrt(variance)), float(variance / (variance + typical)),
        q, float(stats.chi2.sf(q, k - 1)), tuple(map(float, weights)),
    )  # fmt: skip


def between_variance(y: np.ndarray, v: np.ndarray) -> float:
    """The variance between studies at which the weighted squares are k - 1; 0 where they are less without any."""
    k = len(y)
    if _squares(y, v, 0.0) <= k - 1:
        return 0.0
    top = float(((y - y.mean()) ** 2).sum())  # at which each weight is below 1 over it, and so the sum below 1
    return float(
        optimize.brentq(lambda variance: _squares(y, v, variance) - (k - 1), 0.0, top, xtol=1e-300, rtol=1e-12)
    )


def _squares(y: np.ndarray, v: np.ndarray, variance: float) -> float:
    w = 1 / (v + variance)
    return float((w * (y - (w * y).sum() / w.sum()) ** 2).sum())
