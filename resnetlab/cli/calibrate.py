"""`resnetlab calibrate`: error rates of every kind of claim, on simulated sweeps whose true effects are known."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from resnetlab.cli.exit_codes import report_errors
from resnetlab.paths import writable_folder

if TYPE_CHECKING:
    from resnetlab.storage.store import Store


EXAMPLE = "--repeats 1000 --sweeps 20 --out calibration"


def main(
    repeats: Annotated[int, typer.Option(min=1, help="simulated confirm stages per scenario")] = 10_000,
    sweeps: Annotated[int, typer.Option(min=1, help="simulated sweeps per search strategy")] = 120,
    seed: Annotated[int, typer.Option(min=0, help="root seed")] = 0,
    out: Annotated[Path, typer.Option(help="output folder")] = Path("results/reference"),
    images: Annotated[bool, typer.Option("--images", help="only whether intervals hold on new images")] = False,
) -> None:
    """Measure error rates on simulated sweeps: of the confirmed effects and, for comparison, of the usual analyses.

    Writes calibration.json and calibration.md; with --images calibration-images.json and calibration-images.md.
    """
    with report_errors():
        if images:
            calibrate_images(repeats, seed, out)
        else:
            calibrate(repeats, sweeps, seed, out)


def calibrate_images(repeats: int, seed: int, out: Path) -> None:
    """Measure coverage on new images, and write calibration-images.json and calibration-images.md.

    Args:
        repeats: simulated confirm stages per world.
        seed: root seed.
        out: folder to write to.

    Raises:
        BadRequest: nothing can be written in `out`.
    """
    out = writable_folder(out, "--out")
    from resnetlab.calibration.new_images import WORLDS, measure_images, table

    rows = [row for world in WORLDS for row in measure_images(world, repeats, seed)]
    about = "coverage of 95% intervals where each repeat draws other runs and other images; shares are fractions"
    content = {"about": about, "seed": seed, "rows": rows}
    (out / "calibration-images.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    head = (
        "# Intervals on new images\n\nSimulated (`python sweeps/calibrate.py --images`): each repeat draws other runs "
        "and other test images. Coverage of 95% intervals in percent.\n\n"
    )
    (out / "calibration-images.md").write_text(f"{head}{table(rows)}\n", encoding="utf-8")
    print(f"table: {out / 'calibration-images.md'}")


def calibrate(repeats: int, sweeps: int, seed: int, out: Path) -> None:
    """Measure the error rates, and write calibration.json and calibration.md.

    Args:
        repeats: simulated confirm stages per scenario.
        sweeps: simulated sweeps per search strategy.
        seed: root seed.
        out: folder to write to.

    Raises:
        BadRequest: nothing can be written in `out`.
    """
    out = writable_folder(out, "--out")
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
