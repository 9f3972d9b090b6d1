"""Run an ablation sweep: explore with Optuna and ASHA on Ray Tune, confirm on fresh seeds, report.

The same command on an existing results folder continues it.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from resnetlab import cli, tracking
from resnetlab.study.yaml_io import parse_value

STUDIES = Path(__file__).resolve().parent / "studies"

EPILOG = (
    "Exit codes: 0 done, 1 trials failed (no result, or a comparison not made), 2 bad request, 3 bad data, "
    "4 folder refused, 75 cluster or storage lost, 130 interrupted. "
    "Example: python sweeps/ablation.py --study default --trials 30 --set confirm.seeds=3"
)
Phase = StrEnum("Phase", ["pilot", "explore", "plan", "confirm", "all"])

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__, epilog=EPILOG)
def main(
    study: Annotated[str, typer.Option(help="a name in sweeps/studies, or a YAML file")] = "default",
    address: Annotated[str | None, typer.Option(help="Ray cluster to join: `auto`, or host:port")] = None,
    nodes: Annotated[int, typer.Option(help="wait up to two minutes for so many nodes; more may join later")] = 1,
    trials: Annotated[int | None, typer.Option(help="explore trials")] = None,
    epochs: Annotated[int | None, typer.Option(help="full budget of one trial")] = None,
    gpus_per_trial: Annotated[
        str | None, typer.Option(help="0.25 puts four trials on one GPU; `auto` measures how many are worth it")
    ] = None,
    cpus_per_trial: Annotated[float | None, typer.Option(help="CPUs, and threads, of one trial")] = None,
    storage: Annotated[str, typer.Option(help="folder or URL under which results/<study> lies")] = "results",
    seed: Annotated[int | None, typer.Option(help="root of all seeds")] = None,
    name: Annotated[str | None, typer.Option(help="name of the results folder; default: the study's name")] = None,
    font_dir: Annotated[str | None, typer.Option(help="glyphs: a folder of further fonts")] = None,
    weights: Annotated[Path | None, typer.Option(help=cli.WEIGHTS)] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change one key of the study")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help=cli.RETRY)] = False,
    phase: Annotated[
        Phase,
        typer.Option(
            metavar="PHASE", help="pilot (the baseline's seeds), explore, plan, confirm (explores no further) or all"
        ),
    ] = Phase.all,
    tensorboard: Annotated[Path | None, typer.Option(help=tracking.HELP["tensorboard"])] = None,
    mlflow: Annotated[str | None, typer.Option(help=tracking.HELP["mlflow"])] = None,
    wandb: Annotated[str | None, typer.Option(help=tracking.HELP["wandb"])] = None,
    json: Annotated[bool, typer.Option("--json", help=cli.JSON)] = False,
    settings: Annotated[bool, typer.Option("--settings", help="list the studies and every setting, and end")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and its cost, and run nothing")] = False,
) -> None:
    changes = {
        "search.trials": trials,
        "search.epochs": epochs,
        "resources.gpus": None if gpus_per_trial is None else parse_value(gpus_per_trial),
        "resources.cpus": cpus_per_trial,
        "seed": seed,
        "name": name,
        "dataset.font_dir": font_dir,
    }
    with cli.endings():
        if settings:
            cli.print_settings(STUDIES)
            return
        chosen = cli.load(study, STUDIES, changes, set_ or [])
        how: dict[str, Any] = {"address": address, "stage": phase.value, "weights": weights, "nodes": nodes}
        if dry_run:
            cli.print_plan(chosen, storage, **how)
        else:
            tools = {"tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb}
            cli.run(chosen, storage, json, tools, retry_failed=retry_failed, **how)


if __name__ == "__main__":
    cli.start(app)
