"""How much of the error rate each look at the confirm runs may spend: O'Brien-Fleming spending (Lan & DeMets 1983).

A look after k of K blocks has the information t = k / K. By then at most α(t) = 4 [1 - Φ(z(1 - α/4) / √t)] of a
two-sided α may be spent (both tails of `sfLDOF` of the R package gsDesign). What each look may spend on its own follows
by recursive integration over the runs that went on (Armitage, McPherson & Rowe 1969; Jennison & Turnbull 2000, chapter
19). Levels are two-sided and nominal: a p of the look itself is held to them, whatever its degrees of freedom.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import special
from scipy.interpolate import PchipInterpolator

FIRST = 2  # blocks at the first look: one run an arm has no spread
MOST_LOOKS = 100
_LEAST = 1e-290  # that a look spends, for want of smaller numbers
_NODES = 8.0  # of the quadrature, for each standard deviation of what a block adds
_COARSE = np.concatenate([np.logspace(-10, -3, 15), np.linspace(0.002, 0.9, 40), [0.95, 0.99]])


def spent(alpha: np.ndarray | float, t: np.ndarray | float) -> np.ndarray:
    """The part of a two-sided `alpha` that may be spent by information `t`, from 0 to 1."""
    tail = -special.ndtri(np.asarray(alpha) / 4)
    return np.asarray(4 * special.ndtr(-tail / np.sqrt(t)))


def levels(alphas: Sequence[float], times: Sequence[float]) -> np.ndarray:
    """(looks, alphas): the nominal level of each look, at information `times` that rise to 1."""
    alpha, t = np.array(alphas), np.array(times)
    share = np.diff(spent(alpha, t[:, None]), axis=0, prepend=0.0)  # (looks, alphas) of each look
    share = np.maximum(share, _LEAST)
    bound = -special.ndtri(share[0] / 2) * np.sqrt(t[0])  # of |B|, where B(t) = Z √t is a Brownian motion
    found = [share[0]]
    nodes, weights = _quadrature(bound.max() / np.sqrt(np.diff(t, prepend=0.0).min()))
    at = bound[:, None] * nodes  # (alphas, nodes) in 0 … bound
    mass = bound[:, None] * weights * 2 * _density(at / np.sqrt(t[0])) / np.sqrt(t[0])
    for i in range(1, len(t)):
        step = np.sqrt(t[i] - t[i - 1])
        bound = _solve(share[i], at, mass, step, bound)
        found.append(2 * special.ndtr(-bound / np.sqrt(t[i])))
        to = bound[:, None] * nodes
        kernel = _density((to[:, :, None] - at[:, None]) / step) + _density((to[:, :, None] + at[:, None]) / step)
        mass = bound[:, None] * weights * np.einsum("aij,aj->ai", kernel, mass) / step
        at = to
    return np.array(found)


def _quadrature(width: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on 0 … 1, for a range so many standard deviations of a step wide."""
    nodes, weights = np.polynomial.legendre.leggauss(max(32, int(_NODES + 2.0 * width)))
    return (nodes + 1) / 2, weights / 2


def _density(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi))


def _solve(share: np.ndarray, at: np.ndarray, mass: np.ndarray, step: float, bound: np.ndarray) -> np.ndarray:
    """The bound (alphas,) that |B| exceeds after the step with probability `share`: Newton's steps on its logarithm."""
    bound = bound.copy()
    for _ in range(50):
        above, below = (bound[:, None] - at) / step, (bound[:, None] + at) / step
        tail = (mass * (special.ndtr(-above) + special.ndtr(-below))).sum(-1)
        slope = (mass * (_density(above) + _density(below))).sum(-1) / step
        move = np.log(tail / share) * tail / slope
        bound = np.maximum(bound + move, bound / 4)
        if np.abs(move).max() < 1e-10:
            return bound
    raise ArithmeticError(f"no bound found for {share}")


@cache
def _levels(alphas: tuple[float, ...], blocks: int) -> np.ndarray:
    """(looks, alphas): as `levels`, after blocks 2, 3, …, `blocks`."""
    return levels(alphas, [block / blocks for block in range(FIRST, blocks + 1)])


def nominal(alpha: float, blocks: int) -> np.ndarray:
    """The level of each look after blocks 2, 3, …, `blocks` of a single test at two-sided `alpha`."""
    return np.asarray(_levels((float(alpha),), blocks)[:, 0])


@cache
def _scale(blocks: int, look: int, exact: tuple[float, ...]) -> tuple[PchipInterpolator, float]:
    coarse = [alpha for alpha in _COARSE.tolist() if not np.isclose(alpha, exact, rtol=1e-3, atol=0).any()]
    alphas = tuple(sorted({*coarse, *exact}))
    found = _levels(alphas, blocks)[look]
    kept = found > 10 * _LEAST
    x, y = special.ndtri(found[kept] / 2), special.ndtri(np.array(alphas)[kept] / 2)
    return PchipInterpolator(x, y, extrapolate=True), float(x[0])


def least_alpha(p: np.ndarray, block: int, blocks: int, exact: tuple[float, ...]) -> np.ndarray:
    """The least two-sided α at which a two-sided `p` at the look after `block` of `blocks` is rejected; NaN stays NaN.

    Sequential p-values (Liu & Anderson 2008): their minimum over the looks so far can be held to any level, and Holm's
    adjustment of it is the procedure of Maurer & Bretz (2013) with equal weights. exact: levels, such as α/m, to which
    the answer is to be held; between others it is interpolated.
    """
    p = np.asarray(p, dtype=float)
    if block >= blocks and blocks <= FIRST:
        return p
    rise, lowest = _scale(blocks, block - FIRST, exact)
    with np.errstate(invalid="ignore"):
        x = special.ndtri(np.clip(p, _LEAST, 1.0) / 2)
        found = 2 * special.ndtr(rise(np.maximum(x, lowest)))
    return np.where(np.isnan(p), np.nan, np.clip(found, 0.0, 1.0))
