"""What the mean of the last epochs is, beside the last one: from the curves of the recorded studies.

python benchmarks/last_epochs.py               prints a table, as Markdown
python benchmarks/last_epochs.py --epochs 5

Of all confirm runs under `results/reference`: their validation accuracy in the last epoch, and its mean over the last
ones. The seed sd is that within arms, pooled.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

MINUS = "\u2212"
REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"


@dataclass(frozen=True)
class Found:
    """Of one schedule in one study. less: mean over the last epochs less the last one, in points, by arm; ratio: of
    the seed sd of the mean to that of the last epoch."""

    schedule: str
    study: str
    runs: int
    epochs: int
    less: np.ndarray
    ratio: float


def measured(place: Path, last: int) -> list[Found]:
    """What the runs of a results folder show; of schedules with longer runs, and more than one to an arm, alone."""
    trials = pd.read_parquet(place / "trials.parquet")
    trials = trials[(trials["phase"] == "confirm") & (trials["status"] == "complete")]
    curves = pd.read_parquet(place / "epochs.parquet").pivot(index="trial_id", columns="epoch", values="val_accuracy")
    schedule = trials["config"].map(lambda text: json.loads(text)["schedule"])
    found = []
    for (name, epochs), mine in trials.groupby([schedule, "epochs_run"]):
        if epochs <= last or mine["design_row"].value_counts().max() < 2:
            continue
        values = 100 * curves.loc[mine["trial_id"], range(1, epochs + 1)].to_numpy()
        arms = mine["design_row"].to_numpy()
        end, mean = pd.Series(values[:, -1]), pd.Series(values[:, -last:].mean(1))
        less = (mean - end).groupby(arms).mean().to_numpy()
        ratio = np.sqrt(mean.groupby(arms).var().mean() / end.groupby(arms).var().mean())
        found.append(Found(str(name), place.name, len(mine), int(epochs), less, float(ratio)))
    return found


def everywhere(last: int) -> list[Found]:
    """By schedule, then by study."""
    found = [one for file in REFERENCE.glob("*/epochs.parquet") for one in measured(file.parent, last)]
    return sorted(found, key=lambda one: (one.schedule, one.study))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    last = parser.parse_args().epochs
    print(f"| schedule | study | runs | epochs | mean of the last {last} less the last, points | by arm | seed sd |")
    print("|---|---|---|---|---|---|---|")
    for one in everywhere(last):
        mean, least, most = (f"{x:+.1f}".replace("-", MINUS) for x in (one.less.mean(), one.less.min(), one.less.max()))
        line = f"| {one.schedule} | {one.study} | {one.runs} | {one.epochs} | {mean} | {least} to {most} "
        print(f"{line}| × {one.ratio:.2f} |")


if __name__ == "__main__":
    main()
