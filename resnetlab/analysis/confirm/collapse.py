"""What rests on untrained runs: those that collapsed (ended no better than guessing) and those that diverged.

A claim may not come from leaving runs out on one side. So effects are estimated from all runs that gave a value,
collapsed ones included, and three answers are compared: this one; the same with diverged runs at the level of
guessing; and the same without untrained runs on either side. A verdict that they do not share is inconclusive. The
exception is an arm that fails as a rule: the first two answers find the effect, and the rates of untrained runs differ
(Fisher's exact test over the runs of both sides, Bonferroni's adjustment over the family).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from resnetlab.analysis.intervals import LEVEL

Sides = tuple[np.ndarray, np.ndarray]  # the arms that count for a question, and against it


@dataclass(frozen=True)
class Answer:
    """What one way of counting says, all (repeats, questions).

    verdict: words; estimate: differences; claims: where the verdict says that there is a difference of this sign.
    """

    verdict: np.ndarray
    estimate: np.ndarray
    claims: np.ndarray


@dataclass(frozen=True)
class Runs:
    """Confirm runs in any number of repeats.

    values: (repeats, arms, seeds), NaN where a run gave none. untrained: the same shape, which runs collapsed or
    diverged. guessing: (arms,) what a run scores that learnt nothing, NaN where it is not known. better: 1 where more
    is better, -1 where less is.
    """

    values: np.ndarray
    untrained: np.ndarray
    guessing: np.ndarray
    better: int = 1

    @property
    def trained(self) -> np.ndarray:
        """The values of the runs that neither collapsed nor diverged."""
        return np.where(self.untrained, np.nan, self.values)

    @property
    def filled(self) -> np.ndarray:
        """The values, with diverged runs at the level of guessing."""
        return np.where(self.untrained & np.isnan(self.values), self.guessing[:, None], self.values)

    def of(self, repeats: np.ndarray) -> Runs:
        return Runs(self.values[repeats], self.untrained[repeats], self.guessing, self.better)


def taken_back(
    answer: Callable[[np.ndarray], Answer],
    given: Answer,
    runs: Runs,
    sides: Sequence[Sides],
    families: Sequence[np.ndarray],
    alpha: float,
) -> np.ndarray:
    """Which of the verdicts in `given` turn on untrained runs: (repeats, questions).

    answer: to other values of the same runs. given: the answer to `runs.values`. sides: of each question. families:
    indices of questions that are tested together at the error rate `alpha`.
    """
    some = np.flatnonzero(runs.untrained.any((-2, -1)))
    if not len(some):
        return np.zeros(given.verdict.shape, dtype=bool)
    part = runs.of(some)
    filled, trained = (_in_all(given, some, answer(values)) for values in (part.filled, part.trained))
    return turning((given, filled, trained), runs, sides, families, alpha)


def _in_all(given: Answer, some: np.ndarray, found: Answer) -> Answer:
    """`given`, with what was found in `some` repeats."""
    filled = Answer(*(part.copy() for part in (given.verdict.astype(object), given.estimate, given.claims)))
    filled.verdict[some], filled.estimate[some], filled.claims[some] = found.verdict, found.estimate, found.claims
    return filled


def turning(
    answers: tuple[Answer, Answer, Answer],
    runs: Runs,
    sides: Sequence[Sides],
    families: Sequence[np.ndarray],
    alpha: float,
) -> np.ndarray:
    """`taken_back`, where the answers to `runs.values`, `.filled` and `.trained` are known, in all repeats."""
    back = np.zeros(answers[0].verdict.shape, dtype=bool)
    some = np.flatnonzero(runs.untrained.any((-2, -1)))
    if not len(some):
        return back
    runs = runs.of(some)
    first, filled, trained = (Answer(a.verdict[some], a.estimate[some], a.claims[some]) for a in answers)
    counted = np.where(_guessing_known(runs, sides), _same(first, filled), _not_for_it(first, runs, sides))
    alike = _same(first, trained) | _rates_explain(first, runs, sides, families, alpha)
    concerned = np.stack([runs.untrained[:, np.union1d(*side)].any((-2, -1)) for side in sides], axis=-1)
    back[some] = concerned & ~(counted & alike)
    return back


def _same(one: Answer, other: Answer) -> np.ndarray:
    alike = one.verdict == other.verdict
    alike |= (one.verdict == "inconclusive") & (other.verdict == "not estimable")  # which says no more
    return np.asarray(alike & (~one.claims | (np.sign(one.estimate) == np.sign(other.estimate))))


def _guessing_known(runs: Runs, sides: Sequence[Sides]) -> np.ndarray:
    return np.array([not np.isnan(runs.guessing[np.union1d(*side)]).any() for side in sides])


def _not_for_it(first: Answer, runs: Runs, sides: Sequence[Sides]) -> np.ndarray:
    """Where diverged runs have no value to be given: whether they can only speak for the verdict. Both sides lost as
    many, or it claims an effect and the worse side lost more."""
    lost = (runs.untrained & np.isnan(runs.values)).sum(-1)
    more = np.stack([lost[:, level].sum(-1) - lost[:, reference].sum(-1) for level, reference in sides], axis=-1)
    return np.asarray((more == 0) | (first.claims & (more * runs.better * first.estimate < 0)))


def _rates_explain(
    first: Answer, runs: Runs, sides: Sequence[Sides], families: Sequence[np.ndarray], alpha: float
) -> np.ndarray:
    """Whether the worse side of an effect is shown to have more untrained runs."""
    counts, of = runs.untrained.sum(-1), (runs.untrained | ~np.isnan(runs.values)).sum(-1)
    found = np.zeros(first.verdict.shape, dtype=bool)
    for family in families:
        for i in family:
            level, reference = sides[i]
            for row in np.flatnonzero(first.claims[:, i]):
                a, b = int(counts[row, level].sum()), int(counts[row, reference].sum())
                p = rates_differ(a, int(of[row, level].sum()), b, int(of[row, reference].sum()))
                worse = (a - b) * runs.better * first.estimate[row, i] < 0
                found[row, i] = worse and p * len(family) <= alpha
    return found


@cache
def rates_differ(a: int, of_a: int, b: int, of_b: int) -> float:
    """Fisher's exact two-sided p of `a` of `of_a` runs and `b` of `of_b` having one rate."""
    return float(stats.fisher_exact([[a, of_a - a], [b, of_b - b]]).pvalue)


