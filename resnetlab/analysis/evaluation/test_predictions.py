"""What the arms of a plan did on the test split, run by run and image by image, from what was kept of it.

Runs are the confirm runs at the full budget that count in n. Arms of one task were tested on the same images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from resnetlab.analysis.confirm.confirm_runs import OK, ConfirmRuns
from resnetlab.study.metrics import Metric

LEAST_SUPPORT = 35  # test images that a class needs to count among the best and worst
WORST = 10  # classes at the lower end


@dataclass(frozen=True)
class ArmRuns:
    """An arm with its runs: rows of the trials table by seed block, at least one."""

    name: str
    task: str
    runs: pd.DataFrame

    @property
    def ids(self) -> list[str]:
        return list(self.runs["trial_id"])

    def rank(self, searched: Metric) -> float:
        """What arms may be sorted by without looking at the test split, the best first: the mean over the runs of what
        was searched for."""
        return -searched.sign * float(self.runs[searched.name].mean())

    @cached_property
    def config(self) -> dict[str, Any]:
        """The settings of the first run; those of the others differ in their seeds."""
        return dict(json.loads(self.runs["config"].iloc[0]))


def arms_of(laid: ConfirmRuns, confirm: pd.DataFrame) -> list[ArmRuns]:
    """The arms of the plan that have a run, in the plan's order. confirm: the rows that were laid out."""
    state = laid.state
    kept = [
        isinstance(row, int | float) and state[int(row), int(block)] == OK
        for row, block in zip(confirm["design_row"], confirm["seed_block"], strict=True)
    ]
    found = []
    for row, arm in enumerate(laid.plan.arms):
        runs = confirm[np.array(kept, bool) & (confirm["design_row"] == row)]
        if len(runs):
            found.append(ArmRuns(arm.name, arm.task, runs.set_index("seed_block", drop=False).sort_index()))
    return found


def tasks(arms: Sequence[ArmRuns]) -> dict[str, list[ArmRuns]]:
    """The arms by what they were tested on."""
    found: dict[str, list[ArmRuns]] = {}
    for arm in arms:
        found.setdefault(arm.task, []).append(arm)
    return found


@dataclass(frozen=True)
class Predictions:
    """Top-1 predictions by run. images, labels, predicted: trial_id -> (N,) int, by image."""

    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]

    @classmethod
    def of(cls, table: pd.DataFrame) -> Predictions:
        numbers, names = pd.factorize(table["trial_id"])
        columns = {name: table[name].to_numpy() for name in ("image", "label", "predicted")}
        order = np.lexsort([columns["image"], numbers])
        cuts = np.flatnonzero(np.diff(numbers[order])) + 1
        parts = {name: np.split(values[order], cuts) for name, values in columns.items()}
        return cls(*(dict(zip(names, parts[name], strict=False)) for name in ("image", "label", "predicted")))

    def alike(self, ids: list[str]) -> list[str]:
        """Those of `ids` that were tested on the very images and labels of the first of them."""
        known = [trial for trial in ids if trial in self.images]
        return [
            trial
            for trial in known
            if np.array_equal(self.images[trial], self.images[known[0]])
            and np.array_equal(self.labels[trial], self.labels[known[0]])
        ]


def recall_by_arm(classes: pd.DataFrame, arms: Sequence[ArmRuns]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """By class number: name and support; and the mean recall over the runs of each arm, a column for each.

    Classes without test images are left out; the lowest mean over the arms comes first in both.
    """
    parts = {}
    for arm in arms:
        kept = classes[classes["trial_id"].isin(arm.ids) & (classes["split"] == "test") & (classes["support"] > 0)]
        kept = kept.assign(recall=kept["correct"] / kept["support"])
        parts[arm.name] = kept.groupby("class").agg({"name": "first", "support": "first", "recall": "mean"})
    recall = pd.DataFrame({name: part["recall"] for name, part in parts.items()})
    about = pd.concat(parts.values())[["name", "support"]] if parts else pd.DataFrame(columns=["name", "support"])
    about = about[~about.index.duplicated()]
    order = recall.mean(axis=1).sort_values(kind="stable").index
    return about.loc[order], recall.loc[order]


@dataclass(frozen=True)
class Extremes:
    """Of the classes with at least LEAST_SUPPORT test images.

    counted: how many there are; always: names of those without an error in every run; lowest, highest: how many had
    none in a single run; worst: name, mean recall and support of the WORST lowest.
    """

    counted: int
    always: list[str]
    lowest: int
    highest: int
    worst: list[tuple[str, float, int]]


def extremes(classes: pd.DataFrame, arm: ArmRuns) -> Extremes:
    kept = classes[classes["trial_id"].isin(arm.ids) & (classes["split"] == "test")]
    kept = kept[kept["support"] >= LEAST_SUPPORT]
    kept = kept.assign(recall=kept["correct"] / kept["support"], whole=kept["correct"] == kept["support"])
    by = kept.groupby("class").agg({"name": "first", "support": "first", "recall": "mean", "whole": "all"})
    single = kept.groupby("trial_id")["whole"].sum()
    worst = by.sort_values(["recall", "support"], ascending=[True, False], kind="stable").head(WORST)
    return Extremes(
        counted=len(by),
        always=by.loc[by["whole"], "name"].tolist(),
        lowest=int(single.min()) if len(single) else 0,
        highest=int(single.max()) if len(single) else 0,
        worst=[(row.name, float(row.recall), int(row.support)) for row in worst.itertuples(index=False)],
    )


def confusion(predictions: Predictions, arm: ArmRuns, classes: int) -> np.ndarray:
    """(classes, classes) counts over the arm's runs: row is the label, column what it was taken for."""
    found = np.zeros((classes, classes), np.int64)
    for trial in arm.ids:
        if trial in predictions.labels:
            np.add.at(found, (predictions.labels[trial], predictions.predicted[trial]), 1)
    return found
