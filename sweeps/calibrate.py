"""Measure the error rates of the confirmed effects, and of the usual analyses beside them, on simulated sweeps.

Writes calibration.json and calibration.md. The committed table is `results/reference/calibration.md`.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from resnetlab import cli
from resnetlab.calibration.error_rates import measure, measure_claims, power_table, scenarios
from resnetlab.calibration.sweeps import measure_sweeps
from resnetlab.calibration.table import write
from resnetlab.paths import writable_folder

if TYPE_CHECKING:
    from resnetlab.storage.store import Store

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    repeats: Annotated[int, typer.Option(min=1, help="confirm stages in each world")] = 10_000,
    sweeps: Annotated[int, typer.Option(min=1, help="whole simulated sweeps of each way")] = 120,
    seed: Annotated[int, typer.Option(min=0, help="root of all seeds")] = 0,
    out: Annotated[Path, typer.Option(help="folder to write to")] = REFERENCE,
) -> None:
    with cli.endings():
        out = writable_folder(out, "--out")
        from resnetlab.sweep.state_machine import Sweep
        from resnetlab.sweep.task import one_dataset

        facts = {"data_hash": "simulated", "git_revision": "simulated"}
        confirm = [row for scenario in scenarios() for row in measure(scenario, repeats, seed)]
        print(f"confirm stages: {len(scenarios())} worlds and designs, {repeats:,} repeats each")
        power, claims = power_table(repeats, seed), measure_claims(repeats, seed)
        whole = measure_sweeps(
            lambda study, store: Sweep(study, cast("Store", store), facts, one_dataset(study, "simulated", ())),
            sweeps,
            seed,
        )
        versions = {name: version(name) for name in ("numpy", "scipy", "pandas", "optuna")}
        content = {
            "about": "error rates on simulated sweeps with planted truth; shares are fractions, bias and rmse points",
            "seed": seed,
            "versions": {"python": platform.python_version(), **versions},
            "confirm": confirm,
            "power": power,
            "claims": claims,
            "sweeps": whole,
        }
        print(f"table: {write(out, content)}")


if __name__ == "__main__":
    cli.start(app)