def rates(arms: Sequence[str], untrained: np.ndarray, told: np.ndarray) -> pd.DataFrame:
    """How many runs of each arm are untrained, beside the first arm's: a row an arm.

    untrained, told: (arms, seeds), which runs are, and of which it is known. Columns: arm, runs (of which it is known),
    untrained, rate, low, high (Wilson's 95% interval), difference, difference_low, difference_high (from the first arm;
    Newcombe's interval, 1998, Statistics in Medicine 17: 873, method 10), p (Fisher's exact test, not adjusted).
    """
    runs, lost = told.sum(-1), (untrained & told).sum(-1)
    rows: list[dict[str, Any]] = []
    for arm, n, k in zip(arms, runs.tolist(), lost.tolist(), strict=True):
        low, high = _wilson(k, n)
        row = {"arm": arm, "runs": n, "untrained": k, "rate": k / n if n else np.nan, "low": low, "high": high}
        if rows and n and rows[0]["runs"]:
            first = rows[0]
            gap = row["rate"] - first["rate"]
            row |= {
                "difference": gap,
                "difference_low": gap - np.hypot(row["rate"] - low, first["high"] - first["rate"]),
                "difference_high": gap + np.hypot(high - row["rate"], first["rate"] - first["low"]),
                "p": rates_differ(k, n, first["untrained"], first["runs"]),
            }
        rows.append(row)
    names = ["arm", "runs", "untrained", "rate", "low", "high", "difference", "difference_low", "difference_high", "p"]
    return pd.DataFrame(rows, columns=names)


def _wilson(k: int, n: int) -> tuple[float, float]:
    if not n:
        return np.nan, np.nan
    found = stats.binomtest(k, n).proportion_ci(LEVEL, "wilson")
    return float(found.low), float(found.high)
