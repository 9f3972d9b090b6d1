"""D-optimal designs by exchange: which of many candidate arms estimate the coefficients of a linear model best.

Cook & Nachtsheim's (1980, Technometrics 22: 315) modified Fedorov exchange over a given list of candidates, from
several random starts. Candidates that cannot be run are simply not on the list, and arms that must be run stay in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

STARTS, SCAN = 20, 4  # random starts, and those for a size that is only tried
_RIDGE = 1e-6  # so that an exchange can lead out of a singular start; never part of the reported efficiency


def main_effects(levels: Sequence[Sequence[Any]], points: Sequence[Sequence[Any]]) -> np.ndarray:
    """The model's columns at each point, (points, 1 + Σ (levels - 1)): a one, then for each factor a dummy for every
    level but its first. The efficiency of a design does not depend on which level is the first."""
    columns = [[float(point[i] == level) for point in points] for i, found in enumerate(levels) for level in found[1:]]
    return np.column_stack([np.ones(len(points)), *columns])


def good_size(model: np.ndarray, seed: int) -> int:
    """The number of arms, from one more than the columns of `model` to twice as many, whose design is most efficient
    for its size; the most arms where several are. So designs are balanced where that can be, and leave something to
    check the model by."""
    columns = model.shape[1]
    sizes = range(columns + 1, 2 * columns + 1)
    found = {}
    for size in sizes:
        if size <= len(model):
            rows, efficiency = _search(model, size, seed, 0, SCAN)
            found[size] = round(efficiency, 3) if rows else 0.0
    return max(found, key=lambda size: (found[size], size), default=len(model))


def choose(model: np.ndarray, arms: int, seed: int, keep: int = 0) -> tuple[list[int], float]:
    """`arms` different rows of `model` (candidates, columns), row `keep` among them, and their D-efficiency.

    The efficiency is (|X'X / n| / |C'C / N|)^(1/columns) against running all N candidates C. Where every combination
    of levels is a candidate that is the best there is, and 1 is reached by balanced (orthogonal) designs. ValueError
    where there are fewer candidates or arms than columns, or no such rows that tell all columns apart.
    """
    n, columns = model.shape
    arms = min(arms, n)
    if arms < columns:
        raise ValueError(f"{columns} coefficients need as many arms, and there are {arms}")
    if np.linalg.matrix_rank(model) < columns:
        raise ValueError("the combinations that can be run do not tell all levels apart")
    rows, efficiency = _search(model, arms, seed, keep, STARTS)
    if not rows:
        raise ValueError(f"no {arms} of the {n} combinations that can be run tell all levels apart")
    return rows, efficiency


def _search(model: np.ndarray, arms: int, seed: int, keep: int, starts: int) -> tuple[list[int], float]:
    """The best of so many random starts; no rows where all end singular."""
    n, columns = model.shape
    rng = np.random.default_rng(seed)
    best, score = np.array([], dtype=int), -np.inf
    for _ in range(1 if arms == n else starts):
        rows = np.r_[keep, rng.permutation(np.delete(np.arange(n), keep))[: arms - 1]]
        rows = _exchange(model, rows)
        found = _log_det(model[rows]) / columns
        if found > score + 1e-9:
            best, score = rows, found
    return sorted(map(int, best)), float(np.exp(score - _log_det(model) / columns))


def _log_det(model: np.ndarray) -> float:
    """ln |X'X / n|; -inf where singular."""
    sign, value = np.linalg.slogdet(model.T @ model / len(model))
    return float(value) if sign > 0 and value > -30 * model.shape[1] else -np.inf


def _exchange(model: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Swap rows other than the first, one by one, for the unused candidate that raises |X'X| most, until none does.

    Replacing row i by candidate x multiplies |X'X| by (1 + d(x)) (1 - d(i)) + d(x, i)^2 with d(x, y) = x' (X'X)^-1 y.
    """
    rows = rows.copy()
    ridge = _RIDGE * np.eye(model.shape[1])
    improved = True
    while improved:
        improved = False
        for place in range(1, len(rows)):
            design = model[rows]
            inverse = np.linalg.inv(design.T @ design + ridge)
            weighted = model @ inverse
            of_candidates = (weighted * model).sum(1)
            with_row = weighted @ model[rows[place]]
            gain = (1 + of_candidates) * (1 - of_candidates[rows[place]]) + with_row**2
            gain[rows] = 0.0
            best = int(gain.argmax())
            if gain[best] > 1 + 1e-9:
                rows[place], improved = best, True
    return rows
