"""The answer in words: what is confirmed, what is not, and what that rests on. Text only; the page sets it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from resnetlab.analysis.confirm.best_arm import Best
from resnetlab.analysis.confirm.estimands import INTERACTION
from resnetlab.analysis.evaluation.class_results import Beside
from resnetlab.analysis.failures import planned_runs, to_go
from resnetlab.analysis.results import Results
from resnetlab.analysis.trial_outcomes import Counts, full_budget
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import EFFECT, asked, listed, missing, sentence, shown, signed, span
from resnetlab.study.metrics import Metric
from resnetlab.study.records import Status
from resnetlab.wording import plural

NAMED = 8  # factors or arms that the answer names
NAMED_ARMS = 4  # whose accuracy it tells
BALANCED = "val_balanced_accuracy"
NEARLY = 1.1  # the largest class's share over an even one, up to which classes count as equal in size


@dataclass(frozen=True)
class Statement:
    """One comparison: the claim, and the numbers that it rests on."""

    claim: str
    evidence: str
    note: str = ""


@dataclass(frozen=True)
class Answer:
    """words: what matters and what does not, by name; lead: one or two sentences; best: the incumbent's result. The
    lists: comparisons by verdict, strongest first. common: what must be known of every one of them.
    """

    words: str
    lead: str
    best: str
    common: str
    confirmed: list[Statement]
    equivalent: list[Statement]
    inconclusive: list[Statement]
    not_estimable: list[Statement]


def ranked(effects: pd.DataFrame) -> pd.DataFrame:
    """Effects as people want to read them: confirmed first, then by size; those without an estimate last."""
    order = {"effect": 0, "equivalent": 1, "inconclusive": 1}
    keys = pd.DataFrame(
        {"verdict": effects["verdict"].map(order).fillna(2), "size": -effects["estimate"].astype(float).abs()}
    )
    return effects.loc[keys.sort_values(["verdict", "size"], kind="stable").index].reset_index(drop=True)


def notes(effects: pd.DataFrame) -> tuple[str, list[str]]:
    """What the notes of all estimates share (where there is none: of all rows), and what is left of each row's own."""
    parts = [[] if missing(note) else [part for part in note.split("; ") if part] for note in effects["note"]]
    estimated = [own for own, value in zip(parts, effects["estimate"], strict=True) if not missing(value)] or parts
    common = [part for part in estimated[0] if all(part in own for own in estimated)] if len(estimated) > 1 else []
    return "; ".join(common), ["; ".join(part for part in own if part not in common) for own in parts]


def answer(findings: Findings) -> Answer:
    """What a reader is told first, of a folder that is running, explored or confirmed."""
    results, effects, free = findings.results, findings.effects, findings.exploratory
    common, own = notes(effects)
    labelled = [
        f"{note}; exploratory".removeprefix("; ") if alone else note for note, alone in zip(own, free, strict=True)
    ]
    rows = list(ranked(effects.assign(note=labelled if not all(free) else own)).itertuples(index=False))
    delta = results.plan.delta_text if results.plan else ""
    found = statements(rows, delta, findings.effect)
    best = " ".join([_best(findings), *which_network(findings)])
    return Answer(in_words(effects, delta), _lead(findings), best, common, *found)


def statements(rows: Sequence[Any], delta: str, metric: Metric = EFFECT) -> tuple[list[Statement], ...]:
    """The rows of the effects table by verdict: effect, equivalent, inconclusive, not estimable. delta: with unit.
    metric: of their differences; where it says which way is better, each effect is called better or worse."""

    def of(verdict: str) -> list[Statement]:
        return [_statement(row, delta, metric) for row in rows if row.verdict == verdict]

    known = ("effect", "equivalent", "inconclusive")
    rest = [Statement(asked(row), "", row.note) for row in rows if row.verdict not in known]
    return of("effect"), of("equivalent"), of("inconclusive"), rest


