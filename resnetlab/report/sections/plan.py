"""The plan: the factors and their levels, and what was written down before any confirm run."""

from __future__ import annotations

from itertools import pairwise

from resnetlab.analysis import time_spent
from resnetlab.analysis.results import Results
from resnetlab.planning.designs import contrast_name
from resnetlab.planning.plan import Plan
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import level, settings
from resnetlab.report.layout import FOLDED, Section, Table
from resnetlab.report.sections.earlier import earlier
from resnetlab.storage import versions
from resnetlab.storage.layout import PLANS
from resnetlab.study import differences, legacy
from resnetlab.study.space import Branch
from resnetlab.wording import plural

FREE = ("resources", "title", "question", "given_weights", "own", "time_budget")  # what an extension says nothing of


def section(findings: Findings) -> Section:
    """The factors alone where no plan was made."""
    results = findings.results
    study = results.study
    base = study.baseline_values()
    rows = [
        [
            factor.name,
            study.trial_type.model_fields[factor.name].description or "",
            "; ".join(map(_branch, factor.branches)),
            level(base.get(factor.name)),
        ]
        for factor in study.space.factors
    ]
    fixed = {name: value for name, value in study.baseline.items() if name not in study.space.names}
    rest = f"the rest is as {study.experiment or 'resnetlab'} has it (a trial's row shows all)"
    foot = f"Set for all trials: {settings(fixed)}; {rest}."
    columns = ["Factor", "Meaning", "Levels or range", "Baseline"]
    factors = Table(columns, ["code", "text", "long", "code"], rows, foot, "The factors")
    if results.plan is None:
        said = [_no_plan(results), *time_spent.in_words(results), *_versions(results)]
        return Section("plan", "The plan", said, [factors, *earlier(findings)])
    found = results.plan
    text = [
        f"Written down and hashed before the first of its own confirm runs (plan {found.plan_hash}): design "
        f"{found.design}, {len(found.arms)} arms on {found.seeds} seeds each, compared on "
        f"{found.metric.words}, family-wise error rate {found.alpha:g}, smallest effect of interest "
        f"{found.delta_text}. Code {found.code}{f', data {found.data_hash}' if found.data_hash else ''}.",
        *_redrawn(found),
        *_looked(found),
        *time_spent.in_words(results),
        *_replaced(results),
        *_versions(results),
    ]
    rows = [
        [arm.name, settings(arm.values), settings(arm.companions) if arm.companions else "none"] for arm in found.arms
    ]
    foot = "Moved along: tuned settings that had to change with the levels, as the search found them."
    columns = ["Arm", "Setting", "Moved along"]
    laid = Table(columns, ["name", "long", "text"], rows, foot, "The arms as planned", folded=len(rows) > FOLDED)
    return Section("plan", "The plan", text, [factors, laid])


def _redrawn(plan: Plan) -> list[str]:
    """What drawing the splits again means for its intervals, and what it costs."""
    if plan.splits == "fixed":
        return []
    return [
        "Each block of seeds has a split of its own, so intervals hold over splits of these data. The price: images "
        "that the search trained on or chose by are test images in some blocks."
    ]


def _looked(plan: Plan) -> list[str]:
    """When it looks at its runs, and what for."""
    looks = plan.looks
    if looks is None:
        return []
    names = ", ".join(contrast_name(*found) for found in looks.primaries)
    stops = "an arm stops once its comparisons are settled" if looks.stops == "arms" else "all arms stop together"
    again = "; the last block is set after the second, by the pooled spread of seeds" if looks.reestimate else ""
    return [
        f"It looks at its runs after {looks.after}, with O'Brien-Fleming spending of the error rate and Holm's "
        f"adjustment, until all of these are settled: {names}; {stops}{again}. A comparison is not "
        f"resolvable, and given up, where, from block {looks.futility_from} on, the conditional power of both an "
        f"effect and equivalence is below {looks.futility:.0%}."
    ]


def _no_plan(results: Results) -> str:
    if results.study.confirm.design == "none":
        return "There is no plan: this study explores, and confirms nothing (confirm.design: none)."
    return "No plan was made yet: confirm runs follow exploration, once a trial of it has reached the full budget."


def _replaced(results: Results) -> list[str]:
    """Plans that this one follows, or took the place of: what they asked otherwise, and what had been seen of them."""
    text, adds_to = [], results.planned.adds_to
    if adds_to:
        text.append(
            f"It adds {plural(results.planned.seeds, 'seed')} to plan {adds_to}, all of whose runs had ended, with the "
            "same arms and an error rate of its own."
        )
    for name in results.folder.names(PLANS):
        old = legacy.renamed(results.folder.read_json(f"{PLANS}/{name}") or {}, legacy.PLAN)
        if old.get("plan_hash") in (adds_to, results.planned.plan_hash):
            continue
        changed = differences(old.get("asked", {}), results.planned.asked, words="{} then, {} now")
        runs = results.other_confirm
        seen = int((runs["plan_hash"] == old.get("plan_hash")).sum())
        text.append(
            f"It took the place of plan {old.get('plan_hash')} ({'; '.join(changed) or 'the same questions'}), "
            f"of which {seen} runs had been started: they are not analysed with these, but whoever changed the plan "
            "could see them."
        )
    return text


def _versions(results: Results) -> list[str]:
    """How the study was extended, a sentence for each time."""
    studies = [*versions.earlier(results.folder), results.study.recorded()]
    kept = [{name: value for name, value in each.items() if name not in FREE} for each in studies]
    steps = enumerate(pairwise(kept), 2)
    changed = [(at, differences(one, two, words="{} then, {} now")) for at, (one, two) in steps]
    return [
        f"Version {number} of the study extends the one before ({'; '.join(lines)}): the column study_version says "
        "which one asked for a trial."
        for number, lines in changed
    ]


def _branch(branch: Branch) -> str:
    if branch.levels is not None:
        text = ", ".join(map(level, branch.levels))
    else:
        text = f"{level(branch.low)} … {level(branch.high)}" + (" (log)" if branch.log else "")
    where = [f"{name} {' or '.join(map(level, levels))}" for name, levels in branch.when.items()]
    return f"{text} where {' and '.join(where)}" if where else text
