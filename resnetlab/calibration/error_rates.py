"""Error rates of the confirm stage, measured on simulated stages with planted truth, through the estimator itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resnetlab.analysis.confirm.collapse import Runs
from resnetlab.analysis.confirm.confirm_runs import collapsed
from resnetlab.analysis.confirm.effects import Analysis, analyse_runs, sides_of
from resnetlab.analysis.confirm.estimands import Estimands, between, estimands
from resnetlab.analysis.confirm.power import SWAP, main_effect
from resnetlab.analysis.confirm.simple_effects import simple_interval
from resnetlab.analysis.confirm.verdicts import REFUTED, SUPPORTED, decide
from resnetlab.calibration.simulator import Levels, Truth, confirm_values
from resnetlab.planning import designs
from resnetlab.planning.plan import Plan, PlannedArm
from resnetlab.study.hypotheses import Hypothesis
from resnetlab.study.seeding import stream

EPOCHS = 15
SHORT = 7  # epochs a run: then 480 epochs hold four replicates of 16 arms
SD = 0.74
ALPHA, DELTA = 0.05, 0.5
GUESSING = 0.12  # chance is 10%
CHUNK = 500  # repeats analysed at once

INCUMBENT: Mapping[str, Any] = {"blocks": 3, "kernel": 3, "head_depth": 1, "se": False, "optimizer": "sgd"}
ALTERNATIVES: Mapping[str, list[Any]] = {
    "blocks": [4], "kernel": [5], "head_depth": [2], "se": [True], "optimizer": ["adamw"],
}  # fmt: skip

THREE_LEVELS: Mapping[str, list[Any]] = {  # for the D-optimal design: 9 coefficients
    "blocks": [2, 4], "kernel": [5, 7], "head_depth": [2, 3], "se": [True], "optimizer": ["adamw"],
}  # fmt: skip

# Averages over the crossed design: blocks +0.6, kernel +0.5, se +0.8, optimizer -0.9; head_depth does nothing.
PLANTED = Truth(
    main={"blocks": {4: 1.2}, "kernel": {5: 1.1}, "se": {True: 0.8}, "optimizer": {"adamw": -0.9}},
    together=(({"blocks": 4, "kernel": 5}, -1.2),),
    sd=SD,
)
NULL = Truth(sd=SD)
UNEQUAL: Levels = {"kernel": {5: 2.0}, "optimizer": {"adamw": 1.5}, "se": {True: 0.5}}


@dataclass(frozen=True)
class Scenario:
    """One line of the table: a design with so many seeds in one world."""

    world: str
    design: str
    seeds: int
    truth: Truth

    @property
    def plan(self) -> Plan:
        return simulated_plan(self.design, self.seeds)


def scenarios() -> list[Scenario]:
    """Planted effects and nulls alone, each with equal variances, unequal ones and collapsing runs. The D-optimal
    design takes factors not to interact, so there they do not."""
    found = [
        Scenario(world, kind, seeds, truth)
        for kind, seeds in (("one-factor", 3), ("one-factor", 5), ("fractional", 2))
        for world, truth in _worlds(("planted", PLANTED), ("nulls only", NULL))
    ]
    alone = ("planted, no interaction", replace(PLANTED, together=())), ("nulls only", NULL)
    return found + [Scenario(world, "d-optimal", 2, truth) for world, truth in _worlds(*alone)]


def _worlds(*truths: tuple[str, Truth]) -> list[tuple[str, Truth]]:
    worlds = []
    for name, truth in truths:
        worlds += [
            (f"{name}, equal variances", truth),
            (f"{name}, unequal variances (sd × 0.5 to 3)", replace(truth, spread=UNEQUAL)),
            (f"{name}, 2% of runs collapse", replace(truth, collapse=0.02)),
            (f"{name}, unequal and 2% collapse", replace(truth, spread=UNEQUAL, collapse=0.02)),
        ]
    return worlds


def simulated_plan(kind: str, seeds: int) -> Plan:
    """A plan as `make_plan` would lay it around INCUMBENT, with five factors: of two levels, d-optimal: up to three."""
    lay = {"one-factor": designs.one_factor, "factorial": designs.full_factorial}
    compared = THREE_LEVELS if kind == "d-optimal" else ALTERNATIVES
    if kind == "d-optimal":
        arms, _ = designs.d_optimal(list(designs.candidates(INCUMBENT, compared, 0)), compared, None, 0)
    elif kind == "fractional":
        arms = designs.fractional(INCUMBENT, {name: levels[0] for name, levels in ALTERNATIVES.items()})
    else:
        arms = lay[kind](INCUMBENT, ALTERNATIVES)
    return Plan(
        study="simulated", study_hash="simulated", data_hash="simulated", code="simulated", incumbent=dict(INCUMBENT),
        chosen_trial="simulated", chosen_val_accuracy=0.8, design=kind, compared=dict(compared),
        arms=[PlannedArm(name=arm.name, values=dict(arm.values), changed=dict(arm.changed)) for arm in arms],
        seeds=seeds, alpha=ALPHA, delta=DELTA, guessing={"": GUESSING},
    )  # fmt: skip


def true_effects(asked: Estimands, plan: Plan, truth: Truth) -> np.ndarray:
    """What each question's answer should be: (questions,) fractions."""
    means = np.array([truth.mean(arm.values) for arm in plan.arms]) / 100
    return asked.weights(np.ones(len(means), dtype=bool)) @ means


