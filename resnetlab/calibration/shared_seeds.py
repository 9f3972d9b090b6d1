"""Seeds that move all arms together: what variances about the blocks are worth, on simulated confirm stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnetlab.analysis.confirm.effects import analyse
from resnetlab.analysis.confirm.estimands import estimands
from resnetlab.calibration.error_rates import ALPHA, CHUNK, SD, UNEQUAL, simulated_plan, true_effects
from resnetlab.calibration.looks import tested
from resnetlab.calibration.simulator import Truth, confirm_values
from resnetlab.calibration.table import FAMILYWISE, Rows, goals, grid, percent, reached, write_files
from resnetlab.study.seeding import stream

NAME = "shared-seeds"
EQUAL, SCALED = "equal variances", "unequal variances, of which the shared part has its share"
ADDED = "unequal variances, to which a seed adds the same for all arms"
POINTS = {"fractional": 0.5, "one-factor": 1.0}
GAINED = (("fractional", 2, 0.05), ("one-factor", 5, 0.10))  # power at a correlation of 0.5
LOST = 0.01  # power at none


@dataclass(frozen=True)
class Case:
    """One line. shared: the correlation between runs of one seed, in the world of equal variances."""

    world: str
    design: str
    seeds: int
    shared: float
    variance: str

    @property
    def truth(self) -> Truth:
        points = {"kernel": {5: POINTS[self.design]}}
        if self.world == EQUAL:
            return Truth(main=points, sd=SD, shared=self.shared)
        return Truth(main=points, sd=SD, spread=UNEQUAL, shared=self.shared if self.world == SCALED else 0.0)


def cases() -> list[Case]:
    return [
        Case(world, design, seeds, shared, variance)
        for world in (EQUAL, ADDED, SCALED)
        for design, seeds in (("fractional", 2), ("fractional", 5), ("one-factor", 3), ("one-factor", 5))
        for shared in (0.0, 0.5)
        if shared or world != ADDED  # without a shared part the two worlds are one
        for variance in ("arms", "blocks")
    ]


def measure_shared(case: Case, n: int, seed: int = 0) -> dict[str, Any]:
    """One line in `n` repeats; rates are fractions. power: of the one effect, unadjusted; power_holm: adjusted;
    coverage_lowest: of the comparison that is covered least."""
    plan = simulated_plan(case.design, case.seeds).model_copy(update={"variance": case.variance})
    asked = tested(estimands(plan))
    arms, truth = [arm.values for arm in plan.arms], true_effects(asked, plan, case.truth)
    kernel = next(i for i, item in enumerate(asked.items) if item.factor == "kernel")
    rng = np.random.default_rng(
        stream(seed, "calibrate shared seeds", case.world, case.design, case.seeds, case.shared)
    )
    sums: dict[str, list[np.ndarray]] = {}
    for start in range(0, n, CHUNK):
        values = confirm_values(case.truth, arms, case.seeds, min(CHUNK, n - start), rng)
        if case.world == ADDED:  # as much as half of the variance of an arm of sd 0.74 where shared is 0.5
            added = SD / 100 * np.sqrt(case.shared / (1 - case.shared))
            values = values + added * rng.standard_normal((len(values), 1, case.seeds))
        found = analyse(asked, values, plan.alpha, plan.least_effect)
        low, high = found.estimates.interval()
        effect = found.verdict == "effect"
        tallies = {
            "covered": (low <= truth) & (truth <= high),
            "power": found.estimates.p[:, kernel] <= ALPHA,
            "power_holm": effect[:, kernel],
            "familywise": np.delete(effect, kernel, axis=1).any(-1),
        }
        for name, hits in tallies.items():
            sums.setdefault(name, []).append(hits)
    means = {name: np.concatenate(found).mean(0) for name, found in sums.items()}
    covered = means.pop("covered")
    row = {"world": case.world, "design": case.design, "seeds": case.seeds, "shared": case.shared,
           "variance": case.variance, "points": POINTS[case.design], "repeats": n,
           "coverage": float(covered.mean()), "coverage_lowest": float(covered.min())}  # fmt: skip
    return row | {name: float(value) for name, value in means.items()}


def write(place: Path, about: Mapping[str, Any], rows: Rows) -> Path:
    """Write `place`/shared-seeds.json and shared-seeds.md; returns the latter."""
    content = {**about, "rows": list(rows), "targets": targets(rows)}
    return write_files(place, NAME, content, _markdown(content))


def targets(rows: Rows) -> list[dict[str, Any]]:
    """What was to be reached with variances about the blocks, and whether it is."""
    blocks = [row for row in rows if row["variance"] == "blocks"]

    def gain(design: str, seeds: int, shared: float) -> float:
        wanted = EQUAL, design, seeds, shared
        some = [r for r in rows if (r["world"], r["design"], r["seeds"], r["shared"]) == wanted]
        power = {row["variance"]: row["power"] for row in some}
        return float(power["blocks"] - power["arms"])

    found: list[tuple[str, float, float, list[float]]] = [
        ("coverage, equal variances", 0.93, 0.97, [r["coverage_lowest"] for r in blocks if r["world"] == EQUAL]),
        (f"coverage, {ADDED}", 0.93, 0.97, [r["coverage_lowest"] for r in blocks if r["world"] == ADDED]),
        (f"coverage, {SCALED}", 0.93, 0.97, [r["coverage_lowest"] for r in blocks if r["world"] == SCALED]),
        ("any false effect, in all worlds", 0.0, FAMILYWISE, [row["familywise"] for row in blocks]),
    ]
    for design, seeds, least in GAINED:
        name = f"power gained, correlation 0.5, {design}, k = {seeds}"
        found.append((name, least, 1.0, [gain(design, seeds, 0.5)]))
    designs = sorted({(row["design"], row["seeds"]) for row in rows})
    found.append(("power gained, no correlation", -LOST, 1.0, [gain(*design, 0.0) for design in designs]))
    return [reached(name, values, low, high, rows) for name, low, high, values in found]


def _markdown(content: Mapping[str, Any]) -> str:
    lines = grid(
        ["world", "design", "k", "correlation", "variance", "repeats", "coverage", "power", "with Holm", "familywise"],
        [
            [row["world"], row["design"], str(row["seeds"]), f"{row['shared']:g}", row["variance"],
             f"{row['repeats']:,}", f"{percent(row['coverage'])} ({percent(row['coverage_lowest'])})",
             percent(row["power"]), percent(row["power_holm"]), percent(row["familywise"])]
            for row in content["rows"]
        ],
    )  # fmt: skip
    points = f"{POINTS['fractional']} points in the crossed design, {POINTS['one-factor']} in the other"
    parts = [
        "# Seeds that move all arms together",
        f"Simulated with planted truth (`python sweeps/calibrate.py --only shared-seeds --seed {content['seed']}`): "
        f"five factors, seed sd 0.74 points, kernel alone has an effect, of {points}. Variance: the arms' own, or "
        "about what all arms of a seed share (`confirm.variance`). In percent.",
        "## Targets",
        "Of variances about the blocks. Coverage: of the comparison that is covered least.",
        goals(content["targets"]),
        "## All lines",
        lines,
        "Coverage of the worst single comparison in brackets. Where a seed moves an arm the more the more the arm "
        "spreads (the last world), its part does not cancel in a comparison: there neither variance holds, and the one "
        "about the blocks is further off.",
    ]
    return "\n\n".join(parts) + "\n"
