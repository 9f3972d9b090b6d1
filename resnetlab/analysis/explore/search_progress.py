"""How the search went: the best so far, by trials and by epochs, and the levels that were tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from resnetlab.analysis.trial_outcomes import Counts, full_budget
from resnetlab.study.metrics import METRICS, Metric
from resnetlab.study.records import Status


@dataclass(frozen=True)
class SearchCurve:
    """How the search went. points: a row for each ended explore trial (number, spent, value, full), by its end.

    by_number and by_epochs: columns at, best; the best full-budget value among the trials proposed up to
    `at`, and after `at` epochs were spent by all explore trials together (in the order in which they ended).
    """

    points: pd.DataFrame
    by_number: pd.DataFrame
    by_epochs: pd.DataFrame


def search_progress(explore: pd.DataFrame, metric: Metric = METRICS["val_accuracy"]) -> SearchCurve:
    """By `metric`, which was searched for. Epochs of stopped, diverged and failed trials count as spent; only
    full-budget trials can be best."""
    ended = explore[[Status(status).ended for status in explore["status"]]]
    ended = ended.sort_values(["ended", "number"], kind="stable")
    points = pd.DataFrame(
        {
            "number": ended["number"],
            "status": ended["status"],
            "value": ended[metric.name].astype(float),
            "full": ended.index.isin(full_budget(ended).index),
            "spent": ended["epochs_run"].fillna(0).cumsum(),
        }
    )
    return SearchCurve(points, *(_best_so_far(points, by, metric.sign) for by in ("number", "spent")))


def _best_so_far(points: pd.DataFrame, by: str, sign: int) -> pd.DataFrame:
    ordered = points.sort_values(by, kind="stable")
    best = sign * (sign * ordered["value"]).where(ordered["full"]).cummax().ffill()
    return pd.DataFrame({"at": ordered[by], "best": best}).dropna().reset_index(drop=True)


def levels_tried(
    explore: pd.DataFrame, levels: Mapping[str, tuple[Any, ...]], metric: Metric = METRICS["val_accuracy"]
) -> pd.DataFrame:
    """Hypotheses only: for each level, trials, how many reached the full budget, and the best of those.

    A level that ASHA never let through has no best: it is not known to be worse.
    """
    rows = []
    for factor, options in levels.items():
        for level in options:
            tried = explore[[_same(value, level) for value in explore[factor]]]
            full = full_budget(tried)
            best = metric.sign * (metric.sign * full[metric.name]).max() if len(full) else np.nan
            stopped = int((tried["status"] == Status.STOPPED).sum())
            rows.append((factor, level, len(tried), len(full), stopped, Counts.of(tried).lost, best))
    return pd.DataFrame(rows, columns=["factor", "level", "trials", "full", "stopped", "lost", "best"])


def _same(value: Any, level: Any) -> bool:
    return value == level and isinstance(value, bool) == isinstance(level, bool)
