"""Send a results folder to tools that you have: the search to an Optuna storage, the trials to TensorBoard, MLflow or
Weights & Biases. A sweep that runs sends by the same options of ablation.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnetlab import cli, tracking

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__, epilog="Example: python sweeps/export.py results/default --optuna study.db")
def main(
    place: Annotated[str, typer.Argument(metavar="RESULTS", help="a results folder, or its URL")],
    optuna: Annotated[
        str | None, typer.Option(help="file .db (SQLite), .log or .journal, which optuna-dashboard opens, or a URL")
    ] = None,
    tensorboard: Annotated[Path | None, typer.Option(help=tracking.HELP["tensorboard"])] = None,
    mlflow: Annotated[str | None, typer.Option(help=tracking.HELP["mlflow"])] = None,
    wandb: Annotated[str | None, typer.Option(help=tracking.HELP["wandb"])] = None,
) -> None:
    with cli.endings():
        cli.export(place, optuna, {"tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb})


if __name__ == "__main__":
    cli.start(app)
