"""Were the arms given the same chance? Tuning spent on each level, tuned values at the edge of their range, and arms
at equal epochs, and at equal parameters and equal time where the runs hold such arms. Values are as in the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.contrasts import CellMeans, contrast
from resnetlab.analysis.confirm.estimands import estimands
from resnetlab.analysis.confirm.looks_taken import runs_of
from resnetlab.analysis.shared_times import shared_times
from resnetlab.analysis.trial_outcomes import full_budget
from resnetlab.planning.plan import Layout, Plan
from resnetlab.study import Study
from resnetlab.study.metrics import Metric
from resnetlab.study.records import Phase, Status
from resnetlab.wording import level_text, plural

EDGE = 0.05  # of a range, at either end
LIKE = 1.10  # arms count as alike in size or time up to this ratio
UNEVEN = 2.0  # tuning budgets that differ by more than this are named
SIZES = {"parameters": "parameters", "train_seconds": "training time"}
_MACHINE = ("device", "device_share", "threads")


@dataclass(frozen=True)
class Finding:
    """One check in words. fair: None where it cannot be told."""

    check: str
    fair: bool | None
    text: str


def fairness(study: Study, plan: Plan | None, trials: pd.DataFrame, runs: ConfirmRuns | None = None) -> list[Finding]:
    """All checks, unfair ones first. trials: all rows of the trials table; runs: the plan's, where they were laid out
    before."""
    found = [*_budgets(study, trials), *_edges(study, plan, trials)]
    if plan is not None:
        confirm = trials[(trials["phase"] == Phase.CONFIRM) & (trials["plan_hash"] == plan.plan_hash)]
        found.append(_epochs(plan, confirm))
        runs = runs or runs_of(plan, confirm)
        for by in (name for name in SIZES if not study.experiment or name != "parameters"):
            found += _sizes(matched(runs, confirm, by), plan.metric.effect)
    return sorted(found, key=lambda finding: {False: 0, None: 1, True: 2}[finding.fair])


def tuning(study: Study, trials: pd.DataFrame) -> pd.DataFrame:
    """What the search spent on each level of each compared factor: columns factor, level, trials, full (at the full
    budget), epochs, share (of the epochs of all levels of the factor)."""
    explore = trials[trials["phase"].isin([Phase.EXPLORE, Phase.AUDIT])]
    complete = explore.index.isin(full_budget(explore).index)
    spent = explore["epochs_run"].fillna(0).to_numpy(dtype=int)
    rows = []
    for factor in study.space.factors:
        if not factor.compared or factor.name not in explore.columns:
            continue
        shown = np.array(
            [None if pd.isna(value) else level_text(value) for value in explore[factor.name]], dtype=object
        )
        for level in map(level_text, factor.levels):
            mine = shown == level
            rows.append((factor.name, level, int(mine.sum()), int((mine & complete).sum()), int(spent[mine].sum())))
    table = pd.DataFrame(rows, columns=["factor", "level", "trials", "full", "epochs"])
    total = table.groupby("factor")["epochs"].transform("sum").clip(lower=1)
    return table.assign(share=table["epochs"] / total)


def edges(study: Study, plan: Plan | None, trials: pd.DataFrame) -> pd.DataFrame:
    """Where each tuned value lies in its range: columns arm, factor, value, low, high, position (0 to 1), at_edge.

    The arms of the plan that differ in it; without a plan, the best explore trial at the full budget.
    """
    space = study.space
    if plan is not None:
        arms = [(arm.name, arm.values) for arm in plan.arms]
    else:
        full = full_budget(trials[trials["phase"].isin([Phase.EXPLORE, Phase.AUDIT])])
        best = full.assign(_by=study.searched.sign * full[study.searched.name]).nlargest(1, "_by").to_dict("records")
        arms = [
            ("best explore trial", space.active({k: row[k] for k in space.names if not pd.isna(row[k])}))
            for row in best
        ]
    rows: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for name, values in arms:
        for factor in space.factors:
            index = factor.branch(values)
            if index is None or factor.branches[index].levels is not None or factor.name not in values:
                continue
            branch, value = factor.branches[index], values[factor.name]
            at = branch.position(value)
            key = (factor.name, index, value)
            rows.setdefault(key, (name, factor.name, value, branch.low, branch.high, at, min(at, 1 - at) <= EDGE))
    names = ["arm", "factor", "value", "low", "high", "position", "at_edge"]
    return pd.DataFrame(list(rows.values()), columns=names)


def matched(runs: ConfirmRuns, confirm: pd.DataFrame, by: str) -> pd.DataFrame:
    """Each comparison of two levels between arms that are alike in `by` (`parameters` or `train_seconds`).

    Columns factor, level, reference, ratio (of `by`, geometric mean over the pairs of arms that differ in this factor
    only, of all where there are none), pairs, others (compared factors in which the pairs differ besides), estimate,
    low, high (95%, of the metric at the full budget), n, n_reference, note. The pairs are those of an arm
    with the level and one with the reference within 10% of each other that differ in fewest other factors; estimate
    is NaN where there are none. Named arms: each with the first of its task for reference; the pair is the arm and the
    third of the task that is nearest to it, whose name is in others.
    """
    plan, cells = runs.plan, CellMeans.of(runs.values)
    full = full_budget(confirm)
    sizes = full.groupby("design_row")[by].mean() if by in full.columns else pd.Series(dtype=float)
    size = np.array([float(sizes.get(row, np.nan)) for row in range(len(plan.arms))])
    size[cells.n == 0] = np.nan
    apart = _machines(full) if by == "train_seconds" else ""
    names = ["by", "factor", "level", "reference", "ratio", "pairs", "others", "estimate", "low", "high", "n",
             "n_reference", "note"]  # fmt: skip
    if plan.design == "arms":
        asked = [(item.level, item.reference) for item in estimands(plan).items]
        found = [{"by": by, "factor": "arm", "level": level, "reference": reference}
                 | _matched_arm(plan, cells, size, level, reference, apart) for level, reference in asked]  # fmt: skip
        return pd.DataFrame(found, columns=names)
    rows = []
    for swap in plan.swaps:
        sides = [np.array([arm.values.get(swap.factor) == x for arm in plan.arms], dtype=bool)
                 for x in (swap.level, swap.reference)]  # fmt: skip
        row = {
            "by": by,
            "factor": swap.factor,
            "level": level_text(swap.level),
            "reference": level_text(swap.reference),
        }
        rows.append(row | _matched(plan, cells, size, sides, swap.factor, apart))
    return pd.DataFrame(rows, columns=names)


_NO_PAIR = {"pairs": 0, "others": "", "estimate": np.nan, "low": np.nan, "high": np.nan, "n": 0, "n_reference": 0}


def _matched_arm(
    plan: Layout, cells: CellMeans, size: np.ndarray, level: str, reference: str, apart: str
) -> dict[str, Any]:
    place = {arm.name: row for row, arm in enumerate(plan.arms)}
    mine, first = place[level], place[reference]
    if apart or np.isnan(size[[mine, first]]).any():
        return _NO_PAIR | {"ratio": np.nan, "note": apart or "not both arms have runs that tell"}
    away = {
        row: abs(np.log(size[mine] / size[row]))
        for row, arm in enumerate(plan.arms)
        if row not in (mine, first) and arm.task == plan.arms[mine].task and not np.isnan(size[row])
    }
    nearest = min(away, key=lambda row: away[row], default=None)
    ratio = float(size[mine] / size[first])
    if nearest is None or away[nearest] > np.log(LIKE):
        return _NO_PAIR | {"ratio": ratio, "note": f"no third arm within {LIKE - 1:.0%} of {level}"}
    weights = np.zeros((1, len(plan.arms)))
    weights[0, [mine, nearest]] = 1.0, -1.0
    return {"ratio": ratio, "pairs": 1, "others": plan.arms[nearest].name, "note": ""} | _estimated(
        cells, weights, [mine], [nearest], crossed=False
    )


def _estimated(
    cells: CellMeans, weights: np.ndarray, ours: Sequence[int], theirs: Sequence[int], crossed: bool
) -> dict[str, Any]:
    found = contrast(cells, weights, crossed=crossed)
    low, high = found.interval()
    return {
        "estimate": float(found.estimate[0]), "low": float(low[0]), "high": float(high[0]),
        "n": int(cells.n[list(ours)].sum()), "n_reference": int(cells.n[list(theirs)].sum()),
    }  # fmt: skip


def _matched(
    plan: Layout, cells: CellMeans, size: np.ndarray, sides: Sequence[np.ndarray], factor: str, apart: str
) -> dict[str, Any]:
    known = [np.flatnonzero(side & ~np.isnan(size)) for side in sides]
    if apart or not len(known[0]) or not len(known[1]):
        return _NO_PAIR | {"ratio": np.nan, "note": apart or "not every level has runs that tell"}
    differ = {(int(a), int(b)): _others(plan, int(a), int(b), factor) for a in known[0] for b in known[1]}
    ratios = {pair: np.log(size[pair[0]] / size[pair[1]]) for pair in differ}
    ratio = float(np.exp(np.mean([x for pair, x in ratios.items() if not differ[pair]] or list(ratios.values()))))
    alike = [pair for pair, x in ratios.items() if abs(x) <= np.log(LIKE)]
    fewest = min((len(differ[pair]) for pair in alike), default=0)
    pairs = [pair for pair in alike if len(differ[pair]) == fewest]
    if not pairs:
        return _NO_PAIR | {"ratio": ratio, "note": f"no two arms within {LIKE - 1:.0%} of each other"}
    weights = np.zeros((1, len(plan.arms)))
    for a, b in pairs:
        weights[0, a] += 1 / len(pairs)
        weights[0, b] -= 1 / len(pairs)
    ours, theirs = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
    others = sorted({name for pair in pairs for name in differ[pair]})
    return {"ratio": ratio, "pairs": len(pairs), "others": ", ".join(others), "note": ""} | _estimated(
        cells, weights, ours, theirs, crossed=plan.design != "one-factor"
    )


def _others(plan: Layout, a: int, b: int, factor: str) -> list[str]:
    one, other = plan.arms[a].values, plan.arms[b].values
    return [name for name in plan.compared if name != factor and one.get(name) != other.get(name)]


def _machines(runs: pd.DataFrame) -> str:
    """Why the times of these runs cannot be compared; empty where they can."""
    for column in _MACHINE:
        found = sorted(map(str, runs[column].dropna().unique())) if column in runs.columns else []
        if len(found) > 1:
            return f"times are not comparable: {column} {' and '.join(found[:3])}"
    shared = shared_times(runs)
    return f"times are not comparable: {shared}" if shared else ""


def _budgets(study: Study, trials: pd.DataFrame) -> list[Finding]:
    table = tuning(study, trials)
    findings = []
    for factor, part in table.groupby("factor", sort=False):
        least, most = part["epochs"].min(), part["epochs"].max()
        spent = "; ".join(f"{r.level}: {r.epochs:,} epochs in {r.trials} trials" for r in part.itertuples(index=False))
        if most == 0:
            findings.append(Finding("tuning budget", None, f"{factor}: no level was explored"))
            continue
        fair = bool(most <= UNEVEN * least)
        word = "alike" if fair else f"more than {UNEVEN:g} times apart"
        findings.append(Finding("tuning budget", fair, f"{factor}: {spent} ({word})"))
    return findings


def _edges(study: Study, plan: Plan | None, trials: pd.DataFrame) -> list[Finding]:
    findings = []
    for row in edges(study, plan, trials).itertuples(index=False):
        end = "lower" if row.position < 0.5 else "upper"
        where = f"at the {end} end of" if row.at_edge else "inside"
        better = ": a better value may lie beyond" if row.at_edge else ""
        text = f"{row.arm}: {row.factor} {row.value:.4g} is {where} {row.low:g} … {row.high:g}{better}"
        findings.append(Finding("edge of the range", not row.at_edge, text))
    return findings


def _epochs(plan: Plan, confirm: pd.DataFrame) -> Finding:
    full = full_budget(confirm)
    ran = sorted({int(epochs) for epochs in full["epochs_run"]})
    lost = int((confirm["status"].isin([Status.DIVERGED, Status.FAILED, Status.OUT_OF_MEMORY])).sum())
    also = f"; {lost} runs that ended early are not compared" if lost else ""
    if not ran:
        return Finding("equal epochs", None, "no confirm run has reached the full budget")
    arms = full["design_row"].nunique()
    text = f"{len(full)} runs of {arms} of {len(plan.arms)} arms, all compared at epoch {ran[0]}{also}"
    if len(ran) > 1:
        text = f"runs of {' and '.join(map(str, ran))} epochs are mixed"
    return Finding("equal epochs", len(ran) == 1, text)


def _sizes(found: pd.DataFrame, effect: Metric) -> list[Finding]:
    findings = []
    for row in found.to_dict("records"):
        check = f"equal {SIZES[row['by']]}"
        factor = "" if row["factor"] == "arm" else f"{row['factor']} "
        asked = f"{factor}{row['level']} instead of {row['reference']}"
        if np.isnan(row["ratio"]):
            findings.append(Finding(check, None, f"{asked}: {row['note']}"))
            continue
        alike = 1 / LIKE <= row["ratio"] <= LIKE
        text = f"{asked}: {row['ratio']:.2f} times the {SIZES[row['by']]}"
        findings.append(Finding(check, alike, text if alike else f"{text}; {_at_equal(row, effect)}"))
    return findings


def _at_equal(row: Mapping[str, Any], effect: Metric) -> str:
    """What arms of like size or time say."""
    if not row["pairs"]:
        return str(row["note"])
    size, low, high = (f"{effect.scale * row[name]:+.{effect.digits}f}" for name in ("estimate", "low", "high"))
    if not np.isnan(row["low"]):
        size += f" (95% interval {low} … {high})"
    size = f"{size} {effect.unit}".rstrip()
    runs = f"n = {row['n']} against {row['n_reference']}, unadjusted"
    if row["factor"] == "arm":
        return f"against {row['others']}, which is alike in that: {size}, {runs}"
    besides = f", which also differ in {row['others']}" if row["others"] else ""
    pairs = f"{plural(row['pairs'], 'pair')} of arms"
    return f"average over {pairs} alike in that{besides}: {size}, {runs}"
