"""Measure error rates on simulated sweeps: of the confirmed effects and, for comparison, of the usual analyses.

Writes calibration.json and calibration.md. The committed table is results/reference/calibration.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnetlab.cli.calibrate import calibrate
from resnetlab.cli.exit_codes import report_errors, run_app

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    repeats: Annotated[int, typer.Option(min=1, help="simulated confirm stages per scenario")] = 10_000,
    sweeps: Annotated[int, typer.Option(min=1, help="simulated sweeps per search strategy")] = 120,
    seed: Annotated[int, typer.Option(min=0, help="root seed")] = 0,
    out: Annotated[Path, typer.Option(help="output folder", show_default="results/reference")] = REFERENCE,
) -> None:
    with report_errors():
        calibrate(repeats, sweeps, seed, out)


if __name__ == "__main__":
    run_app(app)
