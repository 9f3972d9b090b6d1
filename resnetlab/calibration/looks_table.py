"""What looks save and cost, as JSON for machines and a Markdown table for people, with the targets that it faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnetlab.calibration.table import FAMILYWISE, Rows, goals, grid, percent, write_files

NAME = "looks"
LOST = 0.03  # of power, against the fixed design
# what must be saved: design, seeds, primaries, re-estimated, points (None: on the average of all), least share
SAVED: tuple[tuple[str, int, int, bool, float | None, float], ...] = (
    ("fractional", 8, 5, False, None, 0.10),
    ("fractional", 16, 5, False, None, 0.35),
    ("fractional", 23, 5, False, None, 0.45),
    ("fractional", 8, 1, False, 1.0, 0.55),
    ("fractional", 23, 1, False, 1.0, 0.75),
    ("fractional", 16, 5, True, None, 0.55),
)
LEAST_POWER = 0.78  # at delta, where seeds are set again


def write(place: Path, about: Mapping[str, Any], rows: Rows) -> Path:
    """Write `place`/looks.json and looks.md; returns the latter. rows: as of `measure_looks`."""
    content = {**about, "rows": list(rows), "targets": targets(rows)}
    return write_files(place, NAME, content, markdown(content))


def targets(rows: Rows) -> list[dict[str, Any]]:
    """Each target with what was measured for it, and whether it holds."""
    found = [
        _target("any false effect in a family, over all lines", [row["familywise"] for row in rows], 0.0, FAMILYWISE),
        _target(
            "power lost against the same runs without looks, where seeds are not set again",
            [row["power_fixed"] - row["power"] for row in rows if row["points"] and not row["reestimate"]],
            -1.0,
            LOST,
        ),
    ]
    equal = [row for row in rows if row["world"] == "equal variances"]
    for design, seeds, primaries, again, points, least in SAVED:
        wanted = design, seeds, primaries, again
        some = [r for r in equal if (r["design"], r["seeds"], r["primaries"], r["reestimate"]) == wanted]
        some = [row for row in some if points is None or row["points"] == points]
        what = f"{primaries} primaries" if primaries > 1 else f"one primary of {points:g} points"
        name = f"epochs saved: k = {seeds}, {what}{', seeds set again' if again else ''}"
        found.append(_target(name, [1 - row["epochs"] for row in some], least, 1.0))
    reset = [row for row in equal if row["reestimate"] and row["seeds"] == 16 and row["points"] == 0.5]
    name = "power at delta with seeds set again, k = 16"
    found.append(_target(name, [row["power"] for row in reset], LEAST_POWER, 1.0))
    repeats = min((row["repeats"] for row in rows), default=0)
    return [target | {"repeats": repeats} for target in found if target["measured"]]


def _target(name: str, values: Sequence[float], low: float, high: float) -> dict[str, Any]:
    ends = [min(values), max(values)] if values else []
    return {
        "target": name,
        "allowed": [low, high],
        "measured": ends,
        "met": bool(ends) and low <= ends[0] <= ends[1] <= high,
    }


def markdown(content: Mapping[str, Any]) -> str:
    rows = content["rows"]
    parts = [
        "# Looks at the confirm runs: what they save, and what they cost",
        f"Simulated with planted truth (`python sweeps/calibrate.py --only looks --seed {content['seed']}`): five "
        "factors, single-run sd 0.74 points, delta 0.5, α 0.05; kernel alone has an effect. A look after each block "
        "from the second; O'Brien-Fleming spending, Holm, futility as the plan has it. In percent.",
        "## Targets",
        goals(content["targets"]),
        "## All lines",
        _lines(rows),
        "Epochs: share of the planned runs that were run. In brackets: the same runs without a look. Where one primary "
        "is declared, its power is compared with an unadjusted test of it. Settled: primaries that a look settled (an "
        "effect, equivalent, or not resolvable). Bias: of kernel's estimate where its comparison stopped, in points. "
        "Coverage: of the ordinary interval at stopping / of the repeated interval, over all comparisons.",
    ]
    return "\n\n".join(parts) + "\n"


def _lines(rows: Rows) -> str:
    def both(row: Mapping[str, Any], name: str) -> str:
        return "–" if row[name] is None else f"{percent(row[name])} ({percent(row[f'{name}_fixed'])})"

    return grid(
        ["world", "design", "k", "primaries", "seeds set again", "kernel, points", "repeats", "epochs", "familywise",
         "power", "falsely equivalent", "settled", "bias", "coverage"],
        [
            [
                row["world"],
                row["design"],
                str(row["seeds"]),
                str(row["primaries"]),
                "yes" if row["reestimate"] else "",
                f"{row['points']:g}",
                f"{row['repeats']:,}",
                percent(row["epochs"]),
                both(row, "familywise"),
                both(row, "power"),
                percent(row["equivalent_wrong"]),
                percent(row["settled"], 0),
                "–" if row["bias"] is None else f"{row['bias']:+.2f}",
                f"{percent(row['coverage'])} / {percent(row['coverage_repeated'])}",
            ]
            for row in rows
        ],
    )  # fmt: skip
