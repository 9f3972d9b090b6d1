"""Remake the figures and report.html of a results folder from its tables alone; torch and ray are not needed.

python sweeps/report.py results/default
python sweeps/report.py results/default --figure effects --out fig3.pdf
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnetlab import cli
from resnetlab.errors import BadRequest

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    place: Annotated[str, typer.Argument(metavar="RESULTS", help="a results folder, or its URL")],
    figure: Annotated[str | None, typer.Option(help="make this figure alone, e.g. `effects`")] = None,
    out: Annotated[Path | None, typer.Option(help="file for it: .pdf, .svg or .png; default: FIGURE.pdf")] = None,
    columns: Annotated[
        int | None, typer.Option(help="its width in columns of a paper: 1 (3.5 inches) or 2 (7 inches)")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help=cli.JSON)] = False,
) -> None:
    """Remake the figures and report.html of a results folder from its tables alone, or make one figure."""
    with cli.endings():
        if figure is not None:
            cli.one_figure(place, figure, out or Path(f"{figure}.pdf"), columns)
        elif out is not None or columns is not None:
            raise BadRequest("--out and --columns are for one figure: say which with --figure")
        else:
            cli.remake(place, json)


if __name__ == "__main__":
    cli.start(app)
