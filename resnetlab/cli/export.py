"""`export.py`: results sent to Optuna, TensorBoard, MLflow or Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnetlab.errors import BadRequest, NotSent
from resnetlab.provenance import without_secrets


def export(place: str, optuna: str | None, trackers: Mapping[str, Any]) -> None:
    """Send the results folder at `place` to other tools.

    Args:
        place: path or URL of the results folder.
        optuna: storage in which to write the search as an Optuna study; None for none.
        trackers: the options of the tools that get the trials: arguments of `tracking.chosen`.

    Raises:
        BadRequest: no tool was named, or one is not installed or cannot be reached.
        NotSent: a tool did not accept the trials.
    """
    from resnetlab.analysis.results import Results
    from resnetlab.tracking import chosen
    from resnetlab.tracking.feed import Feed

    if optuna is None and not any(trackers.values()):
        raise BadRequest("nothing to export: give --optuna, --tensorboard, --mlflow or --wandb")
    results = Results.open(place)
    tools = chosen(results.study.name, **trackers)
    if optuna is not None:
        from resnetlab.search.optuna_export import write

        print(f"optuna: {write(results.study, results.folder, optuna)} trials in {without_secrets(optuna)}")
    feed = Feed(results.folder, tools)
    feed.catch_up()
    feed.close()
    for name, number in feed.held().items():
        if name not in feed.problems:
            print(f"{name}: {number} of {len(results.trials)} trials, all that have ended")
    if feed.problems:
        raise NotSent("; ".join(f"--{name}: {problem}" for name, problem in feed.problems.items()))