def in_words(effects: pd.DataFrame, delta: str) -> str:
    """`What matters: kernel and blocks. Undecided: shortcut.` Factors by name, named arms by what they are held
    against; empty where nothing can be judged."""
    if effects["low"].isna().all():
        return ""
    main = ranked(effects[effects["estimand"] != INTERACTION])
    judged = main[main["low"].notna()]  # of named arms that do another task, nothing is said here
    if (judged["factor"] == "arm").all():
        return _arms_in_words(judged, delta)
    verdicts = main.groupby("factor", sort=False)["verdict"].agg(set)
    matter = [name for name, found in verdicts.items() if "effect" in found]
    alike = [name for name, found in verdicts.items() if found == {"equivalent"}]
    rest = [name for name in verdicts.index if name not in matter + alike]
    pairs = effects[(effects["estimand"] == INTERACTION) & (effects["verdict"] == "effect")]["factor"].tolist()
    said = [f"What matters: {_some(matter)}." if matter else "Nothing is confirmed to matter."]
    said += [f"What depends on each other: {_some(pairs)}."] if pairs else []
    said += [f"No difference beyond ±{delta}: {_some(alike)}."] if alike else []
    said += [f"Undecided: {_some(rest)}."] if rest else []
    return " ".join(said)


def _arms_in_words(main: pd.DataFrame, delta: str) -> str:
    """`Other than scratch: transfer. Undecided against scratch: transfer-full.`"""
    words = {"effect": "Other than", "equivalent": f"Within ±{delta} of"}
    said: dict[str, list[str]] = {}
    for row in main.itertuples(index=False):
        said.setdefault(f"{words.get(row.verdict, 'Undecided against')} {row.reference}", []).append(row.level)
    nothing = "" if (main["verdict"] == "effect").any() else "No difference is confirmed. "
    return nothing + " ".join(f"{head}: {_some(names)}." for head, names in said.items())


def _some(names: list[str]) -> str:
    """The first few of many."""
    return listed(names) if len(names) <= NAMED else f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"


def _statement(row: Any, delta: str, metric: Metric) -> Statement:
    size = signed(row.estimate, unit=True, metric=metric)
    better = ""
    if metric.better and row.estimand != INTERACTION:
        better = ", better" if metric.sign * row.estimate > 0 else ", worse"
    said = {
        "effect": f"{asked(row)}: {size}{better}",
        "equivalent": f"{asked(row)}: no effect beyond ±{delta} (estimate {size})",
        "inconclusive": f"{asked(row)}: {size}",
    }
    return Statement(said[row.verdict], sentence(row, metric), row.note)


def _lead(findings: Findings) -> str:
    """What is found under the plan in force, and which verdicts of earlier plans stand beside it."""
    results, before = findings.results, earlier_in_words(findings.earlier)
    said = _found(results, findings.effects, findings.exploratory, len(findings.hypotheses))
    if not before:
        return said
    if results.plan is None:
        return f"No plan is in force, as the search goes on. Earlier verdicts stand: {before}."
    if results.plan.adds_to:
        return f"{said} These seeds were added: earlier verdicts stand ({before}), and all together only describe."
    return f"{said} Earlier verdicts stand beside these ({before})."


def earlier_in_words(earlier: pd.DataFrame) -> str:
    """`plan 3f… on 3 seeds: 1 effect and 2 inconclusive`, for each plan."""
    said = []
    for (plan_hash, seeds), rows in earlier.groupby(["plan_hash", "seeds"], sort=False):
        found = rows["verdict"].value_counts()
        counted = [f"{number} {verdict}" for verdict, number in found.items()]
        said.append(f"plan {plan_hash} on {plural(seeds, 'seed')}: {listed(counted)}")
    return "; ".join(said)


def _found(results: Results, effects: pd.DataFrame, free: Sequence[bool], hypotheses: int) -> str:
    explore = Counts.of(results.explore)
    if results.plan is None:
        more = results.study.confirm.design != "none" and not _nothing_to_confirm(results)
        return (
            f"Nothing is confirmed{' yet' * more}: this folder holds exploration only "
            f"({explore.words()}). What exploration suggests is listed below as hypotheses."
        )
    done = len(full_budget(results.confirm))
    planned = planned_runs(results)
    rests = f"{done} of {planned} planned confirm runs reached the full budget"
    if effects.empty or effects["estimate"].isna().all():
        if to_go(results):
            return f"No comparison can be estimated yet: {rests}."
        lost = Counts.of(results.confirm).lost
        why = f"; {lost} ended without a result" if lost else ""
        return f"No comparison can be made: {rests}{why}."
    total = len(effects)
    if effects["low"].isna().all():
        return f"No comparison can be judged: {rests}, and one run of each arm gives no interval."
    found = int((effects["verdict"] == "effect").sum())
    share = {0: "None", 1: "One"}.get(found, str(found))
    verb = "is a confirmed effect" if found < 2 else "are confirmed effects"
    claim = f"{share} of {plural(total, 'comparison')} {verb}"
    if total == 1:
        claim = f"The one comparison is {'a' if found else 'not a'} confirmed effect"
    return f"{claim}; {rests}, on fresh seeds.{_asked(free, hypotheses)}"


