"""Send results to TensorBoard, MLflow or Weights & Biases, from the tables of a running or finished sweep.

A `feed.Tracker` adapts one tool; `feed.Feed` gives it the new rows. A tool's package is imported only if it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnetlab.tracking.feed import Tracker


def chosen(study: str, tensorboard: Path | None, mlflow: str | None, wandb: str | None) -> list[Tracker]:
    """Make the tracker of each tool whose option is not None. study: its name.

    Raises BadRequest if a tool is not installed or cannot be reached.
    """
    trackers: list[Tracker] = []
    if tensorboard is not None:
        from resnetlab.tracking.tensorboard import TensorBoard

        trackers.append(TensorBoard(tensorboard))
    if mlflow is not None:
        from resnetlab.tracking.mlflow import MLflow

        trackers.append(MLflow(mlflow, study))
    if wandb is not None:
        from resnetlab.tracking.wandb import Wandb

        trackers.append(Wandb(wandb, study))
    return trackers
