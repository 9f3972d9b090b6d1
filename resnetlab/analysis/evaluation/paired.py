"""Two trained networks on the same test images, and several of them voting: from kept top-1 predictions alone.

What a paired comparison answers: would these two networks, as they were trained, differ on other images of the same
kind? It says nothing of what other seeds would do; the effects, which rest on the spread between seeds, do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from resnetlab.analysis.evaluation.test_predictions import ArmRuns, Predictions
from resnetlab.analysis.intervals import LEVEL

SIZES = (3, 5, 10)  # of ensembles of the top trials


def paired(predictions: Predictions, pairs: Sequence[tuple[ArmRuns, ArmRuns]]) -> pd.DataFrame:
    """A row for each pair (arm, against) and seed block that both ran on the same images.

    images; only: images that the arm alone has right; only_against; difference of accuracies (fraction); low, high: its
    95% interval over images; p: McNemar's exact test, two-sided, not adjusted for the number of rows.
    """
    rows = []
    for arm, against in pairs:
        for block in arm.runs.index.intersection(against.runs.index):
            one, other = arm.runs.loc[block, "trial_id"], against.runs.loc[block, "trial_id"]
            if len(predictions.alike([one, other])) < 2:
                continue
            labels = predictions.labels[one]
            first, second = (predictions.predicted[trial] == labels for trial in (one, other))
            only, only_against = int((first & ~second).sum()), int((second & ~first).sum())
            low, high = difference_interval(only, only_against, len(labels))
            rows.append(
                {
                    "arm": arm.name,
                    "against": against.name,
                    "block": int(block),
                    "images": len(labels),
                    "only": only,
                    "only_against": only_against,
                    "difference": (only - only_against) / len(labels),
                    "low": low,
                    "high": high,
                    "p": mcnemar(only, only_against),
                }
            )
    columns = ["arm", "against", "block", "images", "only", "only_against", "difference", "low", "high", "p"]
    return pd.DataFrame(rows, columns=columns)


def mcnemar(only: int, only_against: int) -> float:
    """Exact two-sided p that an image on which the two differ is as likely to fall to one as to the other."""
    differ = only + only_against
    return 1.0 if differ == 0 else float(stats.binomtest(only, differ, 0.5).pvalue)


def difference_interval(only: int, only_against: int, images: int) -> tuple[float, float]:
    """95% interval of the difference of two paired proportions: Bonett and Price 2012, adjusted Wald."""
    one, other = (only + 1) / (images + 2), (only_against + 1) / (images + 2)
    middle = one - other
    half = stats.norm.ppf(0.5 + LEVEL / 2) * np.sqrt((one + other - middle**2) / (images + 2))
    return float(max(middle - half, -1.0)), float(min(middle + half, 1.0))


def vote(predicted: np.ndarray) -> np.ndarray:
    """(R, N) class numbers of R runs, the most trusted first -> (N,) the class that most of them name.

    Where classes have equally many votes, the one that the most trusted of their runs names.
    """
    votes = np.zeros(predicted.shape, np.int32)
    for row in predicted:
        votes += predicted == row
    return np.asarray(np.take_along_axis(predicted, votes.argmax(axis=0)[None], axis=0)[0])


def ensembles(predictions: Predictions, arms: Sequence[ArmRuns]) -> pd.DataFrame:
    """Majority votes over runs of one task: the seeds of each arm, and the runs with the highest validation accuracy.

    what, runs, images, accuracy, low, high (Wilson's 95% interval over images), mean (of the members), first (the
    member with the highest validation accuracy). No ensemble is chosen by its test accuracy. Ties go to the member with
    the higher validation accuracy. Nothing is trained.
    """
    columns = ["what", "runs", "images", "accuracy", "low", "high", "mean", "first"]
    every = pd.concat([arm.runs for arm in arms]) if arms else pd.DataFrame()
    if every.empty:
        return pd.DataFrame(columns=columns)
    order = every.sort_values("val_accuracy", ascending=False, kind="stable")["trial_id"].tolist()
    order = predictions.alike(order)
    groups = {f"the seeds of {arm.name}": [trial for trial in order if trial in set(arm.ids)] for arm in arms}
    sizes = [size for size in SIZES if size < len(order)]
    groups |= {f"the {size} best runs of all arms": order[:size] for size in sizes}
    groups["all runs of all arms"] = order if len(arms) > 1 else []
    rows = []
    for what, members in groups.items():
        if len(members) < 2:
            continue
        labels = predictions.labels[members[0]]
        predicted = np.stack([predictions.predicted[trial] for trial in members])
        right = int((vote(predicted) == labels).sum())
        found = stats.binomtest(right, len(labels)).proportion_ci(LEVEL, "wilson")
        single = (predicted == labels).mean(axis=1)
        values = (right / len(labels), found.low, found.high, single.mean(), single[0])
        rows.append((what, len(members), len(labels), *map(float, values)))
    return pd.DataFrame(rows, columns=columns)
