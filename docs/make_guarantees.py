"""Print the README's table of guarantees from calibration.json, looks.json, new-images.json, low-runs.json
and kills.json, and of the search from the benchmark's results.

python docs/make_guarantees.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference"
CALIBRATE = "`python sweeps/calibrate.py`"


def read(name: str) -> dict[str, Any]:
    return json.loads((REFERENCE / name).read_text(encoding="utf-8"))


def span(values: list[float]) -> str:
    return f"{100 * min(values):.1f} to {100 * max(values):.1f}%"


def search() -> tuple[str, str, str, str]:
    """The row of the search: its epochs over those of the best peer in each world of the benchmark."""
    content = json.loads((ROOT / "benchmarks/results/search.json").read_text(encoding="utf-8"))
    held = [one for one in content["targets"] if ": ours, linear, asha-promotion: " in one["target"]]
    over = [one["row"]["median"] for one in held if not one["target"].startswith("slow starters")]
    n = min(one["row"]["n"] for one in held)
    return (
        "epochs until the search has found a setting within 0.5 points of the best, over those of the best peer",
        f"{min(over):.2f} to {max(over):.2f} in {len(over)} worlds, with `sampler: linear, stopping: asha-promotion` "
        f"({n} searches of each)",
        "`python benchmarks/search.py`",
        "a best choice that starts slowly, which needs `stopping: hyperband` or `none`",
    )


def table() -> str:
    calibration, kills = read("calibration.json"), read("kills.json")
    stages = [row for row in calibration["confirm"] if row["family"] != "simple"]
    simple = [row for row in calibration["confirm"] if row["family"] == "simple"]
    power = next(row for row in calibration["power"] if row["effect_points"] == 0.5 and row["epochs"] == 480)
    repeats = f"{min(row['repeats'] for row in stages):,} simulated confirm stages in each of {len(stages)} cases"
    saved = next(row for row in read("looks.json")["targets"] if row["target"] == "epochs saved: k = 16, 5 primaries")
    images = [row for row in read("new-images.json")["rows"] if "new" in row]  # not those of redrawn splits
    false = next(row for row in calibration["targets"] if row["target"].startswith("any false claim in a family"))
    low = max(row["familywise"] for row in read("low-runs.json")["rows"])
    number = sum(kills["kills"].values())
    killed = f"{number} SIGKILLs of drivers, workers and nodes, {kills['sweeps']} sweeps"
    rows = [
        (
            "95% intervals cover the true effect",
            f"{span([row['coverage'] for row in stages])} ({repeats})",
            CALIBRATE,
            "simple effects are shown only after an interaction was found; their intervals, which account for that, "
            f"cover {span([row['coverage'] for row in simple])}, and factors of three levels or more have none",
        ),
        (
            "any false claim in a family of comparisons, adjusted (Holm)",
            f"{span(false['measured'])} (allowed: 5.5%)",
            CALIBRATE,
            f"missed effects: {100 * power['power']:.0f}% power for {power['effect_points']} points at a seed sd of "
            f"0.74 in {power['epochs'] // power['run_epochs']} runs; several studies together; arms of which some runs "
            f"end low but above guessing, with 2 or 3 seeds of one factor (up to {100 * low:.0f}%)",
        ),
        (
            "95% intervals hold on new test images of the same kind",
            f"{span([row['new'] for row in images])} ({min(row['repeats'] for row in images):,} simulated confirm "
            f"stages in each of {len(images)} cases)",
            "`python sweeps/calibrate.py --only new-images --repeats 1000`",
            "other training images; other splits only with `confirm.splits: per-block`",
        ),
        (
            "confirm epochs saved by looks (`confirm.looks: blocks`), at the same error rates",
            f"{span(saved['measured'])} with 16 seeds and five factors ({saved['repeats']:,} simulated confirm stages "
            "in each case)",
            "`python sweeps/calibrate.py --only looks`",
            "about 0 with 4 seeds; what looks decide is about these test images",
        ),
        (
            "recorded rows lost, duplicated or changed in any bit by kills",
            f"{kills['lost'] + kills['doubled'] + kills['wrong']} of {kills['rows']:,} ({killed})",
            f"`{kills['command']}`",
            f"up to {kills['most_epochs_begun_again_of_one']} epoch per kill is trained again; equal bits only on the "
            "same CPU with the same versions",
        ),
    ]
    rows.append(search())
    lines = ["| what | measured | command | not covered |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


if __name__ == "__main__":
    print(table())
