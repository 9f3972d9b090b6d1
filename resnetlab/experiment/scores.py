"""Metrics computed from the scores of a classifier, and metrics that a task declares.

All take `labels` (N,) int64 and `scores` (N, C) float, the logits, and are fractions where nothing else is said. What
cannot be computed from these images is said, and is never a silent NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resnetlab.errors import BadData, BadRequest
from resnetlab.study.metrics import CLASSIFIER, Metric, own
from resnetlab.study.yaml_io import suggestion

BINS = 15  # of confidence, for the expected calibration error
DIRECTIONS = {"max": "higher", "min": "lower", "maximize": "higher", "minimize": "lower"}
FAMILIAR = {"direction", "unit", "scale", "digits", "label"}  # what a declared metric may say

Compute = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Score(Metric):
    """A metric with the function that computes it.

    chance: what the best predictor that sees no image reaches, from the number of images of each class, (C,); None
    where that is no sensible level to compare with.
    """

    compute: Compute | None = None
    chance: Callable[[np.ndarray], float] | None = None

    def of(self, labels: np.ndarray, scores: np.ndarray) -> float:
        """The metric of `labels` (N,) and `scores` (N, C).

        BadData where these images or scores do not carry it, BadRequest where the function returned no finite number.
        """
        labels, scores = np.asarray(labels), np.asarray(scores)
        if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
            shapes = f"labels of shape {labels.shape} and scores of shape {scores.shape}"
            raise BadData(f"{self.name}: got {shapes} (allowed: (N,) and (N, classes), N at least 1)")
        if not np.isfinite(scores).all():
            rows = int((~np.isfinite(scores).all(axis=1)).sum())
            raise BadData(f"{self.name}: the scores of {rows} of {len(scores)} images are not finite")
        if labels.min() < 0 or labels.max() >= scores.shape[1]:
            raise BadData(
                f"{self.name}: labels from {labels.min()} to {labels.max()} (allowed: 0 to {scores.shape[1] - 1})"
            )
        assert self.compute is not None
        found = self.compute(labels, scores)
        try:
            value = float(found)
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise BadRequest(f"{self.name}: returned {found!r} (allowed: a finite number)")
        return value


def own_score(name: str, function: Compute) -> Score:
    """A user's function: a fraction, higher is better, shown in percent."""
    return Score(**vars(own(name)), compute=function)


def declared(metrics: Any, where: str) -> dict[str, Metric]:
    """The metrics that a task names in `METRICS` or in its study: `{val_rmse: min}`, or with unit, scale and digits:
    `{val_rmse: {direction: min, unit: mg/dl, digits: 1}}`. BadRequest that names the place and what is allowed."""
    if not isinstance(metrics, Mapping) or not metrics:
        raise BadRequest(
            f"{where}: need a mapping of names to directions, got {metrics!r} (allowed: {{val_rmse: min}})"
        )
    found = {}
    for name, given in metrics.items():
        said = dict(given) if isinstance(given, Mapping) else {"direction": given}
        if not isinstance(name, str) or not name.isidentifier():
            raise BadRequest(f"{where}: {name!r} is not the name of a column (allowed: letters, digits and _)")
        for key in said.keys() - FAMILIAR:
            raise BadRequest(f"{where}.{name}.{key}: unknown key{suggestion(str(key), FAMILIAR)}")
        direction = said.pop("direction", None)
        if not isinstance(direction, str) or direction not in DIRECTIONS:
            raise BadRequest(f"{where}.{name}: need a direction, got {direction!r} (allowed: min, max)")
        better = DIRECTIONS[direction]
        for key, kind in (("scale", int | float), ("digits", int), ("unit", str), ("label", str)):
            if key in said and (not isinstance(said[key], kind) or isinstance(said[key], bool)):
                raise BadRequest(f"{where}.{name}.{key}: got {said[key]!r} (allowed: a value such as {_EXAMPLES[key]})")
        found[name] = Metric(**{"name": name, "label": name.replace("_", " "), "better": better, "digits": 3, **said})
    return found


_EXAMPLES = {"scale": "100", "digits": "2", "unit": "mg/dl", "label": "'error of the fit'"}


def _present(labels: np.ndarray) -> np.ndarray:
    """The classes that have images: a class without any has no recall, and no score of a class can be made up."""
    return np.unique(labels)


def _accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == labels).mean())


def _balanced_accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    """The mean recall of the classes that have images."""
    from sklearn.metrics import recall_score

    kept = _present(labels)
    return float(recall_score(labels, scores.argmax(axis=1), labels=kept, average="macro", zero_division=0))


def _macro_f1(labels: np.ndarray, scores: np.ndarray) -> float:
    """The mean F1 of the classes that have images: which those are does not depend on what was predicted."""
    from sklearn.metrics import f1_score

    kept = _present(labels)
    return float(f1_score(labels, scores.argmax(axis=1), labels=kept, average="macro", zero_division=0))


def _top5(labels: np.ndarray, scores: np.ndarray) -> float:
    """The label is among the five highest scores; of equal scores the lower class number comes first, as in argmax."""
    if scores.shape[1] <= 5:
        raise BadData(f"top5: always right where there are {scores.shape[1]} classes (allowed: more than 5)")
    return float(in_top5(labels, scores).mean())


