"""Say where a sweep stands and what it concludes, from anywhere that sees its results folder, while it runs or after.

Reads the tables alone and writes nothing; torch and ray are not needed.
"""

from __future__ import annotations

from typing import Annotated

import typer

from resnetlab import cli

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__, epilog="Example: python sweeps/status.py results/default")
def main(
    place: Annotated[str, typer.Argument(metavar="RESULTS", help="a results folder, or its URL")],
    json: Annotated[bool, typer.Option("--json", help=cli.JSON)] = False,
) -> None:
    with cli.endings():
        cli.show(place, json)


if __name__ == "__main__":
    cli.start(app)
