"""What was searched for against cost: the Pareto front of trials or arms.

Trials that ASHA stopped ended at a lower budget: they are carried along, marked, and never ranked with the rest.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from resnetlab.analysis.trial_outcomes import full_budget
from resnetlab.study.metrics import METRICS, Metric
from resnetlab.study.records import Status


def pareto(trials: pd.DataFrame, cost: str, metric: Metric = METRICS["val_accuracy"]) -> pd.DataFrame:
    """Explore trials as points: columns trial_id, cost, value, full (at full budget), front (non-dominated).

    metric: what the values are of, and which way is better.

    cost: `parameters`, `multiply_adds` or `train_seconds`. Seconds of a stopped trial are those that its full budget
    would have taken at its pace, so that all stand on one axis.

    A trial is on the front where no other full-budget trial is at least as good in both and better in one. Trials
    stopped at a lower budget are kept with full=False and take no part in the front.
    """
    full = full_budget(trials).index
    kept = trials[trials["status"].isin([Status.COMPLETE, Status.STOPPED])]
    budget = kept["epochs_allowed"] / kept["epochs_run"]
    points = pd.DataFrame(
        {
            "trial_id": kept["trial_id"],
            "cost": kept[cost].astype(float) * (budget if cost == "train_seconds" else 1.0),
            "value": kept[metric.name].astype(float),
            "epochs": kept["epochs_run"],
            "full": kept.index.isin(full),
        }
    ).dropna(subset=["cost", "value"])
    ranked = points[points["full"]]
    points["front"] = on_front(ranked["cost"], metric.sign * ranked["value"]).reindex(points.index, fill_value=False)
    return points.sort_values("cost", kind="stable").reset_index(drop=True)


def on_front(cost: pd.Series, accuracy: pd.Series) -> pd.Series:
    """Which are on the Pareto front: none other costs no more and is at least as accurate."""
    ranked = pd.DataFrame({"cost": cost, "accuracy": accuracy}).sort_values(
        ["cost", "accuracy"], ascending=[True, False], kind="stable"
    )
    best_before = ranked["accuracy"].cummax().shift(fill_value=-np.inf)
    return (ranked["accuracy"] > best_before).reindex(cost.index)
