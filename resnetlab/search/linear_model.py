"""A sampler for spaces whose settings mostly add up: Thompson sampling from a Bayesian linear model of their effects.

The model has the effect of each level, a cubic in each range, and the interactions of two settings, with normal priors.
It is told the accuracies of a trial at `depths` epochs (1, 3, 9, … and the full budget). The effects after few epochs
are those at the full budget plus a deviation of their own, so that a trial that was stopped counts, and a setting that
starts slowly can be told from one that is bad. A proposal is the best of `CANDIDATES` points under effects
drawn from the posterior, with `HEAT` of its standard deviation. Thompson sampling: Russo et al. 2018; the noise is the
one of the largest marginal likelihood among `NOISES`, as in empirical Bayes. The other constants were chosen on the
simulated world `plain` of `benchmarks/search.py` (LOG.md, "A sampler that knows that settings add up").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from resnetlab.study.space import Branch, Space

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

CANDIDATES = 300
HEAT = 0.6  # of a draw's standard deviation: 1 is Thompson sampling as it is written, which explores for longer
FIRST = 4  # random points before the model is asked
SCALE = 3.0  # prior standard deviation of a main effect, of that of the values within a depth
INTERACTION = 0.05  # prior standard deviation, of that of a main effect
DEVIATION = 0.5  # of the effects after few epochs from those at the full budget, the same
NOISES = (0.02, 0.1, 0.4)  # variances, of that of the values within a depth
CLIP = 2.0
INTERCEPT = 25.0  # prior variance, of that of a main effect
MOST_PAIRS = 200  # columns of interactions; a space with more of them has main effects alone


def depths(epochs: int) -> list[int]:
    """The epochs whose accuracies the model is told: powers of 3, and the full budget.

    >>> depths(10)
    [1, 3, 9, 10]
    """
    found, depth = [], 1
    while depth < epochs:
        found.append(depth)
        depth *= 3
    return [*found, epochs]


class LinearModel:
    """sign: 1 where larger values are better, -1 where smaller ones are."""

    def __init__(self, space: Space, epochs: int, sign: int = 1):
        self._space, self._sign = space, sign
        self._columns = _Columns(space)
        self._depths = depths(epochs)
        self._trials: dict[Any, int] = {}  # the row of each
        self._features = np.empty((64, self._columns.count))
        self._values = np.full((64, len(self._depths)), np.nan)
        self._lost = np.zeros(64, dtype=bool)
        self._products = np.zeros((len(self._depths), self._columns.count, self._columns.count))

    def begun(self, trial: Any, values: Mapping[str, Any]) -> None:
        """trial: what `reported` and `lost` call it."""
        row = len(self._trials)
        if row == len(self._features):
            self._features = np.concatenate([self._features, np.empty_like(self._features)])
            self._values = np.concatenate([self._values, np.full_like(self._values, np.nan)])
            self._lost = np.concatenate([self._lost, np.zeros_like(self._lost)])
        self._trials[trial] = row
        self._features[row] = self._columns.of([values])[0]

    def reported(self, trial: Any, epoch: int, value: float) -> None:
        if epoch in self._depths and np.isfinite(value):
            depth = self._depths.index(epoch)
            if np.isnan(self._values[self._trials[trial], depth]):
                self._count(self._trials[trial], depth)
            self._values[self._trials[trial], depth] = self._sign * value

    def lost(self, trial: Any) -> None:
        """The trial diverged or failed: it counts as the worst at each depth that it did not reach."""
        row = self._trials[trial]
        if not self._lost[row]:
            self._lost[row] = True
            for depth in np.flatnonzero(np.isnan(self._values[row])):
                self._count(row, int(depth))

    def _count(self, row: int, depth: int) -> None:
        self._products[depth] += np.outer(self._features[row], self._features[row])

    def propose(self, seed: int, allowed: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        """A point of the space; of those that are `allowed`, where one of the candidates is."""
        rng = np.random.default_rng(seed)
        points = [_drawn(self._space, rng) for _ in range(CANDIDATES)]
        values = self._told()
        if np.count_nonzero(~np.isnan(values).all(axis=1)) >= FIRST:
            merit = self._columns.of(points) @ self._effects(values, rng)
            points = [points[place] for place in np.argsort(-merit, kind="stable")]
        return next((point for point in points if allowed(point)), points[0])

    def _told(self) -> Array:
        """(trials, depths) values, NaN where there is none yet."""
        number = len(self._trials)
        values = self._values[:number].copy()
        for column in values.T:  # a depth that no trial reached has no worst
            if not np.isnan(column).all():
                column[self._lost[:number] & np.isnan(column)] = np.nanmin(column)
        return values

    def _effects(self, values: Array, rng: np.random.Generator) -> Array:
        """(columns,) effects at the full budget, drawn from the posterior.

        The parameters are the effects at the full budget, then their deviations at each depth below. The normal
        equations are made of blocks, one for each depth, so that no matrix has a row for each value.
        """
        values = _clipped(values)
        features, count = self._features[: len(values)], self._columns.count
        told = ~np.isnan(values)
        there = [depth for depth in range(len(self._depths)) if told[:, depth].any()]
        y = np.zeros_like(values)
        for depth in there:
            y[:, depth] = values[:, depth] - np.nanmean(values[:, depth])
        spread = float(np.std(y[told]))
        y = np.where(told, y / spread if spread > 0 else y, 0.0)
        deep = [depth for depth in there if depth < len(self._depths) - 1]
        size = count * (1 + len(deep))
        gram, moment = np.zeros((size, size)), np.zeros(size)
        for depth in there:
            block, sums = self._products[depth], features.T @ y[:, depth]
            gram[:count, :count] += block
            moment[:count] += sums
            if depth in deep:
                own = slice(count * (1 + deep.index(depth)), count * (2 + deep.index(depth)))
                gram[own, own] = DEVIATION**2 * block
                gram[own, :count] = gram[:count, own] = DEVIATION * block
                moment[own] = DEVIATION * sums
        prior = SCALE**2 * np.tile(self._columns.prior, 1 + len(deep))
        squares, number = float((y**2).sum()), int(told.sum())
        noise = max(NOISES, key=lambda noise: _evidence(gram, moment, squares, number, prior, noise))
        lower = np.linalg.cholesky(gram / noise + np.diag(1 / prior))
        whitened = np.linalg.solve(lower, moment / noise)
        drawn = np.linalg.solve(lower.T, whitened + HEAT * rng.standard_normal(size))
        return drawn[:count]


def _clipped(values: Array) -> Array:
    """At each depth, none is further below the median than `CLIP` times the distance of the best above it: a run that
    collapsed says that it did, and not how good its settings are."""
    values = values.copy()
    for column in values.T:
        if not np.isnan(column).all():
            middle = np.nanmedian(column)
            np.maximum(column, middle - CLIP * (np.nanmax(column) - middle), out=column)
    return values


def _evidence(gram: Array, moment: Array, squares: float, number: int, prior: Array, noise: float) -> float:
    """Log marginal likelihood, but for a constant: of `number` values with sum of squares `squares`."""
    lower = np.linalg.cholesky(gram / noise + np.diag(1 / prior))
    whitened = np.linalg.solve(lower, moment / noise)
    logs = 2 * np.log(np.diag(lower)).sum() + number * np.log(noise)
    return float(-(logs + squares / noise - whitened @ whitened) / 2)


class _Columns:
    """Points as rows of numbers. count: of columns. prior: (count,) variances relative to a main effect's.

    Levels are orthonormal contrasts, so that all levels are alike to the prior; a range is three polynomials. Where a
    branch does not hold, its columns are 0.
    """

    def __init__(self, space: Space):
        self._space = space
        self._places: dict[tuple[str, int], slice] = {}
        self._contrasts: dict[tuple[str, int], Array] = {}
        self._main = 0
        for factor in space.factors:
            for index, branch in enumerate(factor.branches):
                if branch.levels is not None:
                    self._contrasts[factor.name, index] = _contrasts(len(branch.levels))
                width = 3 if branch.levels is None else len(branch.levels) - 1
                self._places[factor.name, index] = slice(self._main, self._main + width)
                self._main += width
        pairs = [pair for one, two in combinations(self._places, 2) for pair in self._pairs(one, two)]
        pairs = pairs if len(pairs) <= MOST_PAIRS else []
        self._left, self._right = (np.array([pair[side] for pair in pairs], dtype=int) for side in (0, 1))
        self.count = 1 + self._main + len(pairs)
        self.prior = np.array([INTERCEPT, *[1.0] * self._main, *[INTERACTION**2] * len(pairs)])

    def _pairs(self, one: tuple[str, int], two: tuple[str, int]) -> list[tuple[int, int]]:
        """The columns of two branches that are multiplied. None where both are of one factor, or one is a condition of
        the other; of ranges, the slope and the curvature."""
        if one[0] == two[0] or one[0] in self._branch(two).when or two[0] in self._branch(one).when:
            return []
        first, second = (
            range(self._places[key].start, min(self._places[key].stop, self._places[key].start + 2))
            if self._branch(key).levels is None
            else range(self._places[key].start, self._places[key].stop)
            for key in (one, two)
        )
        return [(a, b) for a in first for b in second]

    def _branch(self, key: tuple[str, int]) -> Branch:
        return self._space[key[0]].branches[key[1]]

    def of(self, points: Sequence[Mapping[str, Any]]) -> Array:
        """(points, count)."""
        main = np.zeros((len(points), self._main))
        for row, values in zip(main, points, strict=True):
            for factor in self._space.factors:
                index = factor.branch(values)
                if index is not None and factor.name in values:
                    row[self._places[factor.name, index]] = self._numbers(factor.name, index, values[factor.name])
        return np.hstack([np.ones((len(points), 1)), main, main[:, self._left] * main[:, self._right]])

    def _numbers(self, name: str, index: int, value: Any) -> Any:
        branch = self._space[name].branches[index]
        if branch.levels is not None:
            place = next(
                at for at, level in enumerate(branch.levels)
                if level == value and isinstance(level, bool) == isinstance(value, bool)
            )  # fmt: skip
            return self._contrasts[name, index][place]
        at = 2 * branch.position(value) - 1
        return at, at * at - 1 / 3, at**3 - 0.6 * at


def _contrasts(levels: int) -> Array:
    """(levels, levels - 1): orthonormal columns that sum to 0 (Helmert)."""
    found = np.zeros((levels, levels - 1))
    for column in range(levels - 1):
        found[: column + 1, column] = 1.0
        found[column + 1, column] = -(column + 1.0)
    found /= np.linalg.norm(found, axis=0)
    return found


def _drawn(space: Space, rng: np.random.Generator) -> dict[str, Any]:
    """A random point."""
    values: dict[str, Any] = {}
    for factor in space.factors:
        index = factor.branch(values)
        if index is not None:
            values[factor.name] = factor.branches[index].at(float(rng.random()))
    return values