def _nothing_to_confirm(results: Results) -> bool:
    """All that was to be explored has ended, and none of it at the full budget: no plan can be made of it."""
    ended = results.explore["status"].map(lambda status: Status(status).ended).astype(bool)
    whole = len(ended) >= results.study.explore_trials > 0
    return bool(whole and ended.all() and full_budget(results.explore).empty)


def _asked(free: Sequence[bool], hypotheses: int) -> str:
    """Which comparisons were declared as a hypothesis beforehand. hypotheses: how many were declared in all; where an
    interaction was found, they are about averages that simple effects have replaced."""
    if all(free) and hypotheses:
        what = "verdict on the hypothesis" if hypotheses == 1 else "verdicts on the hypotheses"
        return f" All are exploratory; the {what} declared beforehand {'is' if hypotheses == 1 else 'are'} given below."
    if all(free):
        return (
            " None was declared beforehand: all are exploratory."
            if len(free) > 1
            else " It was not declared beforehand."
        )
    if len(free) == 1:
        return " It tests a hypothesis declared beforehand."
    many = len(free) - sum(free)
    if many == len(free):
        return " Each tests a hypothesis declared beforehand."
    test = "tests" if many == 1 else "test"
    return (
        f" {many} of the {len(free)} comparisons {test} a hypothesis declared beforehand; the others are exploratory."
    )


def _best(findings: Findings) -> str:
    """The design's centre on fresh seeds, or, marked as optimistic, the best that exploration saw."""
    results, metric = findings.results, findings.metric
    if results.plan is not None and results.plan.design == "arms":
        arms = findings.performance.dropna(subset="mean")
        ordered = arms.sort_values("mean", kind="stable", ascending=metric.sign > 0)
        if ordered.empty:
            return f"No arm has a result{' yet' * bool(to_go(results))}."
        few = len(ordered) <= NAMED_ARMS
        told = ordered if few else ordered.iloc[[0, -1]]
        said = [f"{row.arm} {shown(row.mean, metric)} (n = {row.n})" for row in told.itertuples(index=False)]
        means = ", ".join(said) if few else f"from {said[0]} to {said[1]}"
        return f"Mean {metric.words} on fresh seeds: {means}.{_beside(_tested_beside(findings, told['arm']), metric)}"
    if results.plan is not None:
        mean, low, high, n = tested(findings)
        if n:
            sure = f"95% interval {span(low, high, metric)}, " if n > 1 else "no interval from one run, "
            of = "" if metric.short == "accuracy" else f" {metric.short}"
            seeds = plural(n, "fresh seed")
            reached = f"The {results.plan.around} reaches {shown(mean, metric)}{of} on the test split"
            return f"{reached} ({sure}n = {seeds}).{_beside(_tested_beside(findings, [results.plan.around]), metric)}"
    full = full_budget(results.explore)
    if full.empty:
        return "No explore trial reached the full budget, so none can be called best."
    searched = findings.searched
    best = full.loc[(searched.sign * full[searched.name].astype(float)).idxmax()]
    which = (
        f"The best of {len(full)} full-budget explore trials" if len(full) > 1 else "The one full-budget explore trial"
    )
    most = f"the {searched.most} of many, so optimistic, and not confirmed"
    why = most if len(full) > 1 else "one seed, not confirmed"
    value = shown(best[searched.name], searched)
    beside = _beside(_searched_beside(findings, best), searched)
    return f"{which} is trial {best['number']} with {value} {searched.words}: {why}.{beside}"


def _tested_beside(findings: Findings, arms: Iterable[str]) -> dict[str, Beside]:
    """What stands beside the test accuracy of each of these arms; without those of which it is not known."""
    if findings.metric.name != "test_accuracy":
        return {}
    runs, classes = full_budget(findings.results.confirm), findings.results.classes
    found = {arm: Beside.of(classes, list(runs.loc[runs["arm"] == arm, "trial_id"])) for arm in arms}
    return {arm: beside for arm, beside in found.items() if beside is not None}


