"""Effects of factors in runs that were made elsewhere, by the estimators of the confirm stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from resnetlab.analysis.confirm import effects_table
from resnetlab.analysis.confirm.confirm_runs import OK, ConfirmRuns
from resnetlab.analysis.confirm.estimands import SWAP
from resnetlab.analysis.foreign.refusals import Request, crossing
from resnetlab.analysis.foreign.tables import RunTable
from resnetlab.planning.plan import Layout, PlannedArm
from resnetlab.study.metrics import Metric
from resnetlab.wording import level_text

SWAP_HERE = "change at the reference levels"
MOST_DIGITS = 12


@dataclass(frozen=True)
class Comparison:
    """Runs that were accepted, and what they say; each computed when it is first asked for. notes: for all effects."""

    place: str
    request: Request
    runs: ConfirmRuns
    notes: tuple[str, ...]

    @classmethod
    def of(cls, table: RunTable, request: Request) -> Comparison:
        """Lay out the runs of `table`. BadRequest, or BadData where they do not carry the comparison."""
        found = crossing(table, request)
        reference = {name: levels[0] for name, levels in found.levels.items()}
        arms = []
        for cell in found.values:
            values = dict(zip(found.levels, cell, strict=True))
            name = ", ".join(f"{factor}={level_text(level)}" for factor, level in values.items())
            changed = {factor: level for factor, level in values.items() if level != reference[factor]}
            arms.append(PlannedArm(name=name, values=values, changed=changed))
        lower = request.lower_is_better or table.better.get(request.metric) == "lower"
        layout = Layout(
            incumbent=reference,
            design=found.design,
            compared={name: list(levels[1:]) for name, levels in found.levels.items()},
            arms=arms,
            seeds=len(found.seeds),
            alpha=request.alpha,
            delta=request.delta,
            metric=Metric(request.metric, request.metric, better="lower" if lower else "higher"),
        )
        measured = np.array(list(found.values.values()))
        runs = ConfirmRuns(layout, measured, np.full(measured.shape, OK, dtype=object))
        return cls(table.place, request, runs, found.notes)

    @property
    def layout(self) -> Layout:
        return self.runs.plan

    @cached_property
    def effects(self) -> pd.DataFrame:
        """The effects table, columns of `schema("effects")`; estimates in the metric's own unit."""
        found = effects_table.estimate(self.runs)
        return found.assign(estimand=found["estimand"].replace(SWAP, SWAP_HERE), plan_hash=None)

    @cached_property
    def performance(self) -> pd.DataFrame:
        """The metric of each combination, as `effects_table.performance`."""
        return effects_table.performance(self.runs)

    @cached_property
    def metric(self) -> Metric:
        """How the metric is shown: as it is, with the digits that its spread deserves."""
        spread = self.effects["standard_error"].median()
        if not spread > 0:
            spread = max(np.ptp(self.runs.values), 0.01)
        digits = int(np.clip(np.ceil(-np.log10(spread)) + 1, 0, MOST_DIGITS))
        name = self.request.metric
        return Metric(name, name, better=self.layout.metric.better, digits=digits)

    @cached_property
    def effect(self) -> Metric:
        """How a difference of the metric is shown."""
        which = f"{self.metric.better} is better"
        return replace(self.metric, name="effect", label=f"Effect on {self.request.metric} ({which})")
