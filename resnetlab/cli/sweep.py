"""`resnetlab sweep`: run or continue a study, and write its report."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from resnetlab.cli import options
from resnetlab.cli.dry_run import dry_run
from resnetlab.cli.exit_codes import report_errors
from resnetlab.cli.requested import requested_study, run_options
from resnetlab.cli.run_and_report import answer_if_finished, run
from resnetlab.cli.settings import list_settings
from resnetlab.driver.checks import own_process
from resnetlab.ray_backend.capacity import check_slots
from resnetlab.study.included import study_names
from resnetlab.study.yaml_io import parse_value

EXAMPLE = "--study default --trials 30 --set confirm.seeds=3"
Phase = StrEnum("Phase", ["pilot", "explore", "plan", "confirm", "all"])


def main(
    context: typer.Context,
    study: Annotated[
        str, typer.Option(help="name of an included study, or a YAML file", autocompletion=study_names)
    ] = "default",
    address: options.Address = None,
    nodes: Annotated[int, typer.Option(help="wait up to two minutes for this many nodes; more can join later")] = 1,
    trials: Annotated[int | None, typer.Option(help="number of trials in the explore phase")] = None,
    epochs: Annotated[int | None, typer.Option(help="epochs of a trial that is not stopped early")] = None,
    gpus_per_trial: options.GpusPerTrial = None,
    cpus_per_trial: Annotated[float | None, typer.Option(help="CPU cores, and threads, for each trial")] = None,
    time_budget: options.TimeBudget = None,
    slots: options.Slots = None,
    storage: options.Storage = "results",
    seed: Annotated[int | None, typer.Option(help="root seed of the study")] = None,
    name: Annotated[
        str | None, typer.Option(help="name of the results folder", show_default="the study's name")
    ] = None,
    font_dir: Annotated[str | None, typer.Option(help="folder of additional fonts (glyphs only)")] = None,
    weights: options.Weights = None,
    settings: options.Set = None,
    retry_failed: options.RetryFailed = False,
    accept_changed_code: options.AcceptChangedCode = False,
    extend: options.Extend = False,
    phase: Annotated[
        Phase, typer.Option(help="stop after pilot, explore or plan; confirm runs that phase alone", metavar="PHASE")
    ] = Phase.all,
    notify: options.Notify = None,
    tensorboard: options.TensorBoard = None,
    mlflow: options.MLflow = None,
    wandb: options.Wandb = None,
    json: options.Json = False,
    show_settings: Annotated[
        bool, typer.Option("--settings", help="list the included studies and every setting of a study")
    ] = False,
    only_plan: options.DryRun = False,
) -> None:
    """Run an ablation study: explore with Optuna and ASHA on Ray Tune, confirm on fresh seeds, report.

    The same command continues a sweep that has stopped.
    """
    overrides = {
        "search.trials": trials,
        "search.epochs": epochs,
        "resources.gpus": None if gpus_per_trial is None else parse_value(gpus_per_trial),
        "resources.cpus": cpus_per_trial,
        "time_budget": time_budget,
        "seed": seed,
        "name": name,
        "dataset.font_dir": font_dir,
    }
    with report_errors():
        if show_settings:
            options.refuse_beside(context, "--settings", *(option for option in context.params if option != "study"))
            mine = study.endswith((".yaml", ".yml"))
            list_settings(requested_study(study, {}).own.parts if mine else ())
            return
        check_slots(slots)
        requested = requested_study(study, overrides, settings, own_process.start)
        trackers = {"tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb}
        more = only_plan or weights or retry_failed or any(trackers.values()) or nodes != 1
        if phase is Phase.all and not more and answer_if_finished(requested, storage, json, notify=notify):
            return
        given = storage, address, nodes, phase.value, weights, retry_failed, accept_changed_code, slots, extend
        execution = run_options(*given)
        if only_plan:
            options.refuse_beside(context, "--dry-run", "json", "notify", "tensorboard", "mlflow", "wandb")
            dry_run(requested, execution)
        else:
            run(requested, execution, json, trackers, notify=notify)
