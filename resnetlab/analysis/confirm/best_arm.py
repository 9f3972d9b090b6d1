"""Which arm of a design is best, if the runs can tell: the arms that may be, and how far the best leads at least.

Multiple comparisons with the best (Hsu 1984, Annals of Statistics 12: 1136) in Bonferroni's form, with unequal
variances: an arm is shown to be worse where the one-sided interval of the highest mean's lead over it, at 1 - α/arms,
is above 0. So in at most α of studies is the truly best arm among those shown to be worse, or a lead stated that is not
there. The lead is on new images where verdicts are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.contrasts import CellMeans, contrast
from resnetlab.analysis.confirm.images import together


@dataclass(frozen=True)
class Best:
    """Of the arms of one task. arm: that with the best mean; candidates: the arms that may be the best, `arm` first, by
    their means. lead: how much better than every other it is at least, in the unit of the runs; at most 0, or NaN,
    where it cannot be told from the others. All arms are design rows; `of` is how many were compared."""

    task: str
    arm: int
    candidates: tuple[int, ...]
    lead: float
    of: int

    @property
    def told(self) -> bool:
        return len(self.candidates) == 1


def best_arms(runs: ConfirmRuns) -> list[Best]:
    """One for each task with two arms or more that have runs; none before every planned run has ended.

    Diverged runs count as guessing; where its level is not known, an arm that has one is not shown to be best.
    """
    if not runs.finished:
        return []
    plan, values = runs.plan, runs.in_repeats.filled[0]
    cells = CellMeans.of(values)
    found = []
    for task in dict.fromkeys(arm.task for arm in plan.arms):
        rows = [row for row, arm in enumerate(plan.arms) if arm.task == task and cells.n[row] > 0]
        if len(rows) > 1:
            found.append(_of_task(runs, cells, task, rows))
    return found


def _of_task(runs: ConfirmRuns, cells: CellMeans, task: str, rows: list[int]) -> Best:
    plan = runs.plan
    ordered = sorted(rows, key=lambda row: -plan.metric.sign * cells.mean[row])
    top, others = ordered[0], ordered[1:]
    weights = np.zeros((len(others), len(plan.arms)))
    weights[:, top] = plan.metric.sign
    weights[np.arange(len(others)), others] = -plan.metric.sign
    lead = contrast(cells, weights, crossed=False)
    if plan.about == "new":
        lead = together(runs.images, weights, ~np.isnan(runs.values)).widened(lead).else_(lead)
    low, _ = lead.interval(1 - 2 * plan.alpha / len(rows))
    if np.isnan(runs.in_repeats.filled[0][top][runs.untrained[top]]).any():
        low = np.full(len(low), np.nan)
    left = [row for row, bound in zip(others, low, strict=True) if not bound > 0]
    return Best(task, top, (top, *left), float(low.min()), len(rows))
