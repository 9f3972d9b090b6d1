"""What the trials did, computed for figures and tables: curves, the Pareto front, rungs, the search, classes, cost.

Frames in (see `analysis.results`), small frames out; nothing is drawn here. Accuracies are fractions, times seconds.
Explore trials stopped by ASHA ended at a lower budget: they are carried along, marked, and never ranked with the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from resnetlab.study.records import Phase, Status
from resnetlab.wording import plural

LOST = (Status.DIVERGED, Status.OUT_OF_MEMORY, Status.FAILED)
WORDS = {
    Status.COMPLETE: "complete",
    Status.STOPPED: "stopped by ASHA",
    Status.DIVERGED: "diverged",
    Status.OUT_OF_MEMORY: "out of memory",
    Status.FAILED: "failed",
    Status.INTERRUPTED: "interrupted",
    Status.RUNNING: "running",
    Status.WAITING: "waiting",
    Status.REPLACED: "replaced",
}


@dataclass(frozen=True)
class Counts:
    """How many trials a figure or table rests on, and how they ended."""

    by_status: Mapping[str, int]

    @classmethod
    def of(cls, trials: pd.DataFrame) -> Counts:
        found = trials["status"].value_counts()
        return cls({status: int(found.get(status, 0)) for status in Status})

    @property
    def total(self) -> int:
        return sum(self.by_status.values())

    @property
    def lost(self) -> int:
        """Trials that ended without a result: diverged, out of memory or failed."""
        return sum(self.by_status[status] for status in LOST)

    def words(self, kind: str = "explore") -> str:
        """`30 explore trials: 9 complete, 17 stopped by ASHA, 2 diverged, 2 failed`. Stopped, failed: always said."""
        always = (
            (Status.COMPLETE, Status.STOPPED, Status.FAILED) if kind != "confirm" else (Status.COMPLETE, Status.FAILED)
        )
        parts = [f"{n:,} {WORDS[Status(s)]}" for s, n in self.by_status.items() if n or s in always]
        return f"{plural(self.total, f'{kind} trial')}: {', '.join(parts)}"


def full_budget(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that may be compared with each other: complete, at all the epochs they were allowed."""
    return trials[(trials["status"] == Status.COMPLETE) & (trials["epochs_run"] == trials["epochs_allowed"])]


@dataclass(frozen=True)
class Curve:
    """One trial's validation accuracy by epoch. epochs, values: (E,)."""

    trial_id: str
    number: int
    status: str
    arm: str | None
    epochs: np.ndarray
    values: np.ndarray


def learning_curves(trials: pd.DataFrame, epochs: pd.DataFrame, metric: str = "val_accuracy") -> list[Curve]:
    """A curve for each of `trials` that recorded an epoch, in their order."""
    rows = epochs.sort_values(["trial_id", "epoch"], kind="stable")
    ids = rows["trial_id"].to_numpy(dtype=object)
    at, values = rows["epoch"].to_numpy(), rows[metric].to_numpy()
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]]) if len(ids) else np.zeros(0, int)
    spans = {ids[a]: slice(a, b) for a, b in zip(starts, [*starts[1:], len(ids)], strict=False)}
    found = []
    for trial_id, number, status, arm in trials[["trial_id", "number", "status", "arm"]].itertuples(index=False):
        span = spans.get(trial_id)
        if span is not None:
            found.append(Curve(trial_id, int(number), status, arm, at[span], values[span]))
    return found


def pareto(trials: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Explore trials as points: columns trial_id, cost, accuracy, full (at full budget), front (non-dominated).

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
            "accuracy": kept["val_accuracy"].astype(float),
            "epochs": kept["epochs_run"],
            "full": kept.index.isin(full),
        }
    ).dropna(subset=["cost", "accuracy"])
    ranked = points[points["full"]]
    points["front"] = on_front(ranked["cost"], ranked["accuracy"]).reindex(points.index, fill_value=False)
    return points.sort_values("cost", kind="stable").reset_index(drop=True)


def on_front(cost: pd.Series, accuracy: pd.Series) -> pd.Series:
    """Which are on the Pareto front: none other costs no more and is at least as accurate."""
    ranked = pd.DataFrame({"cost": cost, "accuracy": accuracy}).sort_values(
        ["cost", "accuracy"], ascending=[True, False], kind="stable"
    )
    best_before = ranked["accuracy"].cummax().shift(fill_value=-np.inf)
    return (ranked["accuracy"] > best_before).reindex(cost.index)


