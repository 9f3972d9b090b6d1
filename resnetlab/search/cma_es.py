"""CMA-ES (Hansen 2016) by the package cmaes, for spaces of ranges alone.

Optuna's own sampler keeps the strategy's state in its study, where it is lost when a sweep is rebuilt from rows. Here a
proposal follows from its number and from the trials that have ended: generation g are the proposals g·P+1 to (g+1)·P of
a population P, it is taken in once all of them have ended, and proposals are drawn from what has been taken in by then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from resnetlab.errors import BadRequest
from resnetlab.study import Study
from resnetlab.study.space import Branch

SIGMA = 1 / 6  # of the width of each range: the first step, as in Optuna


class Ended(NamedTuple):
    """A trial that is over: its values, the last value of the metric (None where it failed), after how many epochs."""

    values: dict[str, Any]
    objective: float | None
    epochs: int


def check_installed(study: Study) -> None:
    """BadRequest where the study proposes by CMA-ES and the package is not there."""
    if study.search.sampler == "cma-es" and find_spec("cmaes") is None:
        raise BadRequest(
            "search.sampler: cma-es needs the package cmaes, which is not installed (allowed: pip install "
            "'resnetlab[cma]', or another sampler)"
        )


class CmaEs:
    """Begins at the best trial of a warm start, else at the baseline."""

    def __init__(self, study: Study, seed: int):
        self._branches = {factor.name: factor.branches[0] for factor in study.space.factors}
        self._sign, self._seed = study.searched.sign, seed
        self._start = study.baseline_values()
        self._cma: Any = None
        self._taken = 0  # generations

    def begin_at(self, trials: Sequence[Ended], epochs: int) -> None:
        """Where the best of these trials is that ran all `epochs`."""
        whole = [trial for trial in trials if trial.objective is not None and trial.epochs == epochs]
        if whole:
            self._start = max(whole, key=lambda trial: self._sign * (trial.objective or 0.0)).values

    def propose(self, seed: int, ended: Mapping[int, Ended]) -> dict[str, Any]:
        """A point. ended: trials by the number of their proposal, the first of which is the baseline's."""
        if self._cma is None:
            from cmaes import CMA

            bounds = np.array([[0.0, 1.0]] * len(self._branches))
            self._cma = CMA(self._positions(self._start), SIGMA, bounds, seed=self._seed % 2**32)
        size = self._cma.population_size
        while len(generation := [ended[n] for n in self._numbers(size) if n in ended]) == size:
            self._take(generation)
            self._taken += 1
        self._cma.reseed_rng(seed % 2**32)
        point = self._cma.ask()
        placed = zip(self._branches.items(), point, strict=True)
        return {name: _value(branch, float(at)) for (name, branch), at in placed}

    def _numbers(self, size: int) -> range:
        """Of the proposals that are the next generation to be taken in."""
        return range(self._taken * size + 1, (self._taken + 1) * size + 1)

    def _take(self, generation: list[Ended]) -> None:
        """By rank alone: those that ran longer before those that were stopped, which come before those that failed."""
        ranked = sorted(generation, key=self._merit, reverse=True)
        self._cma.tell([(self._positions(trial.values), float(rank)) for rank, trial in enumerate(ranked)])

    def _merit(self, trial: Ended) -> tuple[int, float]:
        return (-1, 0.0) if trial.objective is None else (trial.epochs, self._sign * trial.objective)

    def _positions(self, values: Mapping[str, Any]) -> Any:
        return np.array([branch.position(values[name]) for name, branch in self._branches.items()])


def _value(branch: Branch, position: float) -> Any:
    """The inverse of `Branch.position` for a range."""
    low, high = float(branch.low), float(branch.high)  # type: ignore[arg-type]
    if branch.log:
        value = math.exp(math.log(low) + position * (math.log(high) - math.log(low)))
    else:
        value = low + position * (high - low)
    value = min(max(value, low), high)
    return round(value) if branch.integer else value
