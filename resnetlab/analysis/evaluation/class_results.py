"""Recall, precision and F1 of each class, and the most frequent mistakes, over several runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from resnetlab.study.class_counts import ClassCounts


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


@dataclass(frozen=True)
class Beside:
    """What stands beside an accuracy, as fractions: of guessing evenly among the classes that have images, of always
    saying the largest one, and the mean recall of the classes over all runs."""

    chance: float
    majority: float
    balanced: float  # NaN where it is not known

    @classmethod
    def of(cls, classes: pd.DataFrame, trial_ids: list[str], split: str = "test") -> Beside | None:
        """Over the runs `trial_ids`; None where their classes were not recorded, or are not the same in all runs."""
        kept = classes[classes["trial_id"].isin(trial_ids) & (classes["split"] == split) & (classes["support"] > 0)]
        support = kept.groupby("class")["support"]
        if kept.empty or (support.nunique() > 1).any():
            return None
        sizes = support.first()
        recall = kept["correct"] / kept["support"]
        balanced = float(recall.groupby(kept["class"]).mean().mean())
        return cls(1 / len(sizes), float(sizes.max() / sizes.sum()), balanced)

    @classmethod
    def of_counts(cls, counts: Sequence[int], balanced: float = math.nan) -> Beside | None:
        """Of a split with so many images of each class; None where it has none."""
        found = ClassCounts(tuple(counts))
        return cls(1 / found.present, found.majority, balanced) if found.images else None


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
