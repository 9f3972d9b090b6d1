"""Compute the metrics that published texts print from the runs of an arm: one value per seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from resnetlab.analysis.evaluation.test_predictions import LEAST_SUPPORT, WORST
from resnetlab.analysis.results import Results
from resnetlab.reproduction.published import What
from resnetlab.study.records import Status

EARLY = 5  # first epochs, of `early_accuracy`
COUNTED = {"parameters", "trainable", "untrained_parameters"}  # the same for every seed
PAIRED = {"classes_better", "perfect_in_both", "best_of_ten_worst", "overtaking_epoch"}  # of two arms together
NOT_RECORDED = {  # metrics that no table has, and why
    "layer_parameters": "counts of single layers are checked by the package's tests, not by a run",
    "layer_width": "sizes of single layers are checked by the package's tests, not by a run",
    "convergence_epoch": "the text does not say how it was judged",
}


@dataclass(frozen=True)
class Measured:
    """The complete runs of named arms.

    trials, epochs, classes: these tables as data frames. data: facts on the dataset, from sweep.json. facts: by arm,
    `parameters` and `trainable` of its network for the images and classes of the text, if the runs had others.
    """

    trials: pd.DataFrame
    epochs: pd.DataFrame
    classes: pd.DataFrame
    data: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, results: Results, facts: Mapping[str, Mapping[str, float]] | None = None) -> Measured:
        """Read a results folder whose plan has the arms of a text."""
        data = results.sweep.get("data") or {}
        return cls(results.confirm, results.epochs, results.classes, data, facts or {})

    def runs(self, arm: str) -> pd.DataFrame:
        """The arm's complete runs, indexed by seed block."""
        ours = self.trials[(self.trials["arm"] == arm) & (self.trials["status"] == Status.COMPLETE)]
        return ours[ours["epochs_run"] == ours["epochs_allowed"]].set_index("seed_block").sort_index()

    def lost(self, arm: str) -> str:
        """How the arm's incomplete runs ended: `1 diverged, 1 failed: weights … are not here`."""
        ours = self.trials[self.trials["arm"] == arm]
        ended = ours.loc[ours["status"] != Status.COMPLETE, "status"].value_counts()
        why = ours.loc[ours["status"] == Status.FAILED].get("reason", pd.Series(dtype=object)).dropna()
        return ", ".join(f"{n} {str(status).replace('_', ' ')}" for status, n in ended.items()) + (
            f": {why.iloc[0].partition(': ')[0]}" if len(why) else ""
        )

    def values(self, what: What, arm: str, against: str | None = None) -> pd.Series:
        """One value per seed block, in base units (fractions, seconds, nats); empty for metrics that no table has.

        against: the other arm, for PAIRED metrics, whose value needs both arms' runs of a block. Parameters of an arm
        in `facts` need no run.
        """
        if what.metric in PAIRED:
            values = self._paired(what, arm, str(against))
        elif what.metric in NOT_RECORDED or what.metric.startswith("data_"):
            values = {}
        elif what.metric in COUNTED and arm in self.facts:
            values = dict.fromkeys([*self.runs(arm).index] or ["network"], _counted(what.metric, self.facts[arm]))
        elif what.metric in COUNTED:
            values = {block: _counted(what.metric, run) for block, run in self.runs(arm).iterrows()}
        else:
            values = {block: self._value(what, run) for block, run in self.runs(arm).iterrows()}
        return pd.Series(values, dtype=float).dropna()

    def _value(self, what: What, run: pd.Series) -> float:
        """The metric of one run; NaN if it cannot be computed."""
        match what.metric:
            case "accuracy" | "loss":
                return self._curve_value(what, run)
            case "early_accuracy":
                return float(self._curve(run)["val_accuracy"].head(EARLY).mean())
            case "converged_accuracy":
                return float(self._curve(run)["val_accuracy"].tail(max(1, int(run["epochs_run"]) // 3)).mean())
            case "epoch_time":
                return float(run["train_seconds"] / run["epochs_run"])
            case "epochs":
                return float(run["epochs_run"])
            case "precision" | "recall" | "f1":
                return self._by_class(what, run)
            case "perfect_classes" | "worst_rate" | "worst_support":
                return self._extreme(what.metric, run)
            case _:
                return np.nan

    def _curve_value(self, what: What, run: pd.Series) -> float:
        """Accuracy or loss at an epoch. Without a split: of the validation split, which has a value for every epoch."""
        if what.split == "test":
            return float(run[f"test_{what.metric}"]) if what.epoch == "last" else np.nan
        curve = self._curve(run)[f"{'train' if what.split == 'train' else 'val'}_{what.metric}"]
        match what.epoch:
            case "first":
                return float(curve.iloc[0])
            case "best":
                return float(curve.max() if what.metric == "accuracy" else curve.min())
            case int(epoch):
                return float(curve.get(epoch, np.nan))
            case _:
                return float(curve.iloc[-1])

    @cached_property
    def _curves(self) -> dict[str, pd.DataFrame]:
        ordered = self.epochs.sort_values(["trial_id", "epoch"])
        return {str(trial): part.set_index("epoch") for trial, part in ordered.groupby("trial_id")}

    def _curve(self, run: pd.Series) -> pd.DataFrame:
        return self._curves[run["trial_id"]]

    @cached_property
    def _tallies(self) -> dict[str, pd.DataFrame]:
        test = self.classes[self.classes["split"] == "test"]
        return {str(trial): part.set_index("class").sort_index() for trial, part in test.groupby("trial_id")}

    def tally(self, run: pd.Series) -> pd.DataFrame:
        """Test results of a run by class: name, support, predicted, correct; no rows if it was not tested."""
        return self._tallies.get(run["trial_id"], self.classes.iloc[:0])

    def _by_class(self, what: What, run: pd.Series) -> float:
        tally = self.tally(run)
        recall = tally["correct"] / tally["support"].where(tally["support"] > 0)
        precision = tally["correct"] / tally["predicted"].where(tally["predicted"] > 0)
        scores = {
            "recall": recall,
            "precision": precision,
            "f1": 2 * tally["correct"] / (tally[["support", "predicted"]].sum(axis=1)),
        }
        score = scores[what.metric].fillna(0.0)
        if what.of == "macro":
            return float(score.mean())
        if what.of == "weighted":
            return float((score * tally["support"]).sum() / max(1, tally["support"].sum()))
        of_class = score[tally["name"] == what.of]
        return float(of_class.iloc[0]) if len(of_class) == 1 else np.nan

    def _counted_classes(self, run: pd.Series) -> pd.DataFrame:
        tally = self.tally(run)
        tally = tally[tally["support"] >= LEAST_SUPPORT]
        return tally.assign(rate=tally["correct"] / tally["support"])

    def _extreme(self, metric: str, run: pd.Series) -> float:
        tally = self._counted_classes(run)
        if tally.empty:
            return np.nan
        if metric == "perfect_classes":
            return float((tally["rate"] == 1.0).sum())
        worst = tally.sort_values(["rate", "support"], ascending=[True, False]).iloc[0]
        return float(worst["rate" if metric == "worst_rate" else "support"])

    def _paired(self, what: What, arm: str, against: str) -> dict[Any, float]:
        ours, theirs = self.runs(arm), self.runs(against)
        return {
            block: self._pair(what, ours.loc[block], theirs.loc[block])
            for block in ours.index.intersection(theirs.index)
        }

    def _pair(self, what: What, run: pd.Series, other: pd.Series) -> float:
        """A PAIRED metric of two runs of one seed block."""
        if what.metric == "overtaking_epoch":
            ahead = self._curve(run)["val_accuracy"] > self._curve(other)["val_accuracy"]
            behind = ahead.index[~ahead]
            after = ahead.index[ahead.index > (behind.max() if len(behind) else 0)]
            return float(after.min()) if len(after) else np.nan
        if what.metric == "classes_better":
            first, second = self.tally(run), self.tally(other)
            return float((first["correct"] > second["correct"]).sum()) if len(first) else np.nan
        first, second = self._counted_classes(run)["rate"], self._counted_classes(other)["rate"]
        if first.empty:
            return np.nan
        if what.metric == "perfect_in_both":
            return float(((first == 1.0) & (second == 1.0)).sum())
        return max(float(rates.nsmallest(WORST).max()) for rates in (first, second))


def _counted(metric: str, counts: Mapping[str, float]) -> float:
    return counts["parameters"] - counts["trainable"] if metric == "untrained_parameters" else counts[metric]
