"""Write a trial's test result to the tables `trials`, `predictions` and `classes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from resnetlab.experiment.messages import Task
from resnetlab.storage.store import Store
from resnetlab.study.records import ItemPredictions, Phase, TaskTest, TestResult


def predictions(test: TestResult | ItemPredictions) -> dict[str, list[Any]]:
    """Columns of `predictions`, by image."""
    order = np.argsort(test.image, kind="stable")
    columns = {"image": test.image, "label": test.labels, "predicted": test.predictions}
    if test.confidence is not None:
        columns["confidence"] = np.asarray(test.confidence, np.float32)
    if isinstance(test, TestResult) and test.contribution is not None:
        columns["contribution"] = np.asarray(test.contribution, np.float32)
    return {name: np.asarray(values)[order].tolist() for name, values in columns.items()}


def classes(test: TestResult | ItemPredictions, names: Sequence[str]) -> dict[str, list[str] | list[int]]:
    """Columns of `classes`, one row for each of `names`."""
    labels, predicted = np.asarray(test.labels), np.asarray(test.predictions)
    n = len(names)
    return {
        "split": ["test"] * n,
        "class": list(range(n)),
        "name": list(names),
        "support": np.bincount(labels, minlength=n).tolist(),
        "predicted": np.bincount(predicted, minlength=n).tolist(),
        "correct": np.bincount(labels[labels == predicted], minlength=n).tolist(),
    }


def record(store: Store, task: Task, test: TestResult | TaskTest, names: Sequence[str]) -> None:
    """Record a trial's test result; predictions and classes only for confirm trials. names: of the classes."""
    if isinstance(test, TaskTest):
        store.add("trials", {"trial_id": task.trial_id, **test.metrics})
        if test.items is not None and task.phase is Phase.CONFIRM:
            store.add_all("predictions", task.trial_id, predictions(test.items))
            store.add_all("classes", task.trial_id, classes(test.items, test.items.classes))
        return
    metrics = {"test_accuracy": test.accuracy, "test_loss": test.loss, **test.metrics}
    store.add("trials", {"trial_id": task.trial_id, **metrics})
    if task.phase is Phase.CONFIRM:
        store.add_all("predictions", task.trial_id, predictions(test))
        store.add_all("classes", task.trial_id, classes(test, names))
