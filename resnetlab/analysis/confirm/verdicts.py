"""Declared hypotheses put to the confirm runs: supported, refuted, inconclusive or, for want of runs, not answered.

`A > B by at least m`: supported where a one-sided test rejects A - B <= m, refuted where one rejects A - B >= m.
`A within m of B`: supported by two one-sided tests (Schuirmann 1987), refuted where the distance is shown to exceed m.
At level α each, so what the verdict says can be read off the 1 - 2α interval of a single hypothesis. Over all
hypotheses that a study declares Holm's adjustment runs twice, over the p of being supported and over those of being
refuted: in at most α of studies is any hypothesis wrongly supported, and in at most α any wrongly refuted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from resnetlab.analysis.confirm.collapse import Answer, Sides, taken_back
from resnetlab.analysis.confirm.confirm_runs import NEEDED, ConfirmRuns
from resnetlab.analysis.confirm.contrasts import Estimates, holm
from resnetlab.analysis.confirm.effects import Analysis, analyse, sides_of
from resnetlab.analysis.confirm.effects_table import TURNS, analyse_plan, cautions, objection
from resnetlab.analysis.confirm.estimands import AVERAGE, Estimand, Estimands, between, estimands
from resnetlab.analysis.confirm.looks_taken import least_p, runs_of, taken
from resnetlab.planning.plan import Plan
from resnetlab.study import Study
from resnetlab.study.frozen import digest
from resnetlab.study.hypotheses import Hypothesis
from resnetlab.wording import level_text

SUPPORTED, REFUTED, INCONCLUSIVE, NOT_ANSWERED = "supported", "refuted", "inconclusive", "not answered"
COLUMNS = [
    "hypothesis", "verdict", "factor", "level", "reference", "relation", "margin", "estimate", "low", "high",
    "confidence", "p_supported", "p_refuted", "n", "n_reference", "estimand", "rows", "note", "plan_hash",
]  # fmt: skip


def claims(study: Study, plan: Plan | None, confirm: pd.DataFrame, runs: ConfirmRuns | None = None) -> pd.DataFrame:
    """A row for each hypothesis that `plan` was made with (the study's, where there is no plan); columns `COLUMNS`.

    confirm: confirm rows of the trials table; runs: the same laid out, where that was done before. estimate, low, high:
    level - reference, of the metric, `confidence` interval; margin: as people read it (points). p_supported, p_refuted:
    Holm-adjusted. rows: hash of the rows that it rests on, empty where it rests on none. A hypothesis whose levels the
    plan does not compare is inconclusive, one of which all runs of an arm failed is not answered, and both say why.
    """
    lines = study.hypotheses if plan is None else plan.asked.get("hypotheses", [])
    declared = study.model_copy(update={"hypotheses": tuple(lines)}).declared
    absent = {found.text: not_compared(plan, found) for found in declared}
    compared = [found for found in declared if not absent[found.text]]
    rows = dict(zip((found.text for found in compared), _judge_all(plan, confirm, compared, runs), strict=True))
    for found in declared:
        if absent[found.text]:
            rows[found.text] = _head(found) | {
                "verdict": INCONCLUSIVE, "note": f"not compared: {absent[found.text]}", "n": 0, "n_reference": 0,
                "rows": "", "estimand": "not in the plan", "plan_hash": plan.plan_hash if plan else "",
            }  # fmt: skip
    table = pd.DataFrame([rows[found.text] for found in declared], columns=COLUMNS)
    numbers = ["margin", "estimate", "low", "high", "confidence", "p_supported", "p_refuted"]
    return table.astype(dict.fromkeys(numbers, float) | {"n": int, "n_reference": int})


def exploratory(effects: pd.DataFrame, found: pd.DataFrame) -> pd.Series:
    """Which rows of the effects table no hypothesis (`found`: the table of `claims`) asked for: True or False."""
    declared = {(row.factor, frozenset((row.level, row.reference))) for row in found.itertuples(index=False)}
    keys = zip(effects["factor"], effects["level"], effects["reference"], strict=True)
    asked_for = pd.Series([(f, frozenset((a, b))) in declared for f, a, b in keys], index=effects.index, dtype=bool)
    return ~asked_for | effects["name"].str.contains(" where ", regex=False)


def decide(
    estimates: Estimates, hypotheses: Sequence[Hypothesis], alpha: float, family: int | None = None, scale: float = 100
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Verdicts, p of being supported and p of being refuted, Holm-adjusted: all (..., hypotheses).

    family: how many hypotheses were declared, those that were not compared included. scale: of margins over estimates.
    """
    supported, refuted, _ = _one_sided(estimates, hypotheses, scale)
    return _decided(supported, refuted, alpha, family)


def _one_sided(
    estimates: Estimates, hypotheses: Sequence[Hypothesis], scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p of being supported, p of being refuted, and where the latter is the smaller of two, doubled; not adjusted."""
    within = np.array([found.relation == "within" for found in hypotheses], dtype=bool)
    margin = np.array([found.margin / scale for found in hypotheses])
    estimate, error, df = estimates.estimate, estimates.standard_error, estimates.df
    above, below = (stats.t.sf(x / error, df) for x in (estimate - margin, margin - estimate))
    above_low, below_low = (stats.t.sf(x / error, df) for x in (estimate + margin, -estimate - margin))
    supported = np.where(within, np.fmax(above_low, below), above)
    refuted = np.where(within, np.fmin(2 * np.fmin(above, below_low), 1.0), below)
    return supported, refuted, within


def _decided(
    supported: np.ndarray, refuted: np.ndarray, alpha: float, family: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    supported, refuted = holm(supported, family), holm(refuted, family)
    verdict = np.select([supported <= alpha, refuted <= alpha], [SUPPORTED, REFUTED], INCONCLUSIVE)
    return verdict, supported, refuted


def rows_hash(plan: Plan, confirm: pd.DataFrame, rows: np.ndarray) -> str:
    """16 hexadecimal digits over what the arms in these design `rows` did, in whatever order; empty for no rows."""
    ours = confirm[(confirm["plan_hash"] == plan.plan_hash) & confirm["design_row"].isin(rows)]
    if ours.empty:
        return ""
    names = [name for name in ("trial_id", "data_hash", *NEEDED, plan.metric.name) if name in ours.columns]
    content = sorted([_plain(row[name]) for name in names] for row in ours.to_dict("records"))
    return digest([names, content])[:16]


def _plain(value: Any) -> str:
    if pd.isna(value):
        return ""
    return repr(float(value)) if isinstance(value, int | float | np.number) else str(value)


def _head(found: Hypothesis) -> dict[str, Any]:
    return {
        "hypothesis": found.text, "factor": found.factor, "level": level_text(found.level),
        "reference": level_text(found.reference), "relation": found.relation, "margin": found.margin,
    }  # fmt: skip


def not_compared(plan: Plan | None, found: Hypothesis) -> str:
    """Why the plan does not hold both levels; empty where it does."""
    if plan is None:
        return "nothing is planned yet"
    if plan.design == "arms":
        return ""
    if found.factor not in plan.compared:
        default = f"the plan (design: {plan.design}) does not compare {found.factor}"
        return plan.not_compared.get(found.factor, default)
    there = [plan.incumbent[found.factor], *plan.compared[found.factor]]
    for level in (found.level, found.reference):
        if level not in there:
            levels = ", ".join(map(level_text, there))
            default = f"the plan has no arm with it (compared: {levels})"
            name = f"{found.factor}={level_text(level)}"
            return f"{name}: {plan.not_compared.get(name, default)}"
    return ""


def _judge_all(
    plan: Plan | None, confirm: pd.DataFrame, compared: Sequence[Hypothesis], runs: ConfirmRuns | None
) -> list[dict[str, Any]]:
    if plan is None or not compared:
        return []
    runs = runs or runs_of(plan, confirm)
    asked = between(plan, [(found.factor, found.level, found.reference) for found in compared])
    images = runs.image_term(asked)
    found = analyse(asked, runs.values[None], plan.alpha, plan.least_effect, None, images, plan.about)
    family = len(plan.asked["hypotheses"])
    estimates, (verdicts, supported, refuted) = _put(plan, runs, asked, compared, family, runs.values[None])
    found = replace(found, estimates=estimates)
    confidence = 1 - 2 * plan.alpha
    low, high = found.estimates.interval(confidence)
    sides = sides_of(plan, asked)
    turns = _turns(plan, runs, asked, compared, family, sides)
    weights = np.nan_to_num(asked.weights(np.ones(len(plan.arms), dtype=bool)))
    interactions = _interactions(plan, runs)
    rows = []
    for i, hypothesis in enumerate(compared):
        verdict, notes = _judge(plan, runs, found, i, sides[i], hypothesis, str(verdicts[0, i]), turns[i])
        item = asked.items[i]
        notes += [f"{name} was found: it is not the same everywhere, see there" for name in _of(interactions, item)]
        rows.append(
            _head(hypothesis)
            | {
                "verdict": verdict,
                "estimate": found.estimates.estimate[0, i],
                "low": low[0, i],
                "high": high[0, i],
                "confidence": confidence,
                "p_supported": supported[0, i],
                "p_refuted": refuted[0, i],
                "n": int(found.cells.n[0, sides[i][0]].sum()),
                "n_reference": int(found.cells.n[0, sides[i][1]].sum()),
                "estimand": item.estimand,
                "rows": rows_hash(plan, confirm, np.flatnonzero(weights[i])),
                "note": "; ".join([*notes, *runs.notes]),
                "plan_hash": plan.plan_hash,
            }
        )
    return rows


def _put(
    plan: Plan, runs: ConfirmRuns, asked: Estimands, declared: Sequence[Hypothesis], family: int, values: np.ndarray
) -> tuple[Estimates, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The estimates from these `values` of the runs, and what `decide` makes of them, or the looks at them do."""
    if plan.looks is None:
        images = runs.image_term(asked)
        estimates = analyse(asked, values, plan.alpha, plan.least_effect, None, images, plan.about).estimates
        return estimates, decide(estimates, declared, plan.alpha, family, plan.metric.scale)
    looked = taken(runs)
    estimates, supported, refuted = least_p(
        looked, asked, values, lambda one: _one_sided(one, declared, plan.metric.scale), family
    )
    return estimates, _decided(supported, refuted, plan.alpha, family)


def _judge(
    plan: Plan,
    runs: ConfirmRuns,
    found: Analysis,
    i: int,
    sides: Sides,
    hypothesis: Hypothesis,
    verdict: str,
    turns: bool,
) -> tuple[str, list[str]]:
    notes = cautions(plan, runs, found, i, sides)
    against = objection(plan, runs, found, i, sides)
    if not against and turns:
        against = TURNS
    low, high = (end[0, i] for end in found.estimates.interval(1 - 2 * plan.alpha))
    small = max(-low, high) < plan.least_effect
    if against:
        unknown = np.isnan(found.estimates.estimate[0, i]) and runs.finished
        verdict = NOT_ANSWERED if unknown else INCONCLUSIVE
        notes.insert(0, against)
    elif verdict == INCONCLUSIVE and hypothesis.relation == "above" and small:
        notes.insert(0, f"a difference, if there is any, is below {plan.delta_text}")
    return verdict, [note for note in notes if note]


def _turns(
    plan: Plan, runs: ConfirmRuns, asked: Estimands, declared: Sequence[Hypothesis], family: int, sides: Sequence[Sides]
) -> np.ndarray:
    """Which verdicts on hypotheses turn on runs that collapsed."""
    above = np.array([found.relation == "above" for found in declared])

    def answer(values: np.ndarray) -> Answer:
        estimates, (verdict, _, _) = _put(plan, runs, asked, declared, family, values)
        sign = np.select([verdict == SUPPORTED, verdict == REFUTED], [1, -1], 0)
        return Answer(verdict, estimates.estimate, above & (sign * estimates.estimate > 0))

    laid = runs.in_repeats
    together = [np.arange(len(declared))]
    return np.asarray(taken_back(answer, answer(laid.values), laid, sides, together, plan.alpha)[0])


def _interactions(plan: Plan, runs: ConfirmRuns) -> Mapping[frozenset[str], str]:
    """The two-factor interactions that the plan's own analysis finds, by their factors."""
    asked = estimands(plan)
    found = analyse_plan(runs, asked, sides_of(plan, asked), runs.image_term(asked))
    which = [i for i in asked.of_kind("interaction") if found.verdict[0, i] == "effect"]
    return {asked.items[i].pair: asked.items[i].factor for i in which}


def _of(interactions: Mapping[frozenset[str], str], item: Estimand) -> list[str]:
    if not item.estimand.startswith(AVERAGE):
        return []
    return [name for pair, name in interactions.items() if item.factor in pair]
