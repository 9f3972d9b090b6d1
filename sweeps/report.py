"""Remake the figures and report.html of a results folder from its tables alone; torch and ray are not needed.

python sweeps/report.py results/default
"""

import sys
from typing import Annotated

import typer

from resnetlab.errors import ResnetlabError
from resnetlab.report.build import build_report


def main(place: Annotated[str, typer.Argument(metavar="RESULTS", help="a results folder, or its URL")]) -> None:
    """Remake the figures and report.html of a results folder from its tables alone."""
    try:
        report = build_report(place)
    except ResnetlabError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    print(report)


if __name__ == "__main__":
    typer.run(main)