def rung_summary(rungs: pd.DataFrame) -> pd.DataFrame:
    """What ASHA did: a row for each rung with arrived, went_on, stopped, exempt, and the first and last cutoff."""
    names = ["rung", "epoch", "arrived", "went_on", "stopped", "exempt", "first_cutoff", "last_cutoff"]
    if rungs.empty:
        return pd.DataFrame(columns=names)
    ordered = rungs.sort_values(["rung", "recorded"])
    groups = ordered.groupby("rung")
    summary = pd.DataFrame({"epoch": groups["epoch"].first(), "arrived": groups.size()})
    for name, decision in (("went_on", "continue"), ("stopped", "stop"), ("exempt", "exempt")):
        summary[name] = (ordered["decision"] == decision).groupby(ordered["rung"]).sum()
    summary["first_cutoff"] = groups["cutoff"].first()  # the first that is not null
    summary["last_cutoff"] = groups["cutoff"].last()
    return summary.reset_index()[names]


@dataclass(frozen=True)
class SearchCurve:
    """How the search went. points: a row for each ended explore trial (number, spent, accuracy, full), by its end.

    by_number and by_epochs: columns at, best; the best full-budget validation accuracy among the trials proposed up to
    `at`, and after `at` epochs were spent by all explore trials together (in the order in which they ended).
    """

    points: pd.DataFrame
    by_number: pd.DataFrame
    by_epochs: pd.DataFrame


def search_progress(explore: pd.DataFrame) -> SearchCurve:
    """Epochs of stopped, diverged and failed trials count as spent; only full-budget trials can be best."""
    ended = explore[[Status(status).ended for status in explore["status"]]]
    ended = ended.sort_values(["ended", "number"], kind="stable")
    points = pd.DataFrame(
        {
            "number": ended["number"],
            "status": ended["status"],
            "accuracy": ended["val_accuracy"].astype(float),
            "full": ended.index.isin(full_budget(ended).index),
            "spent": ended["epochs_run"].fillna(0).cumsum(),
        }
    )
    return SearchCurve(points, _best_so_far(points, "number"), _best_so_far(points, "spent"))


def _best_so_far(points: pd.DataFrame, by: str) -> pd.DataFrame:
    ordered = points.sort_values(by, kind="stable")
    best = ordered["accuracy"].where(ordered["full"]).cummax().ffill()
    return pd.DataFrame({"at": ordered[by], "best": best}).dropna().reset_index(drop=True)


def levels_tried(explore: pd.DataFrame, levels: Mapping[str, tuple[Any, ...]]) -> pd.DataFrame:
    """Hypotheses only: for each level, trials, how many reached the full budget, and the best of those.

    A level that ASHA never let through has no best: it is not known to be worse.
    """
    rows = []
    for factor, options in levels.items():
        for level in options:
            tried = explore[[_same(value, level) for value in explore[factor]]]
            full = full_budget(tried)
            best = full["val_accuracy"].max() if len(full) else np.nan
            stopped = int((tried["status"] == Status.STOPPED).sum())
            rows.append((factor, level, len(tried), len(full), stopped, Counts.of(tried).lost, best))
    return pd.DataFrame(rows, columns=["factor", "level", "trials", "full", "stopped", "lost", "best"])


def _same(value: Any, level: Any) -> bool:
    return value == level and isinstance(value, bool) == isinstance(level, bool)