def in_top5(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(N,) bool: of each image, whether its label is among the five highest scores."""
    own = scores[np.arange(len(labels)), labels][:, None]
    before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < labels[:, None]))
    return np.asarray(before.sum(axis=1) < 5)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """(N, C) log-probabilities, in float64."""
    from scipy import special

    return np.asarray(special.log_softmax(scores.astype(np.float64), axis=1))


def _cross_entropy(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(-log_softmax(scores)[np.arange(len(labels)), labels].mean())


def _calibration_error(labels: np.ndarray, scores: np.ndarray) -> float:
    """The expected calibration error of the predicted class (Guo et al. 2017): the mean distance of accuracy and
    confidence over `BINS` equal bins (low, high] of its probability, each bin weighted by its images."""
    bins, gap = calibration_bins(labels, scores)
    return float(np.abs(np.bincount(bins, gap)).sum() / len(labels))


def calibration_bins(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each image, (N,) the bin of its confidence and (N,) by how much being right exceeds the confidence."""
    confidence = np.exp(log_softmax(scores).max(axis=1))
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return bins, (scores.argmax(axis=1) == labels) - confidence


def _auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The mean over the classes that have images of the area under the curve of one class against the rest, ranked by
    its probability (Hand & Till 2001 average pairs instead); ties count a half."""
    from sklearn.metrics import roc_auc_score

    kept = _present(labels)
    if len(kept) < 2:
        raise BadData(
            f"auroc: all {len(labels)} images are of class {kept[0]} (allowed: images of two classes or more)"
        )
    ranked = log_odds(scores)
    return float(np.mean([roc_auc_score(labels == label, ranked[:, label]) for label in kept]))


def log_odds(scores: np.ndarray) -> np.ndarray:
    """(N, C) log(p / (1 - p)) of each class: in the order of its probabilities, also of those that round to 0 or 1.

    Rounded, so that equal probabilities that were summed in another order are ties.
    """
    rows, top = np.arange(len(scores)), scores.argmax(axis=1)
    chance = log_softmax(scores)
    others = scores.astype(np.float64)
    others[rows, top] = -np.inf
    with np.errstate(divide="ignore"):  # log(0) of the most likely class, which the next line replaces
        odds = chance - np.log1p(-np.exp(chance))
    peak = others.max(axis=1)
    odds[rows, top] = scores[rows, top] - peak - np.log(np.exp(others - peak[:, None]).sum(axis=1))
    return np.asarray(np.round(odds, 10))


def _shares(counts: np.ndarray) -> np.ndarray:
    """(K,) shares of the classes that have images, the largest first."""
    counts = np.asarray(counts, np.float64)
    if not counts.sum() > 0:
        raise BadData("chance level: no class has images")
    return np.asarray(np.sort(counts[counts > 0])[::-1] / counts.sum())


def guessed(metric: str, counts: np.ndarray) -> float | None:
    """The most that a classifier which learnt nothing is likely to reach: its chance level and three standard errors.

    metric: name of a built-in metric; counts: (C,) test images of each class. None for metrics of which being no
    better than chance does not mean that nothing was learnt (a sharp classifier may have a high cross-entropy), for a
    user's own, and where there are too few images to tell.
    """
    score = BUILT_IN.get(metric)
    if score is None or score.chance is None or score.sign < 0:
        return None
    counts = np.asarray(counts, np.float64)
    counts, chance = counts[counts > 0], score.chance(counts)
    if metric == "auroc":  # of ranks without meaning (Mann and Whitney 1947); those of the classes may go together
        others = counts.sum() - counts
        error = float(np.sqrt((counts.sum() + 1) / (12 * counts * others)).mean()) if len(counts) > 1 else math.inf
    else:
        images = counts.sum() if metric in ("accuracy", "top5") else len(counts) ** 2 / (1 / counts).sum()
        error = math.sqrt(chance * (1 - chance) / images)
    level = chance + 3 * error
    return level if level < 1 else None


# What can be computed, and the level that guessing reaches.
_COMPUTED: dict[str, tuple[Compute, Callable[[np.ndarray], float] | None]] = {
    "accuracy": (_accuracy, lambda counts: float(_shares(counts)[0])),
    "balanced_accuracy": (_balanced_accuracy, lambda counts: 1 / len(_shares(counts))),
    # Guessing in proportion to the classes, F1 = share for each; no other way of guessing has a higher mean.
    "macro_f1": (_macro_f1, lambda counts: 1 / len(_shares(counts))),
    "top5": (_top5, lambda counts: float(_shares(counts)[:5].sum())),
    "cross_entropy": (_cross_entropy, lambda counts: float(-(_shares(counts) * np.log(_shares(counts))).sum())),
    "calibration_error": (_calibration_error, None),
    "auroc": (_auroc, lambda counts: 0.5),
}
BUILT_IN = {
    name: Score(**vars(CLASSIFIER[name]), compute=compute, chance=chance)
    for name, (compute, chance) in _COMPUTED.items()
}
