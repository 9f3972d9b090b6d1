"""What each image adds to a metric, so that the mean over images is its value.

The spread of these contributions over images is the metric's sampling error on new images. Of a mean over images
(cross-entropy, top-5 accuracy) they are the values themselves; of other metrics they are those of the infinitesimal
jackknife (Jaeckel 1972; Efron 1982), to first order in the weight of each image. Accuracy, balanced accuracy and macro
F1 need only the top-1 predictions, which every table has, so theirs are not kept.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from resnetlab.experiment.scores import calibration_bins, in_top5, log_odds, log_softmax


def contributions(metric: str, labels: np.ndarray, scores: np.ndarray) -> np.ndarray | None:
    """(N,) what each image adds to a built-in metric; None where that is not known of the metric.

    metric: its name, `loss` for the cross-entropy that every run measures; labels: (N,) class numbers; scores: (N, C)
    logits.
    """
    found = _CONTRIBUTIONS.get(metric)
    return None if found is None else found(labels, scores)


def of_predictions(metric: str, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray | None:
    """(N,) the same of a metric for which the predicted classes (N,) are enough; None for others."""
    found = BY_PREDICTIONS.get(metric)
    return None if found is None else found(labels, predicted)


def _right(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return np.asarray(predicted == labels, dtype=float)


def _of_recall(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """What each image adds to the mean recall of the classes that have images."""
    _, of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    right = _right(labels, predicted)
    recall = np.bincount(of, right) / counts
    return np.asarray(recall.mean() + len(labels) / len(counts) * (right - recall[of]) / counts[of])


def _of_f1(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """What each image adds to the mean F1 of the classes that have images."""
    classes = np.unique(labels)
    mine, taken = labels == classes[:, None], predicted == classes[:, None]
    size = mine.sum(1) + taken.sum(1)
    f1 = 2 * (mine & taken).sum(1) / size
    adds = (2.0 * (mine & taken) - f1[:, None] * (mine.astype(float) + taken)) / size[:, None]
    return np.asarray(f1.mean() + len(labels) * adds.mean(0))


BY_PREDICTIONS = {"accuracy": _right, "balanced_accuracy": _of_recall, "macro_f1": _of_f1}


def _cross_entropy(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return np.asarray(-log_softmax(scores)[np.arange(len(labels)), labels])


def _top5(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return in_top5(labels, scores).astype(float)


def _calibration_error(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Within a bin of confidence, the distance of accuracy and confidence is a mean with the sign that it has there."""
    bins, gap = calibration_bins(labels, scores)
    return np.asarray(np.sign(np.bincount(bins, gap))[bins] * gap)


def _auroc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """By the placement of each image among those of the other side (DeLong, DeLong and Clarke-Pearson 1988)."""
    from scipy.stats import rankdata

    ranked, found = log_odds(scores), np.zeros(len(labels))
    classes = np.unique(labels)
    for label in classes:
        mine, column = labels == label, ranked[:, label]
        ranks = rankdata(column)
        placed = np.empty(len(labels))
        n, others = int(mine.sum()), int((~mine).sum())
        placed[mine] = (ranks[mine] - rankdata(column[mine])) / others
        placed[~mine] = 1 - (ranks[~mine] - rankdata(column[~mine])) / n
        area = placed[mine].mean()
        found += area + len(labels) * (placed - area) / np.where(mine, n, others)
    return found / len(classes)


_CONTRIBUTIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "loss": _cross_entropy,
    "cross_entropy": _cross_entropy,
    "top5": _top5,
    "calibration_error": _calibration_error,
    "auroc": _auroc,
}
