"""Show the progress and the conclusions of a sweep, running or finished.

Works on any machine that can read the results folder, and writes nothing. Needs neither torch nor Ray.
"""

from __future__ import annotations

import typer

from resnetlab.cli import options
from resnetlab.cli.exit_codes import report_errors, run_app
from resnetlab.cli.status import print_status

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__, epilog="Example: python sweeps/status.py results/default")
def main(place: options.Results, json: options.Json = False) -> None:
    with report_errors():
        print_status(place, json)


if __name__ == "__main__":
    run_app(app)
