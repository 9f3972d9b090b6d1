"""Arms whose runs are of two kinds, most good and some low: how often equal arms are told apart.

Where the low runs fall to guessing they count as collapsed, and a verdict that turns on them is inconclusive. Where
they stay well above guessing nothing tells them from runs that trained, and Welch's interval of few values of two
kinds is too short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnetlab.analysis.confirm.collapse import Runs
from resnetlab.analysis.confirm.confirm_runs import collapsed
from resnetlab.analysis.confirm.effects import analyse_runs, sides_of
from resnetlab.analysis.confirm.estimands import estimands
from resnetlab.calibration.error_rates import CHUNK, GUESSING, NULL, SD, simulated_plan
from resnetlab.calibration.simulator import confirm_values
from resnetlab.calibration.table import FAMILYWISE, Rows, goals, grid, percent, reached, write_files
from resnetlab.study.seeding import stream

NAME = "low-runs"
AT, ABOVE, TIGHT = "guessing", "30%, sd 5 points", f"30%, sd {SD} points"
LOW: Mapping[str, tuple[float, float]] = {  # mean and sd of the low runs, fractions
    AT: (0.10, (GUESSING - 0.10) / 3),  # chance, and its sampling error
    ABOVE: (0.30, 0.05),
    TIGHT: (0.30, SD / 100),
}
DESIGNS = (*(("one-factor", seeds) for seeds in (2, 3, 5, 8, 16)), *(("fractional", seeds) for seeds in (2, 3, 5)))
SHARES = (0.1, 0.25, 0.5)  # of low runs
FEW = 3  # seeds of one factor at a time up to which equal arms are told apart far too often


@dataclass(frozen=True)
class Case:
    """One line. low: where the low runs are, of `LOW`; share: the chance of a run to be one of them."""

    low: str
    design: str
    seeds: int
    share: float


def cases() -> list[Case]:
    return [Case(low, design, seeds, share) for low in LOW for design, seeds in DESIGNS for share in SHARES]


def measure_low(case: Case, n: int, seed: int = 0) -> dict[str, Any]:
    """One line in `n` repeats, fractions. familywise: any effect found in a family of comparisons, of which none is
    true, and of families (main effects, interactions) the one with the most; collapsed: the share of runs counted so.
    """
    plan = simulated_plan(case.design, case.seeds)
    asked, arms = estimands(plan), [arm.values for arm in plan.arms]
    families = [which for kind in ("swap", "main", "interaction") if len(which := asked.of_kind(kind))]
    rng = np.random.default_rng(stream(seed, "calibrate low runs", repr(case)))
    mean, sd = LOW[case.low]
    found: list[np.ndarray] = []
    counted = 0
    for start in range(0, n, CHUNK):
        values = confirm_values(NULL, arms, case.seeds, min(CHUNK, n - start), rng)
        low = rng.random(values.shape) < case.share
        values = np.where(low, mean + sd * rng.standard_normal(values.shape), values)
        untrained = collapsed(plan, values)
        runs = Runs(values, untrained, np.array(plan.levels_of_guessing), plan.metric.sign)
        verdict = analyse_runs(asked, runs, sides_of(plan, asked), plan.alpha, plan.least_effect).verdict
        found.append(np.stack([(verdict[:, which] == "effect").any(-1) for which in families], axis=-1))
        counted += int(untrained.sum())
    return {
        "low": case.low, "design": case.design, "seeds": case.seeds, "share": case.share, "repeats": n,
        "collapsed": counted / (n * len(arms) * case.seeds),
        "familywise": float(np.concatenate(found).mean(0).max()),
    }  # fmt: skip


def write(place: Path, about: Mapping[str, Any], rows: Rows) -> Path:
    """Write `place`/low-runs.json and low-runs.md; returns the latter. rows: as of `measure_low`."""
    content = {**about, "rows": list(rows), "targets": targets(rows)}
    return write_files(place, NAME, content, _markdown(content))


def targets(rows: Rows) -> list[dict[str, Any]]:
    """Any false effect: with low runs at guessing and above it, by design and number of seeds."""
    above = [row for row in rows if row["low"] != AT]
    alone = [row for row in above if row["design"] == "one-factor"]
    named: list[tuple[str, list[Mapping[str, Any]]]] = [
        ("low runs at guessing", [row for row in rows if row["low"] == AT]),
        (f"low runs above guessing, one-factor, k = 2 or {FEW}", [row for row in alone if row["seeds"] <= FEW]),
        ("low runs above guessing, one-factor, k = 5, 8 or 16", [row for row in alone if row["seeds"] > FEW]),
        ("low runs above guessing, fractional", [row for row in above if row["design"] == "fractional"]),
    ]
    return [
        reached(f"any false effect, {name}", [row["familywise"] for row in some], 0.0, FAMILYWISE, some)
        for name, some in named
        if some
    ]


def _markdown(content: Mapping[str, Any]) -> str:
    lines = grid(
        ["low runs at", "design", "k", "share of low runs", "repeats", "counted as collapsed", "any false effect"],
        [
            [row["low"], row["design"], str(row["seeds"]), percent(row["share"], 0),
             f"{row['repeats']:,}", percent(row["collapsed"]), percent(row["familywise"])]
            for row in content["rows"]
        ],
    )  # fmt: skip
    parts = [
        "# Runs of two kinds",
        f"Simulated (`python sweeps/calibrate.py --only {NAME} --seed {content['seed']}`): five factors that do "
        f"nothing. A run reaches 80% (sd {SD} points) or, with the stated chance, is low. A run counts "
        f"as collapsed up to {100 * GUESSING:g}%. In percent.",
        "## Targets",
        goals(content["targets"]),
        "## All lines",
        lines,
        "Any false effect: of the main effects or swaps, or of the interactions, whichever has more. Low runs well "
        "above guessing count as runs that trained: no rule doubts them, and t intervals of few values of two kinds "
        "are too short.",
    ]
    return "\n\n".join(parts) + "\n"
