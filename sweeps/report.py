"""Regenerate report.html and the figures of a results folder, or one figure. Needs neither torch nor Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnetlab.cli import options
from resnetlab.cli.exit_codes import report_errors, run_app
from resnetlab.cli.report import report

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__, epilog="Example: python sweeps/report.py results/default --figure effects --out fig3.pdf")
def main(
    context: typer.Context,
    place: options.Results,
    figure: Annotated[str | None, typer.Option(help="write only this figure, e.g. effects")] = None,
    out: Annotated[
        Path | None, typer.Option(help="file for the figure: .pdf, .svg or .png", show_default="FIGURE.pdf")
    ] = None,
    columns: Annotated[
        int | None, typer.Option(help="width of the figure: 1 column (3.5 inches) or 2 columns (7 inches)")
    ] = None,
    json: options.Json = False,
) -> None:
    with report_errors():
        if figure is not None:
            options.refuse_beside(context, "--figure", "json")
        report(place, figure, out, columns, json)


if __name__ == "__main__":
    run_app(app)
