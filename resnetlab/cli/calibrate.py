"""`resnetlab calibrate`: error rates of every kind of claim, on simulated sweeps whose true effects are known."""

from __future__ import annotations

import platform
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from resnetlab.cli.exit_codes import report_errors
from resnetlab.paths import writable_folder

if TYPE_CHECKING:
    from resnetlab.storage.store import Store


class Part(StrEnum):
    """What can be measured alone."""

    STAGES = "stages"
    LOOKS = "looks"
    SHARED_SEEDS = "shared-seeds"
    NEW_IMAGES = "new-images"
    LOW_RUNS = "low-runs"


EXAMPLE = "--repeats 1000 --sweeps 20 --out calibration"


def main(
    repeats: Annotated[int, typer.Option(min=1, help="simulated confirm stages per scenario")] = 10_000,
    sweeps: Annotated[int, typer.Option(min=1, help="simulated sweeps per search strategy")] = 120,
    seed: Annotated[int, typer.Option(min=0, help="root seed")] = 0,
    out: Annotated[Path, typer.Option(help="output folder")] = Path("results/reference"),
    only: Annotated[Part | None, typer.Option(help="measure and write this part alone")] = None,
) -> None:
    """Measure error rates on simulated sweeps: of the confirmed effects and, for comparison, of the usual analyses.

    Writes calibration.json, looks.json (looks at the confirm runs), shared-seeds.json (seeds that move all arms
    together), new-images.json (intervals on other test images) and low-runs.json (runs of two kinds), and a table
    (.md) beside each.
    """
    with report_errors():
        calibrate(repeats, sweeps, seed, out, only)


def calibrate(repeats: int, sweeps: int, seed: int, out: Path, only: Part | None = None) -> None:
    """Measure the error rates, and write each part's JSON and table.

    Args:
        repeats: simulated confirm stages per scenario.
        sweeps: simulated sweeps per search strategy.
        seed: root seed.
        out: folder to write to.
        only: measure and write this part alone.

    Raises:
        BadRequest: nothing can be written in `out`.
    """
    out = writable_folder(out, "--out")
    versions = {name: version(name) for name in ("numpy", "scipy", "pandas", "optuna")}
    about = {"seed": seed, "versions": {"python": platform.python_version(), **versions}}
    if only in (None, Part.STAGES):
        _stages(repeats, sweeps, seed, out, about)
    if only in (None, Part.LOOKS):
        _looks(repeats, seed, out, about)
    if only in (None, Part.SHARED_SEEDS):
        _shared_seeds(repeats, seed, out, about)
    if only in (None, Part.NEW_IMAGES):
        _new_images(repeats, seed, out, about)
    if only in (None, Part.LOW_RUNS):
        _low_runs(repeats, seed, out, about)


def _low_runs(repeats: int, seed: int, out: Path, about: dict[str, Any]) -> None:
    from resnetlab.calibration.low_runs import cases, measure_low, write

    rows = [measure_low(case, repeats, seed) for case in cases()]
    said = "confirm stages of equal arms whose runs are of two kinds; shares are fractions"
    print(f"table: {write(out, {'about': said} | about, rows)}")


def _new_images(repeats: int, seed: int, out: Path, about: dict[str, Any]) -> None:
    from resnetlab.calibration.new_images import WORLDS, measure_images, write

    rows = [row for world in WORLDS for row in measure_images(world, repeats, seed)]
    said = "coverage of 95% intervals where each repeat draws other runs and other images; shares are fractions"
    print(f"table: {write(out, {'about': said} | about, rows)}")


def _shared_seeds(repeats: int, seed: int, out: Path, about: dict[str, Any]) -> None:
    from resnetlab.calibration.shared_seeds import cases, measure_shared, write

    rows = [measure_shared(case, repeats, seed) for case in cases()]
    said = "confirm stages whose seeds move all arms together; shares are fractions"
    print(f"table: {write(out, {'about': said} | about, rows)}")


def _looks(repeats: int, seed: int, out: Path, about: dict[str, Any]) -> None:
    from resnetlab.calibration.looks import cases, measure_looks
    from resnetlab.calibration.looks_table import write

    rows: list[dict[str, Any]] = []
    for case in cases():  # an hour: what is measured is written as it comes
        rows.append(measure_looks(case, repeats, seed))
        place = write(
            out, {"about": "looks at simulated confirm stages; shares are fractions, bias points"} | about, rows
        )
    print(f"table: {place}")


def _stages(repeats: int, sweeps: int, seed: int, out: Path, about: dict[str, Any]) -> None:
    from resnetlab.calibration.error_rates import measure, measure_claims, power_table, scenarios
    from resnetlab.calibration.sweeps import measure_sweeps
    from resnetlab.calibration.table import write
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
    content = {
        "about": "error rates on simulated sweeps with planted truth; shares are fractions, bias and rmse points",
        **about,
        "confirm": confirm,
        "power": power,
        "claims": claims,
        "sweeps": whole,
    }
    print(f"table: {write(out, content)}")