def repeats(scenario: Scenario, n: int, seed: int, asked: Estimands | None = None) -> Iterable[Analysis]:
    """`n` simulated confirm stages, analysed (by default for all that the plan asks); in chunks."""
    plan = scenario.plan
    asked = asked or estimands(plan)
    arms = [arm.values for arm in plan.arms]
    rng = np.random.default_rng(stream(seed, "calibrate", scenario.world, scenario.design, scenario.seeds))
    for start in range(0, n, CHUNK):
        values = confirm_values(scenario.truth, arms, plan.seeds, min(CHUNK, n - start), rng)
        lost = collapsed(plan, values) | np.isnan(values)
        runs = Runs(values, lost, np.array(plan.levels_of_guessing), plan.metric.sign)
        yield analyse_runs(asked, runs, sides_of(plan, asked), plan.alpha, plan.least_effect)


def measure(scenario: Scenario, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Error rates of each family in `n` repeats, one row a family; rates are fractions, n_* what they rest on."""
    plan, asked = scenario.plan, estimands(scenario.plan)
    truth = true_effects(asked, plan, scenario.truth)
    tallies: dict[str, _Tally] = {}
    for found in repeats(scenario, n, seed):
        for family in ("swap", "main", "interaction", "simple"):
            which = asked.of_kind(family)
            if len(which):
                tallies.setdefault(family, _Tally()).add(found, which, truth[which])
    head = {"world": scenario.world, "design": scenario.design, "arms": len(plan.arms), "seeds": plan.seeds,
            "epochs": len(plan.arms) * plan.seeds * EPOCHS, "repeats": n}  # fmt: skip
    return [head | {"family": family} | tally.row() for family, tally in tallies.items()]


class _Tally:
    """Counts over repeats of one family of questions."""

    def __init__(self) -> None:
        self.counts: dict[str, list[np.ndarray]] = {}

    def add(self, found: Analysis, which: np.ndarray, truth: np.ndarray) -> None:
        low, high = (end[:, which] for end in found.estimates.interval())
        estimate, p = found.estimates.estimate[:, which], found.estimates.p[:, which]
        known, shown = ~np.isnan(p), found.shown[:, which]
        null, claimed = np.isclose(truth, 0, atol=1e-9), found.verdict[:, which] == "effect"
        wrong = np.sign(estimate) != np.sign(truth)
        equivalent = (found.verdict[:, which] == "equivalent") & shown
        big = np.abs(truth) >= DELTA / 100 - 1e-9
        simple = found.questions.items[which[0]].kind == "simple"
        if simple:  # as the effects table has them
            low, high = low.copy(), high.copy()
            for repeat, place in zip(*np.nonzero(shown & known), strict=True):
                low[repeat, place], high[repeat, place] = simple_interval(found, ALPHA, repeat, which[place])
            claimed &= (low > 0) | (high < 0)
        counted = known & shown if simple else known  # a simple effect exists only where it is shown
        self._note("estimable", known, np.ones_like(known))
        self._note("coverage", (low <= truth) & (truth <= high), counted)
        self._note("false_positive", p <= ALPHA, counted & null)
        self._note("wrong_sign", (p <= ALPHA) & wrong, counted & ~null)
        self._note("power", p <= ALPHA, counted & big)
        self._note("power_holm", claimed, counted & big)
        self._note("false_equivalent", equivalent, counted & big)
        self._note("equivalent_of_null", equivalent, counted & null)
        self._each("coverage_lowest", (low <= truth) & (truth <= high), counted)
        self.counts.setdefault("any_false", []).append((claimed & shown & null).any(-1))

    def _note(self, name: str, hit: np.ndarray, counted: np.ndarray) -> None:
        self.counts.setdefault(name, []).append(np.array([(hit & counted).sum(), counted.sum()]))

    def _each(self, name: str, hit: np.ndarray, counted: np.ndarray) -> None:
        self.counts.setdefault(name, []).append(np.stack([(hit & counted).sum(0), counted.sum(0)]))

    def row(self) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for name, found in self.counts.items():
            if name == "any_false":
                row["familywise"] = float(np.concatenate(found).mean())
                continue
            hits, of = np.sum(found, axis=0)
            if name == "coverage_lowest":
                rates = hits[of > 0] / of[of > 0]
                row[name] = float(rates.min()) if len(rates) else None
            else:
                row[name] = float(hits / of) if of else None
                row[f"n_{name}"] = int(of)
        return row


def power_table(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Measured power for a main effect or swap of exactly so many points, with what `analysis.power` foretells.

    One factor of five does something; seed sd 0.74 points. Power rests on the number of runs, so 480 epochs are worth
    what runs they buy: 32 of 15 epochs, or 64 of 7, for an effect and a spread that are the same by then.
    """
    rows = []
    for kind, seeds, points, epochs in [
        *(("fractional", 2, points, EPOCHS) for points in (0.5, 0.6, 0.7, 0.8, 1.0)),
        *(("fractional", seeds, 0.5, EPOCHS) for seeds in (3, 4, 5)),
        ("fractional", 4, 0.5, SHORT),
        *(("one-factor", seeds, 0.5, EPOCHS) for seeds in (3, 5)),
    ]:  # fmt: skip
        truth = Truth(main={"kernel": {5: points}}, sd=SD)
        scenario = Scenario(f"kernel +{points} points", kind, seeds, truth)
        asked, plan = estimands(scenario.plan), scenario.plan
        which = next(i for i, item in enumerate(asked.items) if item.name == "kernel: 5 - 3")
        hits = [(a.estimates.p[:, which] <= ALPHA, a.verdict[:, which] == "effect") for a in repeats(scenario, n, seed)]
        shape = main_effect(len(plan.arms)) if kind == "fractional" else SWAP
        rows.append(
            {"design": kind, "arms": len(plan.arms), "seeds": seeds, "run_epochs": epochs,
             "epochs": len(plan.arms) * seeds * epochs, "effect_points": points, "sd_points": SD, "repeats": n,
             "power": float(np.concatenate([one for one, _ in hits]).mean()),
             "power_holm": float(np.concatenate([other for _, other in hits]).mean()),
             "foretold": shape.power(points, SD, seeds, ALPHA)}
        )  # fmt: skip
    return rows


def _declared(factor: str, level: Any, reference: Any, relation: Any, margin: float) -> Hypothesis:
    return Hypothesis(text=factor, factor=factor, level=level, reference=reference, relation=relation, margin=margin)


# Declared hypotheses at the very edge of being true, where wrong verdicts are most frequent.
EDGE = (
    _declared("kernel", 5, 3, "above", 0.5), _declared("se", True, False, "above", 0.0),
    _declared("optimizer", "adamw", "sgd", "above", 0.0), _declared("head_depth", 2, 1, "within", 1.0),
    _declared("blocks", 4, 3, "within", 1.0),
)  # fmt: skip
ALONE = (_declared("kernel", 5, 3, "above", 0.0),)
AT_EDGE = Truth(main={"kernel": {5: 0.5}, "head_depth": {2: 1.0}, "blocks": {4: -1.0}}, sd=SD)


def measure_claims(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """How often declared hypotheses end wrong, and how often a true one alone is supported; rates are fractions.

    wrong_supported, wrong_refuted: any of five hypotheses, each at its edge. supported_half, supported_one: a single
    `kernel 5 > kernel 3` where the effect is 0.5 and 1 points.
    """
    rows = []
    for kind, seeds in (("one-factor", 3), ("one-factor", 5), ("fractional", 2), ("fractional", 4)):
        for world, truth in (("equal variances", AT_EDGE), ("unequal variances", replace(AT_EDGE, spread=UNEQUAL))):
            edge = _verdicts(Scenario(world, kind, seeds, truth), EDGE, n, seed)
            row = {"world": world, "design": kind, "seeds": seeds, "repeats": n, "hypotheses": len(EDGE),
                   "wrong_supported": float((edge == SUPPORTED).any(-1).mean()),
                   "wrong_refuted": float((edge == REFUTED).any(-1).mean())}  # fmt: skip
            for name, points in (("supported_half", 0.5), ("supported_one", 1.0)):
                alone = replace(truth, main={"kernel": {5: points}})
                found = _verdicts(Scenario(f"{world}, {name}", kind, seeds, alone), ALONE, n, seed)
                row[name] = float((found == SUPPORTED).mean())
            rows.append(row | {"epochs": len(simulated_plan(kind, seeds).arms) * seeds * EPOCHS})
    return rows


def _verdicts(scenario: Scenario, declared: tuple[Hypothesis, ...], n: int, seed: int) -> np.ndarray:
    """(n, hypotheses) verdicts."""
    plan = scenario.plan
    asked = between(plan, [(found.factor, found.level, found.reference) for found in declared])
    found = repeats(scenario, n, seed, asked)
    return np.concatenate([decide(analysis.estimates, declared, ALPHA)[0] for analysis in found])
