"""Tools that people have, fed from the tables: rows in, calls out. The same code follows a running sweep and sends an
old one.

A `feed.Tracker` is one tool; `feed.Feed` gives it what is new. A tool's package is imported when it is asked for and
not before.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnetlab.tracking.feed import Tracker


def chosen(study: str, tensorboard: Path | None, mlflow: str | None, wandb: str | None) -> list[Tracker]:
    """The trackers that were asked for, ready. BadRequest where one is not installed or cannot be reached."""
    found: list[Tracker] = []
    if tensorboard is not None:
        from resnetlab.tracking.tensorboard import TensorBoard

        found.append(TensorBoard(tensorboard))
    if mlflow is not None:
        from resnetlab.tracking.mlflow import MLflow

        found.append(MLflow(mlflow, study))
    if wandb is not None:
        from resnetlab.tracking.wandb import Wandb

        found.append(Wandb(wandb, study))
    return found
