"""Compare runs that were made elsewhere: a CSV or Parquet file, or an Optuna storage. Needs neither torch nor Ray."""

from __future__ import annotations

import typer

from resnetlab.cli.analyse import EPILOG, analyse
from resnetlab.cli.exit_codes import run_app

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command(epilog=EPILOG)(analyse)


if __name__ == "__main__":
    run_app(app)
