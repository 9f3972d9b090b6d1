"""`resnetlab export`: results sent to Optuna, TensorBoard, MLflow or Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from resnetlab.cli import options
from resnetlab.cli.exit_codes import report_errors
from resnetlab.errors import BadRequest, NotSent
from resnetlab.provenance import without_secrets

EXAMPLE = "results/default --optuna study.db"


def main(
    place: options.Results,
    optuna: Annotated[
        str | None, typer.Option(help="write an Optuna study to this file (.db for SQLite, .log or .journal) or URL")
    ] = None,
    tensorboard: options.TensorBoard = None,
    mlflow: options.MLflow = None,
    wandb: options.Wandb = None,
) -> None:
    """Export a results folder to Optuna, TensorBoard, MLflow or Weights & Biases.

    A sweep takes the same options, except --optuna, to send its trials while it runs.
    """
    with report_errors():
        export(place, optuna, {"tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb})


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
