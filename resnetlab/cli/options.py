"""Command-line options and arguments that several commands share: name, type and help text.

Each command gives its own default: `storage: options.Storage = "results"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from resnetlab.errors import BadRequest

Results = Annotated[str, typer.Argument(metavar="RESULTS", help="results folder, or its URL")]
Storage = Annotated[str, typer.Option(help="folder or URL that holds the results folder")]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster to join: auto or HOST:PORT", show_default="start Ray on this machine"),
]
Slots = Annotated[
    int | None,
    typer.Option(
        help="the most trials that run at once, of what the machine or cluster has room for",
        show_default="as many as fit",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(help="file (safetensors or torch) to use for the torchvision weights that the study names"),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a setting of the study; repeatable")
]
GpusPerTrial = Annotated[
    str | None, typer.Option(help="0.25 runs four trials on each GPU; auto measures how many are worthwhile")
]
TimeBudget = Annotated[
    str | None, typer.Option(help="how long the sweep may run, such as 40m or 1h30m, reports included")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="rerun trials that failed or ran out of memory")]
AcceptChangedCode = Annotated[
    bool, typer.Option("--accept-changed-code", help="continue although the study's own code has changed")
]
Extend = Annotated[
    bool,
    typer.Option(
        "--extend", help="go on from the results of a study that asked for less: trials, levels, factors, epochs, seeds"
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the plan and its cost without running anything")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object to stdout, everything else to stderr")]

Notify = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND", help="run this command, with JSON on its stdin, when the sweep ends, fails or waits"
    ),
]

TensorBoard = Annotated[Path | None, typer.Option(help="write scalars and HParams to this folder for TensorBoard")]
MLflow = Annotated[
    str | None, typer.Option(help="log to this tracking store, e.g. sqlite:///mlflow.db or http://HOST:5000")
]
Wandb = Annotated[str | None, typer.Option(help="log to this Weights & Biases project")]


def refuse_beside(context: typer.Context, option: str, *others: str) -> None:
    """Raise BadRequest if `option` was given with another one that it would ignore.

    others: parameter names of these; without any, every other option is one.
    """
    given = [
        parameter.opts[0] if parameter.opts[0].startswith("-") else str(parameter.name).upper()
        for parameter in context.command.params
        if option not in parameter.opts and _is_given(context, parameter.name, others)
    ]
    if given:
        raise BadRequest(f"{option}: cannot be used with {', '.join(given)} (allowed: one or the other)")


def _is_given(context: typer.Context, name: str | None, among: Sequence[str]) -> bool:
    source = context.get_parameter_source(name) if name and name in (among or context.params) else None
    return source is not None and source.name == "COMMANDLINE"  # compared by name: Typer may bring its own Click