def class_results(classes: pd.DataFrame, trial_ids: list[str], split: str = "test") -> pd.DataFrame:
    """Per class over the runs `trial_ids`: recall (mean, lowest, highest), precision, F1, support; worst first.

    Precision and F1 are of the pooled counts. Columns class, name, support (of one run), runs, recall, low, high,
    precision, f1.
    """
    kept = classes[classes["trial_id"].isin(trial_ids) & (classes["split"] == split)]
    if kept.empty:
        return pd.DataFrame(columns=["class", "name", "support", "runs", "recall", "low", "high", "precision", "f1"])
    kept = kept.assign(recall=kept["correct"] / kept["support"].replace(0, np.nan))
    groups = kept.groupby("class")
    found = pd.DataFrame({"name": groups["name"].first(), "support": groups["support"].first(), "runs": groups.size()})
    found["recall"], found["low"], found["high"] = (
        groups["recall"].mean(),
        groups["recall"].min(),
        groups["recall"].max(),
    )
    total = groups[["correct", "predicted", "support"]].sum()
    found["precision"] = total["correct"] / total["predicted"].replace(0, np.nan)
    found["f1"] = 2 * total["correct"] / (total["predicted"] + total["support"]).replace(0, np.nan)
    return found.reset_index().sort_values(["recall", "class"]).reset_index(drop=True)


def confusions(
    predictions: pd.DataFrame, trial_ids: list[str], names: Mapping[int, str], top: int = 10
) -> pd.DataFrame:
    """The most frequent mistakes over the runs `trial_ids`: label, predicted, count, share of the label's images."""
    kept = predictions[predictions["trial_id"].isin(trial_ids)]
    wrong = kept[kept["label"] != kept["predicted"]]
    counts = wrong.groupby(["label", "predicted"]).size().rename("count").reset_index()
    counts["share"] = counts["count"] / counts["label"].map(kept["label"].value_counts())
    counts = counts.sort_values(["count", "label", "predicted"], ascending=[False, True, True]).head(top)
    for column in ("label", "predicted"):
        counts[column] = [names.get(number, f"class {number}") for number in counts[column]]
    return counts.reset_index(drop=True)


SPENT = ("train_seconds", "eval_seconds", "setup_seconds", "checkpoint_seconds")


def cost(trials: pd.DataFrame) -> pd.DataFrame:
    """Epochs, seconds and joules by phase and status, failed and stopped work included; a row each, in a fixed order.

    device_seconds: all four kinds of seconds times the share of the device (the CPUs) that the trial was given; energy:
    NaN where no trial of the row has one.
    """
    columns = ["epochs_run", *SPENT, "device_seconds"]
    share = trials["device_share"].astype(float).fillna(1.0)
    trials = trials.assign(device_seconds=trials[list(SPENT)].astype(float).fillna(0).sum(axis=1) * share)
    groups = trials.assign(energy=trials["energy"].astype(float)).groupby(["phase", "status"])
    sums = groups[columns].sum()
    sums["energy"] = groups["energy"].sum(min_count=1)
    sums.insert(0, "trials", groups.size())
    order = [(phase, status) for phase in Phase for status in Status if (phase, status) in sums.index]
    return sums.reindex(pd.MultiIndex.from_tuples(order, names=["phase", "status"])).reset_index()


def epochs_saved(explore: pd.DataFrame) -> int:
    """Epochs that stopped trials did not run: what their full budgets would have cost more."""
    stopped = explore[explore["status"] == Status.STOPPED]
    return int((stopped["epochs_allowed"] - stopped["epochs_run"]).sum())


@dataclass(frozen=True)
class Efficiency:
    """busy: seconds in which slots trained; offered: slots x wall seconds, over all sessions of a sweep that ended.

    reports: epochs that the driver was told of; driver: seconds that these took it; sampler, publishing: its seconds of
    proposing and of writing tables, which are not in `driver`. All 0 in sweeps that did not record them.
    """

    busy: float
    offered: float
    sessions: int
    reports: int = 0
    driver: float = 0.0
    sampler: float = 0.0
    publishing: float = 0.0

    @property
    def share(self) -> float:
        return self.busy / self.offered


def efficiency(sweep: Mapping[str, Any]) -> Efficiency | None:
    """How much of the slots' time was training; None where the sweep did not record it (yet).

    A sweep that was continued has several sessions; one that was killed left no times and is not counted.
    """
    sessions = [s for s in sweep.get("sessions") or [sweep] if s.get("ended") and s.get("slots")]
    offered = sum(s["slots"] * (s.get("wall_seconds") or 0.0) for s in sessions)
    if offered <= 0:
        return None
    names = ("busy_seconds", "reports", "report_seconds", "sampler_seconds", "publish_seconds")
    busy, reports, *driver = (sum(s.get(name) or 0 for s in sessions) for name in names)
    return Efficiency(busy, offered, len(sessions), reports, *driver)
