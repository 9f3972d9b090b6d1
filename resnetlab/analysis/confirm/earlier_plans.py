"""Plans that were run to their end before the one in force: their verdicts stand, and what all say together describes.

A study that asks for more seeds after its plan has ended gets a second plan, with fresh runs and an α of its own.
Whoever asked had seen the first one's verdicts, so nothing that pools the two can be a verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.effects_table import estimate
from resnetlab.analysis.confirm.looks_taken import runs_of
from resnetlab.analysis.intervals import t_interval, welch_df
from resnetlab.analysis.results import Results
from resnetlab.errors import BadData
from resnetlab.planning.plan import Plan
from resnetlab.storage.layout import PLANS

COLUMNS = [
    "plan_hash", "seeds", "alpha", "name", "verdict", "verdict_on", "estimate", "low", "high",
    "pooled", "pooled_low", "pooled_high",
]  # fmt: skip


def earlier_plans(results: Results) -> pd.DataFrame:
    """A row for each comparison of an earlier plan all of whose runs have ended; columns `COLUMNS`.

    verdict_on: the images that it is about, as of the effects table. pooled: the estimates of all plans that ran the
    same arms for as many epochs, each weighed by its precision, and the 95% interval that they would have on these test
    images, which the plans share, if no plan had followed another; NaN where the plan in force does not have the
    comparison, or ran other arms for it.
    """
    ended = list(_ended(results))
    now = results.plan
    alike = [] if now is None else [runs for plan, runs in ended if _same_runs(results, plan, now)]
    together = [*alike, runs_of(now, results.confirm)] if alike and now is not None else []
    tables = [_estimated(estimate(replace(runs, images=()))).set_index("name") for runs in together]
    rows = []
    for plan, runs in ended:
        for row in _estimated(estimate(runs)).itertuples(index=False):
            pooled = (np.nan,) * 3
            if any(runs is one for one in alike) and row.name in tables[-1].index:
                there = [table.loc[row.name] for table in tables if row.name in table.index]
                parts = [(one.estimate, one.standard_error, one.df) for one in there]
                pooled = _pooled(*map(np.array, zip(*parts, strict=True)))
            head = [plan.plan_hash, plan.seeds, plan.alpha, row.name, row.verdict, row.verdict_on]
            rows.append([*head, row.estimate, row.low, row.high, *pooled])
    return pd.DataFrame(rows, columns=COLUMNS)


def _estimated(effects: pd.DataFrame) -> pd.DataFrame:
    return effects.dropna(subset=["standard_error"])


def _ended(results: Results) -> Iterator[tuple[Plan, ConfirmRuns]]:
    """The earlier plans of which every run has ended, with their runs."""
    for name in results.folder.names(PLANS):
        content = results.folder.read_json(f"{PLANS}/{name}") or {}
        content.pop("plan_hash", None)
        plan = Plan(**content)
        if results.plan is not None and plan.plan_hash == results.plan.plan_hash:
            continue
        mine = results.other_confirm[results.other_confirm["plan_hash"] == plan.plan_hash]
        try:
            runs = runs_of(plan, mine, results.predictions, results.groups_of(mine))
        except BadData:  # of a plan that is not in force, nothing but this table would be missing
            continue
        if runs.finished:
            yield plan, runs


def _same_runs(results: Results, old: Plan, now: Plan) -> bool:
    """Whether the arms that two plans have by one name ran with the same settings, budget and metric."""

    def arms(plan: Plan) -> dict[str, tuple[Any, ...]]:
        rows = results.trials[results.trials["plan_hash"] == plan.plan_hash]
        budgets = rows.groupby("arm")["epochs_allowed"].first()
        return {arm.name: (arm.values, arm.task, budgets[arm.name]) for arm in plan.arms if arm.name in budgets}

    one, other = arms(old), arms(now)
    same = all(one[name] == other[name] for name in one.keys() & other.keys())
    return same and (old.incumbent, old.metric, old.data_hash) == (now.incumbent, now.metric, now.data_hash)


def _pooled(estimates: np.ndarray, errors: np.ndarray, dfs: np.ndarray) -> tuple[float, float, float]:
    weights = errors**-2.0 / (errors**-2.0).sum()
    parts = (weights * errors) ** 2
    low, high = t_interval(weights @ estimates, np.sqrt(parts.sum()), welch_df(parts, dfs))
    return float(weights @ estimates), float(low), float(high)
