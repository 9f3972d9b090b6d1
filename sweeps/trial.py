"""Rerun one recorded trial, check that it gives the recorded results, and optionally export the trained network."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from resnetlab.cli import options
from resnetlab.cli.exit_codes import report_errors, run_app
from resnetlab.cli.trial import rerun_trial

Device = StrEnum("Device", ["cpu", "cuda"])

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__, epilog="Example: python sweeps/trial.py results/default 12 --export model")
def main(
    place: options.Results,
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="trial_id, the beginning of one, or a trial number")],
    data: Annotated[
        str | None, typer.Option(help="folder or archive of the images, or folder of the additional fonts")
    ] = None,
    device: Annotated[
        Device | None, typer.Option(help="device to run on", show_default="the trial's own, if available")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="output folder for the network: safetensors, torch.export program, config, example code"),
    ] = None,
    json: options.Json = False,
) -> None:
    with report_errors():
        rerun_trial(place, trial, data, device.value if device else None, export, json)


if __name__ == "__main__":
    run_app(app)
