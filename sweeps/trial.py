"""Run one recorded trial again from its row, say whether it came out as recorded, and export what it learned."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from resnetlab import cli

Device = StrEnum("Device", ["cpu", "cuda"])

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__, epilog="Example: python sweeps/trial.py results/default 12 --export model")
def main(
    place: Annotated[str, typer.Argument(metavar="RESULTS", help="a results folder, or its URL")],
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="trial_id, the beginning of one, or a number")],
    data: Annotated[
        str | None, typer.Option(help="folder or archive of the images, or of further fonts, where one is needed")
    ] = None,
    device: Annotated[Device | None, typer.Option(help="default: what the trial ran on, where that is here")] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="folder for the trained network: safetensors and config, torch.export, an example"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help=cli.JSON)] = False,
) -> None:
    with cli.endings():
        cli.rerun(place, trial, data, device.value if device else None, export, json)


if __name__ == "__main__":
    cli.start(app)
