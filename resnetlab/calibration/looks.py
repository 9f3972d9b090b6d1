"""What looks at the confirm runs save, and what they cost: measured on simulated confirm stages with planted truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from resnetlab.analysis.confirm.collapse import Runs
from resnetlab.analysis.confirm.confirm_runs import collapsed
from resnetlab.analysis.confirm.effects import analyse_runs, sides_of
from resnetlab.analysis.confirm.estimands import Estimands, estimands
from resnetlab.analysis.confirm.looks import EFFECT, Course, Rule
from resnetlab.calibration.error_rates import (
    ALTERNATIVES,
    CHUNK,
    DELTA,
    INCUMBENT,
    SD,
    UNEQUAL,
    simulated_plan,
    true_effects,
)
from resnetlab.calibration.simulator import Truth, confirm_values
from resnetlab.planning.looks import (
    FUTILE,
    FUTILE_FROM,
    FUTILE_SINGLE,
    FUTILE_SINGLE_FROM,
    REPLANNED_SHARE,
    SINGLE,
    Looks,
)
from resnetlab.planning.plan import Plan
from resnetlab.study.seeding import stream
from resnetlab.wording import level_text

WORLDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("equal variances", {}),
    ("unequal variances (sd × 0.5 to 3)", {"spread": UNEQUAL}),
    ("unequal variances, 2% of runs collapse", {"spread": UNEQUAL, "collapse": 0.02}),
)

Kind = tuple[str, int, tuple[str, ...], bool]  # design, blocks, primaries, whether seeds are set again


@dataclass(frozen=True)
class Case:
    """One line: a design of at most `seeds` blocks, what it looks for, and how large the one effect (kernel) is."""

    world: str
    design: str
    seeds: int
    primaries: tuple[str, ...] = ()
    reestimate: bool = False
    points: float = 0.0
    truth: Truth = field(default_factory=lambda: Truth(sd=SD))

    @property
    def plan(self) -> Plan:
        return looked_plan(self.design, self.seeds, self.primaries, self.reestimate)


def looked_plan(
    kind: str,
    seeds: int,
    primaries: Sequence[str] = (),
    reestimate: bool = False,
    futility: float | None = None,
) -> Plan:
    """`simulated_plan` with looks, as `make_plan` would have them. primaries: factors, by default all."""
    plan, single = simulated_plan(kind, seeds), kind in SINGLE
    wanted = [name for name in ALTERNATIVES if name in (primaries or ALTERNATIVES)]
    looks = Looks(
        primaries=[(name, level_text(ALTERNATIVES[name][0]), level_text(INCUMBENT[name])) for name in wanted],
        stops="arms" if single else "all",
        futility=(FUTILE_SINGLE if single else FUTILE) if futility is None else futility,
        futility_from=FUTILE_SINGLE_FROM if single else FUTILE_FROM,
        reestimate=reestimate,
        share=REPLANNED_SHARE if reestimate else 1.0,
    )
    return plan.model_copy(update={"looks": looks})


def cases() -> list[Case]:
    """Crossed designs in which five main effects must be settled, or one; and arms that stop alone."""
    declared: tuple[str, ...] = ("kernel",)
    kinds: list[Kind] = [
        *(("fractional", seeds, (), False) for seeds in (4, 8, 16, 23)),
        *(("fractional", seeds, (), True) for seeds in (8, 16, 23)),
        *(("fractional", seeds, declared, False) for seeds in (4, 8, 23)),
        *(("one-factor", seeds, (), False) for seeds in (4, 8, 16, 23)),
    ]
    lines = [(WORLDS[0], kind, points) for kind in kinds for points in (0.0, 0.5, 1.0)]
    worse: list[Kind] = [
        ("fractional", 8, (), False), ("fractional", 16, (), False), ("fractional", 16, (), True),
        ("fractional", 8, declared, False), ("one-factor", 8, (), False), ("one-factor", 16, (), False),
    ]  # fmt: skip
    lines += [(world, kind, 0.0) for world in WORLDS[1:] for kind in worse]
    lines += [(WORLDS[1], kind, 1.0) for kind in worse] + [(WORLDS[2], kind, 1.0) for kind in worse[:3]]
    return [
        Case(name, *kind, points, replace(Truth(main={"kernel": {5: points}}, sd=SD), **changes))
        for (name, changes), kind, points in lines
    ]


def measure_looks(case: Case, n: int, seed: int = 0) -> dict[str, Any]:
    """One line in `n` repeats. Shares are fractions, bias in points; *_fixed: the same runs without a look.

    epochs: share of the planned runs that were run. familywise: any false effect in the family where they are most
    frequent (declared primaries, and the other main effects or swaps).
    power, bias: of the one planted effect. settled: primaries that a look settled. equivalent_wrong: a comparison that
    is `points` apart, at least delta, is called equivalent. coverage, coverage_repeated: of the interval at stopping
    and of the repeated interval, of all effects.
    """
    plan = case.plan
    asked = tested(estimands(plan))
    truth = true_effects(asked, plan, case.truth)
    kernel = next(i for i, item in enumerate(asked.items) if item.factor == "kernel")
    sums: dict[str, list[np.ndarray]] = {}
    for runs in _stages(case, plan, n, seed):
        course = Course(Rule.of(plan, asked, sides_of(plan, asked)), runs)
        for _ in course.follow():
            pass
        for name, values in _tally(course, _fixed(plan, asked, course.rule, runs), truth, kernel).items():
            sums.setdefault(name, []).append(values)
    row = {"world": case.world, "design": case.design, "seeds": case.seeds, "points": case.points, "repeats": n,
           "primaries": len(case.primaries) or len(asked.items), "reestimate": case.reestimate}  # fmt: skip
    means = {name: float(np.nanmean(np.concatenate(found), axis=0).max()) for name, found in sums.items()}
    if not case.points:
        means |= dict.fromkeys(("power", "power_fixed", "bias", "equivalent_wrong"), None)  # type: ignore[arg-type]
    return row | means


def _fixed(plan: Plan, asked: Estimands, rule: Rule, runs: Runs) -> np.ndarray:
    """(repeats, questions) Which are effects by the same runs without a look, over the same families."""
    found = np.zeros((len(runs.values), len(asked.items)), dtype=bool)
    for family in rule.families:
        part = _only(asked, family)
        answer = analyse_runs(part, runs, sides_of(plan, part), plan.alpha, plan.least_effect)
        found[:, family] = answer.verdict == EFFECT
    return found


def _only(asked: Estimands, kept: np.ndarray) -> Estimands:
    return replace(asked, items=tuple(asked.items[i] for i in kept), asked=asked.asked[kept])


def tested(asked: Estimands) -> Estimands:
    """The swaps or main effects alone."""
    return _only(asked, asked.of_kind("swap", "main"))


def _stages(case: Case, plan: Plan, n: int, seed: int) -> Iterator[Runs]:
    arms = [arm.values for arm in plan.arms]
    name = f"{case.world}, {case.design}, {case.seeds}, {case.points}"  # the same runs for all rules
    rng = np.random.default_rng(stream(seed, "calibrate looks", name))
    for start in range(0, n, CHUNK):
        values = confirm_values(case.truth, arms, plan.seeds, min(CHUNK, n - start), rng)
        lost = collapsed(plan, values) | np.isnan(values)
        yield Runs(values, lost, np.array(plan.levels_of_guessing), plan.metric.sign)


def _tally(course: Course, fixed: np.ndarray, truth: np.ndarray, kernel: int) -> dict[str, np.ndarray]:
    found = course.analysis()
    effect, null = found.verdict == EFFECT, np.isclose(truth, 0, atol=1e-9)
    low, high = found.estimates.interval()
    wide = course.repeated()
    over = np.abs(truth) >= DELTA / 100 - 1e-9
    known = np.where(np.isnan(found.estimates.estimate), np.nan, 1.0)
    return {
        "epochs": course.needed.mean((1, 2)),
        "familywise": _in_each(effect & null, course.rule),
        "familywise_fixed": _in_each(fixed & null, course.rule),
        "power": effect[:, kernel],
        "power_fixed": fixed[:, kernel],
        "bias": 100 * (found.estimates.estimate - truth)[:, kernel],
        "settled": (course.decision != "open")[:, course.rule.primary].mean(-1),
        "equivalent_wrong": ((found.verdict == "equivalent") & over)[:, kernel],
        "coverage": (known * ((low <= truth) & (truth <= high))).ravel(),
        "coverage_repeated": (known * ((wide[0] <= truth) & (truth <= wide[1]))).ravel(),
    }


def _in_each(hits: np.ndarray, rule: Rule) -> np.ndarray:
    """(repeats, families) Whether there is any."""
    return np.stack([hits[:, family].any(-1) for family in rule.families], axis=-1)
