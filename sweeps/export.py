"""Export a results folder to Optuna, TensorBoard, MLflow or Weights & Biases.

The same options of ablation.py follow a sweep while it runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from resnetlab.cli import options
from resnetlab.cli.exit_codes import report_errors, run_app
from resnetlab.cli.export import export

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__, epilog="Example: python sweeps/export.py results/default --optuna study.db")
def main(
    place: options.Results,
    optuna: Annotated[
        str | None, typer.Option(help="write an Optuna study to this file (.db for SQLite, .log or .journal) or URL")
    ] = None,
    tensorboard: options.TensorBoard = None,
    mlflow: options.MLflow = None,
    wandb: options.Wandb = None,
) -> None:
    with report_errors():
        export(place, optuna, {"tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb})


if __name__ == "__main__":
    run_app(app)
