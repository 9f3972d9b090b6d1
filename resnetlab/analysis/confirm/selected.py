"""Intervals of simple effects that account for why they are shown: because an interaction was found.

Among studies that find an interaction its estimate is too large, and with it the simple effects, ever more so the
fewer studies find it. The interval here is held to studies that find it. With the estimates of a simple effect, s, and
of its interaction, i, take out of i what is not in s: i = γ s + v, γ = cov(s, i) / var(s). Given v, the interaction is
found where |γ s + v| exceeds the threshold of its test, so s is a draw from a distribution cut to two rays; the
interval holds the values of the effect under which the s seen is in neither tail of that (Lee, Sun, Sun & Taylor 2016,
Annals of Statistics 44: 907, who have the normal distribution; with estimated variances it is Student's t here).
"""

from __future__ import annotations

import numpy as np
from scipy import special

from resnetlab.analysis.intervals import LEVEL, quantile

POINTS = 1201  # at which values of the effect are tried
REACH = 12.0  # half-widths of the usual interval beyond what was seen and beyond both rays


def interval(
    estimate: float, error: float, df: float, slope: float, rest: float, cut: float, level: float = LEVEL
) -> tuple[float, float]:
    """The ends of the interval of an effect of which `estimate` was seen.

    error, df: its standard error, with degrees of freedom. slope, rest: the interaction that was seen is slope *
    estimate + rest. cut: how large it had to be to be found. NaN where any is not known.
    """
    if not np.isfinite([estimate, error, df, slope, rest, cut]).all() or error <= 0 or df <= 0:
        return np.nan, np.nan
    half = float(quantile(df, level)) * error
    if abs(slope) * half < 1e-6 * cut:  # nothing of the interaction is in the effect: it was not selected by it
        return estimate - half, estimate + half
    low, high = sorted(((-cut - rest) / slope, (cut - rest) / slope))
    effects = np.linspace(min(estimate, low) - REACH * half, max(estimate, high) + REACH * half, POINTS)
    z, a, b = ((x - effects) / error for x in (estimate, low, high))
    left, right = special.stdtr(df, a), special.stdtr(df, -b)
    under = np.where(z <= a, special.stdtr(df, z), left + np.where(z > b, right - special.stdtr(df, -z), 0.0))
    share = under / (left + right)
    tail = (1 - level) / 2
    held = np.flatnonzero((share >= tail) & (share <= 1 - tail))
    if not len(held) or held[0] == 0 or held[-1] == POINTS - 1:
        return np.nan, np.nan
    first, last = held[0], held[-1]
    low = np.interp(-(1 - tail), -share[first - 1 : first + 1], effects[first - 1 : first + 1])
    high = np.interp(-tail, -share[last : last + 2], effects[last : last + 2])
    return float(low), float(high)


def found_up_to(p: np.ndarray, which: int, alpha: float) -> float:
    """The unadjusted p up to which Holm's method finds test `which` of a family with these p, NaN for tests without
    one, whatever its own was."""
    others = np.sort(np.nan_to_num(np.delete(p, which), nan=1.0))
    before = 0
    while before < len(others) and others[before] <= alpha / (len(p) - before):
        before += 1
    return float(alpha / (len(p) - before))