def _searched_beside(findings: Findings, trial: pd.Series) -> dict[str, Beside]:
    """The same of an explore trial's validation accuracy; its balanced accuracy only where the study measures it."""
    held = (findings.results.sweep.get("data") or {}).get("counts") or {}
    if findings.searched.name != "val_accuracy" or "val" not in held:
        return {}
    balanced = trial.get(BALANCED)
    found = Beside.of_counts(held["val"], math.nan if missing(balanced) else float(balanced))
    return {} if found is None else {"": found}


def _beside(found: Mapping[str, Beside], metric: Metric) -> str:
    """What accuracies are to be held against, by whose they are: guessing and, where classes are unequal, the largest
    class and their balanced accuracies. Arms whose images differ in that are told apart."""
    levels: dict[tuple[float, float], list[str]] = {}
    for name, one in found.items():
        levels.setdefault((one.chance, one.majority), []).append(name)
    said = ""
    for (chance, majority), names in levels.items():
        of = f" ({listed(names)})" if len(levels) > 1 else ""
        if majority <= NEARLY * chance:
            said += f" Guessing reaches {shown(majority, metric)}{of}."
            continue
        said += f" Guessing reaches {shown(chance, metric)}, always the largest class {shown(majority, metric)}{of}"
        balanced = {name: shown(found[name].balanced, metric) for name in names if not missing(found[name].balanced)}
        if not balanced:
            said += "; its balanced accuracy was not measured (`metrics: [balanced_accuracy]` does)."
        elif len(found) == 1:
            said += f"; its balanced accuracy is {next(iter(balanced.values()))}."
        else:
            said += f"; balanced accuracy: {', '.join(f'{name} {value}' for name, value in balanced.items())}."
    return said


def which_network(findings: Findings) -> list[str]:
    """Which arm of the design to use, a sentence for each task; none before all planned runs have ended."""
    if findings.results.plan is None:
        return []
    plan, said = findings.results.plan, []
    for best in findings.best:
        names = [plan.arms[row].name for row in best.candidates]
        of = f" ({best.task})" if len(findings.best) > 1 else ""
        run = f"trial {chosen_run(findings, best.arm)['number']}"
        if best.told:
            lead = signed(best.lead, unit=True, metric=findings.effect).lstrip("+")
            said.append(f"Best of the {best.of} arms{of}: {names[0]} ({run}), by at least {lead} (95%, adjusted).")
        else:
            others = names[1:]
            more = f"; and {len(others) - NAMED} more" if len(others) > NAMED else ""
            are = "1 other is" if len(others) == 1 else f"{len(others)} others are"
            said.append(
                f"The {findings.metric.most} mean of the {best.of} arms{of} is that of {names[0]} ({run}); from "
                f"{_seeds(findings, best)} an arm, {are} not shown to be worse: {'; '.join(others[:NAMED])}{more}."
            )
    return said


def _seeds(findings: Findings, best: Best) -> str:
    """How many seeds the arms that may be best have: `3 seeds`, `7 to 9 seeds`."""
    counts = findings.performance["n"].iloc[list(best.candidates)]
    low, high = int(counts.min()), int(counts.max())
    return plural(high, "seed") if low == high else f"{low} to {plural(high, 'seed')}"


def chosen_run(findings: Findings, row: int) -> pd.Series:
    """Of the runs of an arm (a design row) that have a value, the best by what was searched for."""
    confirm, searched = full_budget(findings.results.confirm), findings.searched
    runs = confirm[confirm["design_row"] == row]
    values = searched.sign * runs[searched.name].astype(float)
    return runs.loc[values.idxmax() if values.notna().any() else runs.index[0]]


def tested(findings: Findings) -> tuple[float, float, float, int]:
    """The metric of the design's centre on fresh seeds: mean, 95% interval, runs. The interval is on new images where
    verdicts are about them and it is known."""
    plan, arms = findings.results.planned, findings.performance
    mine = arms[arms["arm"] == plan.around]
    if mine.empty:
        return float("nan"), float("nan"), float("nan"), 0
    row = mine.iloc[0]
    ends = ("low_new", "high_new") if plan.about == "new" and not missing(row["low_new"]) else ("low", "high")
    return float(row["mean"]), float(row[ends[0]]), float(row[ends[1]]), int(row["n"])


def incumbent_runs(results: Results) -> pd.DataFrame:
    """The full-budget confirm runs of the design's centre."""
    confirm = results.confirm
    return full_budget(confirm[confirm["arm"] == results.planned.around])
