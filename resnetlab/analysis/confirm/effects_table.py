"""The tables of effects and of arms: each answer with its verdict, its intervals and what a reader must know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from resnetlab.analysis.confirm import looks_taken
from resnetlab.analysis.confirm.collapse import Sides
from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.contrasts import EQUIVALENCE, CellMeans, Estimates
from resnetlab.analysis.confirm.effects import Analysis, analyse, analyse_runs, lack_of_fit, sides_of
from resnetlab.analysis.confirm.estimands import Estimand, Estimands, estimands
from resnetlab.analysis.confirm.images import FROM_PREDICTIONS, ImageTerm, together
from resnetlab.analysis.confirm.simple_effects import simple_interval
from resnetlab.analysis.intervals import LEVEL
from resnetlab.planning.plan import Layout
from resnetlab.storage.schema import schema
from resnetlab.wording import level_text, plural

TURNS = "turns on runs that collapsed or diverged: with and without them, the answer differs"
SHARED = " about what the arms of a seed share"  # in the method of one whose variances were those about blocks
NEEDS_ONE = "and this comparison needs one"  # in the note of one for which all runs of an arm failed


def estimate(runs: ConfirmRuns) -> pd.DataFrame:
    """The effects table of a plan from its confirm runs; columns of `schema("effects")`.

    One-factor plans: the change to each level at the incumbent. Crossed designs: main effects, two-factor interactions
    (differences of differences), and simple effects in place of a main effect whose interaction is found.
    Differences of the plan's metric. What cannot be estimated is a row that says why.
    """
    plan = runs.plan
    asked = estimands(plan)
    sides = sides_of(plan, asked)
    images = runs.image_term(asked)
    found = analyse_plan(runs, asked, sides, images)
    trained = analyse(asked, runs.in_repeats.trained, plan.alpha, plan.least_effect, None, images, plan.about)
    rows = [_row(plan, runs, found, trained, i, sides[i]) for i in range(len(asked.items)) if found.shown[0, i]]
    if plan.looks is not None:
        _add_looks(runs, found, rows)
    rows += [_left_out(plan, name, why) for name, why in plan.not_compared.items()]
    kinds = {field.name: field.type.to_pandas_dtype() for field in schema("effects")}
    numbers = {name: kind for name, kind in kinds.items() if kind in (np.float64, np.int64)}
    return pd.DataFrame(rows, columns=list(kinds)).astype(numbers)


def analyse_plan(runs: ConfirmRuns, asked: Estimands, sides: Sequence[Sides], images: ImageTerm) -> Analysis:
    """What is concluded from a plan's runs: all at once, or by the looks at them.

    images: `runs.image_term(asked)`. What looks decide is about these test images.
    """
    plan = runs.plan
    if plan.looks is not None:
        found = looks_taken.analysis(runs)
        return replace(found, new=images.widened(found.these))
    return analyse_runs(asked, runs.in_repeats, sides, plan.alpha, plan.least_effect, images, plan.about)


def _add_looks(runs: ConfirmRuns, found: Analysis, rows: Sequence[dict[str, Any]]) -> None:
    shown = [i for i in range(len(found.questions.items)) if found.shown[0, i]]
    words = looks_taken.said(looks_taken.taken(runs))
    for i, row in zip(shown, rows, strict=True):
        row["note"] = "; ".join(part for part in (words[i], row["note"]) if part)


def _row(plan: Layout, runs: ConfirmRuns, found: Analysis, trained: Analysis, i: int, sides: Sides) -> dict[str, Any]:
    item = found.questions.items[i]
    ends = _intervals(plan, found, i)
    verdict, notes = _judge(plan, runs, found, i, sides)
    if runs.untrained[np.union1d(*sides)].any():
        notes.append(_without(plan, trained, i, sides))
    return {
        "name": item.name,
        "factor": item.factor,
        "level": item.level,
        "reference": item.reference,
        "estimand": item.estimand,
        "estimate": found.estimates.estimate[0, i],
        "standard_error": found.estimates.standard_error[0, i],
        "df": found.estimates.df[0, i],
        "n": found.n(i, sides[0]),
        "n_reference": found.n(i, sides[1]),
        "p": found.estimates.p[0, i],
        "p_adjusted": found.p_adjusted[0, i],
        **ends,
        "verdict": verdict,
        "note": "; ".join([*notes, *runs.notes]),
        "method": _method(plan, found, i),
        "plan_hash": plan.plan_hash,
    }


def _intervals(plan: Layout, found: Analysis, i: int) -> dict[str, Any]:
    """The interval that a verdict rests on, the same adjusted for its family, and those on these and on new images; of
    a simple effect the first two alone, which account for its selection."""
    about_new = plan.about == "new" and not np.isnan(found.new.standard_error[0, i])
    fixed = "new images" if about_new else "these images"
    ends: dict[str, Any] = {"verdict_on": fixed if plan.splits == "fixed" else "redrawn splits"}
    family = 1 - plan.alpha / _tests(found, i)
    if found.questions.items[i].kind == "simple":
        for name, level in (("", LEVEL), ("_adjusted", family)):
            ends[f"low{name}"], ends[f"high{name}"] = simple_interval(found, plan.alpha, 0, i, level)
        return ends
    for name, (low, high) in (
        ("", found.estimates.interval()),
        ("_adjusted", found.estimates.interval(family)),
        ("_these", found.these.interval()),
        ("_new", found.new.interval()),
    ):
        ends |= {f"low{name}": low[0, i], f"high{name}": high[0, i]}
    return ends


def _tests(found: Analysis, i: int) -> int:
    """How many comparisons question `i` is adjusted for."""
    return max(1, len(found.family(i)))


def _judge(plan: Layout, runs: ConfirmRuns, found: Analysis, i: int, sides: Sides) -> tuple[str, list[str]]:
    """The verdict with what the runs themselves have to say about it, and the sentences a reader must see."""
    item, verdict = found.questions.items[i], str(found.verdict[0, i])
    notes = cautions(plan, runs, found, i, sides)
    against = objection(plan, runs, found, i, sides)
    if verdict == "not estimable":
        notes.insert(0, against)
    elif against:
        verdict = "inconclusive"
        notes.insert(0, against)
    elif found.turns[0, i]:
        notes.insert(0, TURNS)
    elif verdict == "effect":
        notes.insert(0, _small(plan, found.estimates, i))
    elif verdict == "inconclusive" and plan.looks is None:
        notes.insert(0, _adjusted(plan, found, i))
    if item.kind == "simple":
        verdict, why = _selected(plan, found, i, verdict)
        notes.insert(0, why)
        notes.append(
            f"given at each level because {_interaction(found, i)} was found: such estimates tend to be too large, "
            "which the interval accounts for"
        )
    return verdict, [note for note in notes if note]


def _selected(plan: Layout, found: Analysis, i: int, verdict: str) -> tuple[str, str]:
    """The verdict on a simple effect that its own interval, which accounts for the selection, bears out, and why it is
    another."""
    low, high = simple_interval(found, plan.alpha, 0, i)
    if verdict not in ("effect", "equivalent"):
        above = not low <= 0 <= high and found.p_adjusted[0, i] > plan.alpha  # not for an interval that is not there
        why = f"the interval excludes 0, but p, adjusted for {plural(_tests(found, i), 'comparison')}, is above "
        return verdict, f"{why}{plan.alpha:g}" * bool(above and not np.isnan(low))
    if np.isnan(low):
        return "inconclusive", "no interval accounts for its selection where factors have more than two levels"
    if verdict == "effect":
        return (verdict, "") if not low <= 0 <= high else ("inconclusive", "the selection accounts for what is seen")
    low, high = simple_interval(found, plan.alpha, 0, i, EQUIVALENCE)
    within = max(-low, high) < plan.least_effect
    return (verdict, "") if within else ("inconclusive", "the selection accounts for what is seen")


def objection(plan: Layout, runs: ConfirmRuns, found: Analysis, i: int, sides: Sides) -> str:
    """Why question `i` of a single repeat can have no verdict whatever the numbers say; empty where it can."""
    if np.isnan(found.estimates.standard_error[0, i]):
        return _why_not(plan, found, i, np.union1d(*sides))
    if not runs.finished and (found.settled is None or not found.settled[0, i]):
        return "no verdict before every planned run has ended"
    cells = found.cells
    p = lack_of_fit(found.questions, CellMeans(cells.mean[0], cells.variance[0], cells.n[0]))
    if p <= plan.alpha:
        return (
            f"the arms differ by more than main effects (lack of fit p = {p:.2g}): factors interact, and this design "
            "cannot say which; a fractional or full factorial can"
        )
    return ""


def cautions(plan: Layout, runs: ConfirmRuns, found: Analysis, i: int, sides: Sides) -> list[str]:
    """What a reader must know of the runs that question `i` rests on, whatever its verdict."""
    used = np.union1d(*sides)
    notes = [runs.describe(used)]
    if found.questions.crossed and not np.isnan(found.estimates.standard_error[0, i]):
        notes += _assumptions(found, plan)
    if why := _own_variances(plan, runs, found, i):
        notes.append(f"{why}, so the arms' own variances are taken, as if they shared nothing by a seed")
    return [*notes, _companions(plan, used), _about(plan, found, i)]


def _about(plan: Layout, found: Analysis, i: int) -> str:
    """Why a verdict that should be about new images is about these alone; empty where it is not."""
    if plan.about != "new" or plan.splits != "fixed" or np.isnan(found.estimates.standard_error[0, i]):
        return ""
    if not np.isnan(found.new.standard_error[0, i]):
        return ""
    if plan.metric.name not in FROM_PREDICTIONS:
        return f"about these test images alone: what each image adds to {plan.metric.words} is not kept"
    return "about these test images alone: what each run predicted for them was not kept"


def _without(plan: Layout, trained: Analysis, i: int, sides: Sides) -> str:
    """The sensitivity of an effect to untrained runs: the same without them, on both sides."""
    estimate, ends = trained.estimates.estimate[0, i], [end[0, i] for end in trained.estimates.interval()]
    n = trained.cells.n[0]
    runs = f"{n[sides[0]].sum()} and {n[sides[1]].sum()} runs"
    if np.isnan(estimate):
        return f"without collapsed and diverged runs ({runs}) it cannot be estimated"
    interval = "no interval" if np.isnan(ends[0]) else " … ".join(map(plan.metric.signed, ends))
    size = f"{plan.metric.signed(estimate)} {plan.metric.effect.unit}".rstrip()
    return f"without collapsed and diverged runs ({runs}): {size} ({interval})"


def _adjusted(plan: Layout, found: Analysis, i: int) -> str:
    """Why an effect whose interval excludes 0 is not confirmed; empty where it does not exclude it."""
    low, high = found.estimates.interval()
    if low[0, i] <= 0 <= high[0, i] or found.questions.items[i].kind == "simple":
        return ""
    tests = _tests(found, i)
    low, high = found.estimates.interval(1 - plan.alpha / tests)
    said = " … ".join(plan.metric.signed(end[0, i]) for end in (low, high))
    return (
        f"the interval excludes 0 only unadjusted; adjusted for {plural(tests, 'comparison')} (familywise error "
        f"{plan.alpha:g}): {said} {plan.metric.effect.unit}"
    ).rstrip()


def _small(plan: Layout, estimates: Estimates, i: int) -> str:
    low, high = estimates.interval(EQUIVALENCE)
    small = max(-low[0, i], high[0, i]) < plan.least_effect
    return f"smaller than the smallest effect of interest, {plan.delta_text}" if small else ""


def _why_not(plan: Layout, found: Analysis, i: int, used: np.ndarray) -> str:
    item, n = found.questions.items[i], found.cells.n[0]
    if np.isnan(found.estimates.estimate[0, i]):
        laid = {arm.name for arm in plan.arms}
        named = plan.design == "arms"  # whose arms are all laid, under names of their own
        absent = [] if named or item.kind != "swap" else _not_laid(plan, item, laid)
        if absent:
            reasons = [line for arm in absent for line in plan.infeasible if line.startswith(f"{arm}: ")]
            return f"cannot be run: {reasons[0]}" if reasons else f"the plan has no arm {absent[0]}"
        if not named and plan.around not in laid:
            return f"the {plan.around} itself cannot be run: " + ", ".join(plan.infeasible)
        without = [plan.arms[row].name for row in used if n[row] == 0]
        if without:
            return f"no run of {' and of '.join(without[:3])} gave a value, {NEEDS_ONE}"
        return "arms that it needs cannot be run: " + ", ".join(plan.infeasible)
    if n[used].max() < 2 or (item.kind == "swap" and n[used].min() < 2):
        return "an arm with a single run has no measure of seed-to-seed spread, so no interval (needs 2 seeds or more)"
    return "the runs of an arm agree to the last digit, which leaves no measure of spread"


def _not_laid(plan: Layout, item: Estimand, laid: set[str]) -> list[str]:
    """The arms of a swap, other than the centre, that the plan does not have."""
    centre = level_text(plan.incumbent[item.factor])
    needed = [f"{item.factor}={side}" for side in (item.level, item.reference) if side != centre]
    return [name for name in needed if name not in laid]


def _assumptions(found: Analysis, plan: Layout) -> list[str]:
    n = found.cells.n[0]
    single = [plan.arms[row].name for row in np.flatnonzero(n == 1)]
    absent = [plan.arms[row].name for row in np.flatnonzero(n == 0)]
    notes = []
    if single:
        notes.append(f"arms with a single run take the others' pooled variance: {', '.join(single[:3])}")
    if absent and not found.questions.additive:
        notes.append(f"rests on there being no three-factor interaction, for want of {', '.join(absent[:3])}")
    return notes


def _interaction(found: Analysis, i: int) -> str:
    pair = found.questions.items[i].pair
    return next(item.factor for item in found.questions.items if item.kind == "interaction" and item.pair == pair)


def _companions(plan: Layout, used: np.ndarray) -> str:
    """Tuned settings that go with the levels and so are part of what is compared."""
    names = {name for row in used for name in plan.arms[row].companions}
    found = {name: {plan.arms[row].values.get(name) for row in used} for name in sorted(names)}
    parts = [f"{name} ({', '.join(map(_short, sorted(values, key=str)))})" for name, values in found.items()]
    return f"tuned settings go with the levels: {' and '.join(parts)}" if parts else ""


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _own_variances(plan: Layout, runs: ConfirmRuns, found: Analysis, i: int) -> str:
    """Why question `i` takes no account of what the arms of a seed share; empty where it does or was not to."""
    if not found.questions.blocks or found.shared[0, i]:
        return ""
    if len(plan.arms) < 3:
        return "there are two arms"
    return "fewer than three arms still ran" if runs.whole else "runs are missing"


def _method(plan: Layout, found: Analysis, i: int) -> str:
    kind, together = found.questions.items[i].kind, found.family(i)
    family = {"swap": "all swaps", "main": "all main effects", "interaction": "all interactions"}.get(kind)
    if family is None:
        family = "the simple effects shown"
    elif len(together) < len(found.questions.of_kind(kind)):  # with looks the primary ones are a family by themselves
        family = "the primary comparisons" if i in found.families[0] else family.replace("all", "all other")
    spent = ", O'Brien-Fleming spending over the looks" if plan.looks is not None else ""
    adjusted = f"Holm over {family}{spent}"
    variance = SHARED if found.shared[0, i] else ""
    if kind == "swap":
        return f"difference of means, Welch's t{variance}, {adjusted}"
    if plan.design == "d-optimal":
        return (
            "least squares over the arms, interactions taken as zero, each arm's own variance (pure error)"
            f"{variance}, Welch-Satterthwaite t, {adjusted}"
        )
    negligible = ", three-factor interactions taken as zero" if plan.design == "fractional" else ""
    contrast = f"contrast of arm means, each arm's own variance (pure error){variance}, Welch-Satterthwaite t"
    return f"{contrast}, {adjusted}{negligible}"


def _left_out(plan: Layout, name: str, why: str) -> dict[str, Any]:
    factor, _, level = name.partition("=")
    reference = plan.references.get(factor, plan.incumbent.get(factor))
    return {
        "name": name,
        "factor": factor,
        "level": level,
        "reference": "" if reference is None else str(reference),
        "estimand": "not in the plan",
        "n": 0,
        "n_reference": 0,
        "verdict": "not estimable",
        "note": why,
        "method": "none",
        "plan_hash": plan.plan_hash,
    }


def performance(runs: ConfirmRuns) -> pd.DataFrame:
    """The plan's metric of each arm on fresh seeds, the incumbent first: arm, mean, low, high (95% t interval on these
    test images), low_new, high_new (on new ones, NaN where not known), sd, n, planned, note. The incumbent's
    exploration score is not used: it was chosen for its luck."""
    plan, cells = runs.plan, CellMeans.of(runs.values)
    sd, every = np.sqrt(cells.variance), np.eye(len(plan.arms))
    these = Estimates(cells.mean, sd / np.sqrt(np.maximum(cells.n, 1)), cells.df)
    low, high = these.interval()
    low_new, high_new = together(runs.images, every, ~np.isnan(runs.values)).widened(these).interval()
    return pd.DataFrame(
        {
            "arm": [arm.name for arm in plan.arms],
            "mean": cells.mean,
            "low": low,
            "high": high,
            "low_new": low_new,
            "high_new": high_new,
            "sd": sd,
            "n": cells.n,
            "planned": [runs.planned(np.array([row])) for row in range(len(plan.arms))],
            "note": [runs.describe(np.array([row])) for row in range(len(plan.arms))],
        }
    )
