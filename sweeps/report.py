"""Remake the figures and report.html of a results folder from its tables alone; torch and ray are not needed.

python sweeps/report.py results/default
"""

from __future__ import annotations

from typing import Annotated

import typer

from resnetlab import cli

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    place: Annotated[str, typer.Argument(metavar="RESULTS", help="a results folder, or its URL")],
    json: Annotated[bool, typer.Option("--json", help=cli.JSON)] = False,
) -> None:
    """Remake the figures and report.html of a results folder from its tables alone."""
    with cli.endings():
        cli.remake(place, json)


if __name__ == "__main__":
    app()
