"""Differences of arm means, their intervals and Holm's adjustment: numpy functions over any number of repeats at once.

One estimator serves every design: an effect is a weighted sum of arm means, and its variance is made of each arm's own
seed-to-seed variance (pure error), never of one that is assumed to be common. Everything is in fractions of accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from resnetlab.analysis.intervals import LEVEL, t_interval, welch_df

EQUIVALENCE = 0.90  # two one-sided 5% tests (Schuirmann 1987)


@dataclass(frozen=True)
class CellMeans:
    """Replicates of each arm summed up. All (..., arms); `variance` is NaN below two runs, `mean` without any."""

    mean: np.ndarray
    variance: np.ndarray
    n: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, blocks: bool = False) -> CellMeans:
        """From `values` (..., arms, seeds), NaN where a run gave none. blocks: variances as of `about_blocks`."""
        there = ~np.isnan(values)
        n = there.sum(-1)
        mean = np.where(n > 0, np.where(there, values, 0.0).sum(-1) / np.maximum(n, 1), np.nan)
        squares = np.where(there, (values - mean[..., None]) ** 2, 0.0).sum(-1)
        found = cls(mean, np.where(n > 1, squares / np.maximum(n - 1, 1), np.nan), n)
        return replace(found, variance=about_blocks(values, found)) if blocks else found

    @property
    def df(self) -> np.ndarray:
        return np.asarray(np.maximum(self.n - 1, 0))


@dataclass(frozen=True)
class Estimates:
    """Effects with what is known of their error, all (..., effects) in fractions; NaN where not estimable."""

    estimate: np.ndarray
    standard_error: np.ndarray
    df: np.ndarray

    @property
    def p(self) -> np.ndarray:
        """Two-sided p of no difference."""
        return np.asarray(2 * stats.t.sf(np.abs(self.estimate) / self.standard_error, self.df))

    def else_(self, other: Estimates) -> Estimates:
        """These, and `other` where the error of these is not known."""
        known = ~np.isnan(self.standard_error)
        error, df = np.where(known, self.standard_error, other.standard_error), np.where(known, self.df, other.df)
        return Estimates(self.estimate, error, df)

    def interval(self, confidence: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
        """Low and high ends of the two-sided t interval."""
        low, high = t_interval(self.estimate, self.standard_error, self.df, confidence)
        return np.asarray(low), np.asarray(high)


FLOOR = 0.1  # of the pooled variance, below which no arm's is taken to be


def whole_blocks(values: np.ndarray) -> np.ndarray:
    """(...) Where three arms or more have runs in `values` (..., arms, seeds), and each of these has all."""
    n = (~np.isnan(values)).sum(-1)
    full = (n == values.shape[-1]).all(-1, where=n > 0)
    return np.asarray(full & ((n > 0).sum(-1) >= 3) & (values.shape[-1] > 1))


def about_blocks(values: np.ndarray, cells: CellMeans) -> np.ndarray:
    """(..., arms) Each arm's variance about what all arms of a seed share, which cancels in a comparison of arms.

    With the residuals r = y - arm - block + mean of a table of `a` arms and k seeds, and q = Σ r² / (k - 1) of each
    arm, the variance a / (a - 2) · (q - Σ q / (a (a - 1))) is unbiased whatever the variances are, if a seed moves all
    arms by the same amount (two-way analysis of variance with unequal variances). Where a run is missing, or fewer than
    three arms have one (`whole_blocks`), it is the arm's own variance.
    """
    whole = whole_blocks(values)[..., None]
    on = cells.n > 0
    arms = np.maximum(on.sum(-1, keepdims=True), 3)
    left = np.where(on[..., None], values - cells.mean[..., None], 0.0)
    left = np.where(np.isnan(left), 0.0, left)
    residual = np.where(on[..., None], left - left.sum(-2, keepdims=True) / arms[..., None], 0.0)
    q = (residual**2).sum(-1) / max(values.shape[-1] - 1, 1)
    total = q.sum(-1, keepdims=True)
    found = arms / (arms - 2) * (q - total / (arms * (arms - 1)))
    return np.where(whole & on, np.maximum(found, FLOOR * total / (arms - 1)), cells.variance)


def contrast(cells: CellMeans, weights: np.ndarray, crossed: bool) -> Estimates:
    """Weighted sums of arm means with their standard errors and degrees of freedom, unequal variances throughout.

    weights: (effects, arms), NaN in the row of an effect that cannot be estimated. With v = w² s²/n of each arm, the
    variance of an effect is Σ v, and its degrees of freedom (Σ v)² / Σ (v² / (ν + c)) - c, held between the least and
    the total ν. Between two arms c = 0: this is Welch's t test as `scipy.stats.ttest_ind(equal_var=False)` and R's
    `t.test` have it (Welch 1938, Satterthwaite 1946).

    crossed: many arms of few runs, where c = 0 is too wide (97.3% coverage of 95% intervals for 16 arms of 2 runs) and
    the c = 2 of Welch (1947, Biometrika 34: 28) too narrow once variances differ (93.7%). c = 1 lies between: 95.0 to
    96.6% for 4 to 16 arms, alike or with standard deviations 1 to 6. An arm with a single run takes the pooled
    variance of the others, whose uncertainty enters ν. Without `crossed`, an effect with such an arm has no error.
    """
    used = weights != 0
    df = cells.df[..., None, :]
    variance = np.where(cells.df > 0, cells.variance, 0.0)[..., None, :]
    share = weights**2 / np.maximum(cells.n, 1)[..., None, :]
    lent = np.where(df == 0, share, 0.0).sum(-1, keepdims=True)
    if crossed:
        total = np.maximum(df.sum(-1, keepdims=True), 1)
        share = np.where(df > 0, share + lent * df / total, 0.0)
        used = used | (lent > 0)
        no_error = cells.df.sum(-1)[..., None] == 0
    else:
        no_error = lent[..., 0] > 0
    v, c = share * variance, float(crossed)
    at_most = np.where(used, df, 0).sum(-1)
    at_least = np.where(used & (df > 0), df, np.inf).min(-1)
    freedom = welch_df(v, df, c)
    missing = ((cells.n[..., None, :] == 0) & used).any(-1) | np.isnan(weights).any(-1)
    mean = np.where(cells.n > 0, cells.mean, 0.0)
    estimate = np.where(missing, np.nan, np.einsum("...a,ea->...e", mean, weights))
    unknown = missing | no_error | (v.sum(-1) < 1e-24)  # runs that agree but for rounding
    freedom = np.where(unknown, np.nan, np.clip(freedom, at_least, at_most))
    return Estimates(estimate, np.where(unknown, np.nan, np.sqrt(v.sum(-1))), freedom)


def holm(p: np.ndarray, family: np.ndarray | int | None = None) -> np.ndarray:
    """Holm's (1979) step-down adjustment along the last axis of `p` (..., tests); NaN stays NaN.

    family: (...) or int, the number of tests in the family, at least those with a p; by default the length of the
    axis, so that a comparison whose runs failed still counts and the adjustment is the one that was planned.
    """
    tests = p.shape[-1]
    family = np.asarray(tests if family is None else family)[..., None]
    order = np.argsort(p, axis=-1)  # NaN last
    steps = np.maximum(family - np.arange(tests), 1)
    sorted_p = np.minimum(np.maximum.accumulate(np.take_along_axis(p, order, -1) * steps, -1), 1.0)
    adjusted = np.empty(np.broadcast_shapes(p.shape, sorted_p.shape))
    np.put_along_axis(adjusted, order, sorted_p, -1)
    return adjusted


def verdicts(estimates: Estimates, p_adjusted: np.ndarray, alpha: float, delta: float) -> np.ndarray:
    """`effect`, `equivalent`, `inconclusive` or `not estimable` (..., effects); delta is a fraction here.

    An effect is one whose Holm-adjusted p is at most alpha. "No effect" is a claim of its own, made only where the
    90% interval lies inside ±delta (two one-sided tests, Schuirmann 1987); all else is inconclusive.
    """
    low, high = estimates.interval(EQUIVALENCE)
    inside = (low > -delta) & (high < delta)
    found = np.select([p_adjusted <= alpha, inside], ["effect", "equivalent"], "inconclusive")
    return np.where(np.isnan(estimates.standard_error), "not estimable", found)
