"""Plans that were run to their end before the one in force: their verdicts stand, and what both say together describes.

A study that asks for more seeds after its plan has ended gets a second plan, with fresh runs and an α of its own.
Whoever asked had seen the first one's verdicts, so nothing that pools the two can be a verdict.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from resnetlab.analysis.confirm.effects_table import estimate
from resnetlab.analysis.confirm.looks_taken import runs_of
from resnetlab.analysis.intervals import t_interval, welch_df
from resnetlab.analysis.results import Results
from resnetlab.errors import BadData
from resnetlab.planning.plan import Plan

COLUMNS = [
    "plan_hash", "seeds", "alpha", "name", "verdict", "estimate", "low", "high", "pooled", "pooled_low", "pooled_high",
]  # fmt: skip


def earlier_plans(results: Results, effects: pd.DataFrame) -> pd.DataFrame:
    """A row for each comparison of an earlier plan that ended and that `effects`, of the plan in force, has too, of the
    same incumbent and metric; columns `COLUMNS`. pooled: both estimates, each weighed by its precision, and the 95%
    interval that they would have if the second plan had not followed the first."""
    rows = []
    now = effects.dropna(subset=["standard_error"]).set_index("name")
    for plan, found in _ended(results):
        for row in found.dropna(subset=["standard_error"]).itertuples(index=False):
            if row.name not in now.index:
                continue
            both = [(one.estimate, one.standard_error, one.df) for one in (row, now.loc[row.name])]
            head = [plan.plan_hash, plan.seeds, plan.alpha, row.name, row.verdict, row.estimate, row.low, row.high]
            rows.append([*head, *_pooled(*map(np.array, zip(*both, strict=True)))])
    return pd.DataFrame(rows, columns=COLUMNS)


def _ended(results: Results) -> list[tuple[Plan, pd.DataFrame]]:
    """The earlier plans of which every run has ended, with their effects."""
    found, now = [], results.planned
    for name in results.folder.names("plans"):
        content = results.folder.read_json(f"plans/{name}") or {}
        content.pop("plan_hash", None)
        plan = Plan(**content)
        if plan.plan_hash == now.plan_hash or (plan.incumbent, plan.metric) != (now.incumbent, now.metric):
            continue
        try:
            runs = runs_of(plan, results.other_confirm[results.other_confirm["plan_hash"] == plan.plan_hash])
        except BadData:  # of a plan that is not in force, nothing but this table would be missing
            continue
        if runs.finished:
            found.append((plan, estimate(runs)))
    return found


def _pooled(estimates: np.ndarray, errors: np.ndarray, dfs: np.ndarray) -> tuple[float, float, float]:
    weights = errors**-2.0 / (errors**-2.0).sum()
    parts = (weights * errors) ** 2
    low, high = t_interval(weights @ estimates, np.sqrt(parts.sum()), welch_df(parts, dfs))
    return float(weights @ estimates), float(low), float(high)
