"""Confirmed effects: what each choice does to test accuracy, from the runs that a plan asked for and nothing else.

One estimator for all designs, in NumPy and for any number of repeats at once: the calibration runs the very same code.
Its table with words for people is in `effects_table`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from resnetlab.analysis.confirm.collapse import Answer, Runs, Sides, taken_back
from resnetlab.analysis.confirm.contrasts import CellMeans, Estimates, contrast, holm, verdicts, whole_blocks
from resnetlab.analysis.confirm.estimands import Estimands
from resnetlab.analysis.confirm.images import UNKNOWN, ImageTerm
from resnetlab.planning.plan import Layout
from resnetlab.wording import level_text

FAMILIES = ("swap", "main", "interaction")  # Holm's adjustment runs over each on its own


@dataclass(frozen=True)
class Analysis:
    """Every question of a design answered in every repeat; all arrays (repeats, questions), on the runs' scale.

    estimates: with the error that the verdict takes: of `these` test images or, where it is about new ones and their
    part is known, of `new`. shown: a main effect gives way to its simple effects where an interaction of its factor is
    found. turns: the verdict turns on untrained runs (`analyse_runs`), which makes it inconclusive. families: the
    questions that each adjustment takes together, but for simple effects. shared: where variances are those about what
    the arms of a seed share.
    """

    questions: Estimands
    cells: CellMeans
    estimates: Estimates
    these: Estimates
    new: Estimates
    p_adjusted: np.ndarray
    verdict: np.ndarray
    shown: np.ndarray
    turns: np.ndarray
    families: Sequence[np.ndarray]
    shared: np.ndarray
    counted: np.ndarray | None = None  # (repeats, questions, arms) runs, where questions rest on unlike ones
    settled: np.ndarray | None = None  # which have a verdict before all runs have ended

    def n(self, i: int, arms: np.ndarray) -> int:
        """How many runs of these arms question `i` of a single repeat rests on."""
        return int((self.cells.n[0] if self.counted is None else self.counted[0, i])[arms].sum())

    def family(self, i: int) -> np.ndarray:
        """The questions of a single repeat that question `i` is adjusted together with, itself among them."""
        if self.questions.items[i].kind == "simple":
            simple = self.questions.of_kind("simple")
            return np.asarray(simple[self.shown[0, simple]])
        return next(family for family in self.families if i in family)

    @property
    def answer(self) -> Answer:
        return Answer(self.verdict, self.estimates.estimate, self.verdict == "effect")


def analyse(
    asked: Estimands,
    values: np.ndarray,
    alpha: float,
    delta: float,
    doubted: np.ndarray | None = None,
    images: ImageTerm | None = None,
    about: str = "these",
) -> Analysis:
    """Answer `asked` from `values` (repeats, arms, seeds), NaN where a run gave none.

    alpha: familywise error rate of each family. delta: smallest effect of interest, on their scale. doubted: (repeats,
    questions) interactions that do not count as found, whatever their p. images: the part of the choice of test images
    in each variance. about: `new` images or `these`, as of a plan.
    """
    cells = CellMeans.of(values, asked.blocks)
    these = contrasts(asked, cells)
    new = (images or UNKNOWN).widened(these)
    estimates = new.else_(these) if about == "new" else these
    p = estimates.p
    adjusted = np.full(p.shape, np.nan)
    families = [asked.of_kind(kind) for kind in FAMILIES]
    for family in families:
        adjusted[:, family] = holm(p[:, family])
    shown = np.ones(p.shape, dtype=bool)
    found = adjusted <= alpha if doubted is None else (adjusted <= alpha) & ~doubted
    simple_effects(asked, p, adjusted, shown, found)
    verdict = verdicts(estimates, adjusted, alpha, delta)
    turns = np.zeros(p.shape, dtype=bool)
    shared = np.broadcast_to(asked.blocks & whole_blocks(values)[:, None], p.shape)
    return Analysis(asked, cells, estimates, these, new, adjusted, verdict, shown, turns, families, shared)


def analyse_runs(
    asked: Estimands,
    runs: Runs,
    sides: Sequence[Sides],
    alpha: float,
    delta: float,
    images: ImageTerm | None = None,
    about: str = "these",
) -> Analysis:
    """`analyse`, where verdicts that turn on untrained runs are inconclusive. sides: as of `sides_of`."""

    def answered(values: np.ndarray) -> Answer:
        return analyse(asked, values, alpha, delta, images=images, about=about).answer

    found = analyse(asked, runs.values, alpha, delta, images=images, about=about)
    families = [asked.of_kind(kind) for kind in (*FAMILIES, "simple")]
    turns = taken_back(answered, found.answer, runs, sides, families, alpha) & (found.verdict != "not estimable")
    if turns[:, asked.of_kind("interaction")].any():  # such an interaction brings no simple effects in
        found = analyse(asked, runs.values, alpha, delta, turns, images, about)
    return replace(found, verdict=np.where(turns, "inconclusive", found.verdict), turns=turns)


def contrasts(asked: Estimands, cells: CellMeans) -> Estimates:
    """Repeats in which the same arms have runs share their weights."""
    shape = len(cells.n), len(asked.items)
    found = {name: np.full(shape, np.nan) for name in ("estimate", "standard_error", "df")}
    patterns, which = np.unique(cells.n > 0, axis=0, return_inverse=True)
    for number, ran in enumerate(patterns):
        rows = which.reshape(-1) == number
        part = CellMeans(cells.mean[rows], cells.variance[rows], cells.n[rows])
        answer = contrast(part, asked.weights(ran), asked.crossed)
        for name, values in found.items():
            values[rows] = getattr(answer, name)
    return Estimates(**found)


def simple_effects(asked: Estimands, p: np.ndarray, adjusted: np.ndarray, shown: np.ndarray, found: np.ndarray) -> None:
    """Fill in what is shown where an interaction is `found`, and the adjusted p of simple effects: Holm over those
    shown, and at least that of the interaction that brought them in, so that a false interaction is the only way to a
    false simple effect where there is none of either."""
    simple = asked.of_kind("simple")
    shown[:, simple] = False
    gate = np.full(p.shape, np.nan)
    for position in asked.of_kind("interaction"):
        pair = asked.items[position].pair
        there = found[:, position]
        for other, item in enumerate(asked.items):
            if item.kind == "simple" and item.pair == pair:
                shown[there, other] = True
                gate[there, other] = np.fmin(gate[there, other], adjusted[there, position])
            elif item.kind == "main" and item.factor in pair:
                shown[there, other] = False
    hidden = np.where(shown[:, simple], p[:, simple], np.nan)
    adjusted[:, simple] = np.fmax(holm(hidden, shown[:, simple].sum(-1)), gate[:, simple])


def lack_of_fit(asked: Estimands, cells: CellMeans) -> float:
    """p of the arms differing only by main effects, where `asked` takes that for granted; cells: (arms,).

    F test of what the model leaves of the arm means against pure error (Box, Hunter & Hunter 2005, chapter 9), which
    takes variances as equal. NaN where the model is not additive, no arm is left over, or none has two runs.
    """
    ran = np.flatnonzero(cells.n > 0)
    model, n = asked.model[ran], cells.n[ran]
    over, df = len(ran) - np.linalg.matrix_rank(model), int(cells.df.sum())
    if not asked.additive or over < 1 or df < 1:
        return float("nan")
    root = np.sqrt(n)
    fitted = model @ np.linalg.lstsq(model * root[:, None], cells.mean[ran] * root, rcond=None)[0]
    error = float((np.where(cells.df > 0, cells.variance, 0.0) * cells.df).sum() / df)
    left = float((n * (cells.mean[ran] - fitted) ** 2).sum() / over)
    return float(stats.f.sf(left / error, over, df)) if error > 1e-24 else float("nan")


def sides_of(plan: Layout, asked: Estimands) -> list[Sides]:
    """For each question the design rows that count for it and against it when every arm has run; in an additive
    model, where least squares draws a little on all, those with the level and with the reference."""
    if asked.additive:
        levels = {name: np.array([level_text(arm.values[name]) for arm in plan.arms]) for name in plan.compared}
        return [
            (np.flatnonzero(levels[q.factor] == q.level), np.flatnonzero(levels[q.factor] == q.reference))
            for q in asked.items
        ]
    weights = np.nan_to_num(asked.weights(np.ones(len(asked.model), dtype=bool)))
    return [(np.flatnonzero(row > 0), np.flatnonzero(row < 0)) for row in weights]
