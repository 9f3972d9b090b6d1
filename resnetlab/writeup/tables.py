"""The tables of a paper: effects, arms and hypotheses as rows of numbers, with captions that say n and interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from resnetlab.analysis.confirm.effects_table import TURNS
from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.report.answer import notes, ranked
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import asked, missing
from resnetlab.study.metrics import Metric
from resnetlab.wording import plural
from resnetlab.writeup import error_bars

INTERVAL = "95% interval"
SPENDING = ", O'Brien-Fleming spending over the looks"


@dataclass(frozen=True)
class Column:
    """digits: after the decimal point of a number; None for text. signed: with `+`. p: a p value, `<0.001` where it is
    smaller. group: a heading above this one's and its neighbours'."""

    heading: str
    digits: int | None = None
    signed: bool = False
    p: bool = False
    group: str = ""


@dataclass(frozen=True)
class PaperTable:
    """rows: text or numbers as people read them (points of a fraction), None where there is none. exact: the same with
    every column and digit, in the units of the tables of a results folder. remarks: sentences below it."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str | float | None]]
    exact: pd.DataFrame
    remarks: Sequence[str] = field(default_factory=tuple)


def number(value: Any, column: Column) -> str:
    """A cell in plain ASCII: `+0.84`, `<0.001`; empty where there is none."""
    if value is None or missing(value):
        return ""
    if column.digits is None:
        return str(value)
    if column.p and value < 0.001:
        return "<0.001"
    return f"{value:{'+' if column.signed else ''}.{column.digits}f}"


def tables(findings: Findings) -> list[PaperTable]:
    """Of a folder with a plan: effects, arms, hypotheses where any was declared, and what earlier plans found."""
    made = [effects_table(findings), arms_table(findings), hypotheses_table(findings), earlier_table(findings)]
    return [table for table in made if table is not None]


def effects_table(findings: Findings) -> PaperTable:
    """Every comparison of the plan, strongest first; an asterisk at those that no hypothesis asked for."""
    plan, metric = findings.results.planned, findings.metric
    free = list(findings.exploratory)
    mixed = len(set(free)) > 1
    common, own = notes(findings.effects)
    found = ranked(findings.effects.assign(exploratory=free, own=own, on=error_bars.of_effects(findings)))
    kinds = error_bars.kinds(found["on"], findings)
    counted, columns = _counted(found, "{} runs with the level and {} with the reference")
    unit = f"{findings.effect.unit}, " if findings.effect.unit else ""
    columns = [
        Column("Comparison"),
        *_sized(f"{unit}{INTERVAL}", metric.digits, signed=True),
        *_labels(kinds),
        *columns,
        Column("p", 3, p=True, group="adj."),
        Column("Verdict"),
    ]
    rows = []
    for row in found.itertuples(index=False):
        n = [row.n, row.n_reference] if not counted else []
        verdict = f"{row.verdict}{' *' if mixed and row.exploratory else ''}"
        numbers = [metric.scale * value for value in (row.estimate, row.low, row.high)]
        rows.append([asked(row), *numbers, *_label(row.on, kinds), *n, row.p_adjusted, verdict])
    lower = f"; lower {metric.short} is better" if metric.sign < 0 else ""
    said = [
        f"Effects on {metric.words} in the study {_title(findings)}: differences of means{_in(findings.effect)} at the "
        f"full budget on fresh seeds{lower}, with unadjusted 95% confidence intervals {error_bars.on(kinds)}",
        _method(findings),
        f"{counted}{plural(len(plan.arms), 'arm')} of {'at most ' if plan.looks else ''}{plural(plan.seeds, 'seed')} "
        f"each were planned; "
        f"{Counts.of(findings.results.confirm).words('confirm')}",
        f"Holm's method adjusts p within each family of comparisons (familywise error rate {plan.alpha:g}"
        f"{SPENDING if plan.looks else ''}); "
        f"differences within ±{plan.delta_text} are too small to matter",
        _declared(free),
        f"Plan {plan.plan_hash}",
    ]
    remarks = [f"In all comparisons: {common}."] if common else []
    remarks += [f"{asked(row)}: {row.own}." for row in found.itertuples(index=False) if row.own]
    exact = found.drop(columns=["own", "on"])
    return PaperTable("effects", _sentences(said), columns, rows, exact, remarks)


def _method(findings: Findings) -> str:
    """How the effects were estimated, as their table says; empty where none was."""
    ways = list(error_bars.methods(findings))
    if not ways:
        return ""
    whose = f"; variance: {error_bars.variance(findings)}" if findings.results.planned.variance != "arms" else ""
    simple = findings.effects["method"].fillna("").str.contains("simple effects").any()
    more = "; intervals of simple effects account for their selection" if simple else ""
    return f"Method: {'; '.join(ways)}{whose}{more}"


def _labels(kinds: Sequence[str]) -> list[Column]:
    """A column that says what each interval is about, where they differ."""
    return [Column("Interval on")] if len(kinds) > 1 else []


def _label(about: str, kinds: Sequence[str]) -> list[str]:
    return [about] if len(kinds) > 1 else []


def _declared(free: Sequence[bool]) -> str:
    if all(free):
        return "No hypothesis was declared about them beforehand: all are exploratory"
    return "An asterisk marks exploratory comparisons, which no declared hypothesis asked for" if any(free) else ""


def arms_table(findings: Findings) -> PaperTable:
    """The metric of each arm on fresh seeds, in the plan's order."""
    plan, metric = findings.results.planned, findings.metric
    found, about = error_bars.of_arms(findings)
    kinds = error_bars.kinds(about, findings)
    whole = found["n"].nunique() == 1
    shown = f" ({metric.unit})" if metric.unit else ""
    spread = Column(f"Seed sd{_unit(findings.effect)}", metric.digits)
    columns = [
        Column("Arm"),
        *_sized(f"{metric.short}{shown}", metric.digits),
        *_labels(kinds),
        spread,
        *([] if whole else [Column("n", 0)]),
    ]
    rows = [
        [
            row.arm,
            *(metric.scale * value for value in (row.mean, *_cut(row.low, row.high, metric))),
            *_label(on, kinds),
            metric.scale * row.sd,
            *([] if whole else [row.n]),
        ]
        for row, on in zip(found.itertuples(index=False), about, strict=True)
    ]
    runs = (
        f"n\u00a0=\u00a0{plural(int(found['n'].iloc[0]), 'run')} of each arm, one a seed"
        if whole and len(found)
        else "n: runs"
    )
    said = [
        f"Mean {metric.words} of each arm of the study {_title(findings)} at the full budget on fresh seeds, with 95% "
        f"t intervals {error_bars.on(kinds)}, and the standard deviation over seeds",
        f"{runs}; {Counts.of(findings.results.confirm).words('confirm')}",
        f"Plan {plan.plan_hash}",
    ]
    remarks = [f"{row.arm}: {row.note}." for row in found.itertuples(index=False) if row.note]
    return PaperTable("arms", _sentences(said), columns, rows, findings.performance, remarks)


def _cut(low: float, high: float, metric: Metric) -> tuple[float, float]:
    """The interval of a fraction ends at 0 and 1."""
    return (max(low, 0.0), min(high, 1.0)) if metric.fraction and not missing(low) else (low, high)


def hypotheses_table(findings: Findings) -> PaperTable | None:
    """What became of each hypothesis that was declared beforehand; None where none was."""
    found, metric = findings.hypotheses, findings.metric
    if found.empty:
        return None
    counted, more = _counted(found, "{} runs with the level and {} with the reference")
    levels = found["confidence"].dropna().unique()
    span = f"{levels[0]:.0%} interval" if len(levels) else "interval"
    unit = f"{findings.effect.unit}, " if findings.effect.unit else ""
    columns = [
        Column("Hypothesis"),
        *_sized(f"{unit}{span}", metric.digits, signed=True),
        *more,
        Column("supported", 3, p=True, group="adj. p"),
        Column("refuted", 3, p=True, group="adj. p"),
        Column("Verdict"),
    ]
    rows = []
    for row in found.itertuples(index=False):
        n = [] if counted else [row.n, row.n_reference]
        numbers = [metric.scale * value for value in (row.estimate, row.low, row.high)]
        rows.append([row.hypothesis, *numbers, *n, row.p_supported, row.p_refuted, row.verdict])
    said = [
        f"Hypotheses of the study {_title(findings)} that were declared before the confirm runs and are part of the "
        f"plan: differences of mean {metric.words}{_in(findings.effect)}, with {span}s {_claimed(findings)}",
        counted.removesuffix("; "),
        "Both p are one-sided, adjusted by Holm's method over all declared hypotheses",
        f"Plan {findings.results.planned.plan_hash}",
    ]
    remarks = [f"{row.hypothesis}: {row.note}." for row in found.itertuples(index=False) if row.note]
    return PaperTable("hypotheses", _sentences(said), columns, rows, found, remarks)


def earlier_table(findings: Findings) -> PaperTable | None:
    """The verdicts of plans that had ended before the one in force, and what all plans say together; None where none
    had."""
    found, metric, plan = findings.earlier, findings.metric, findings.results.planned
    if found.empty:
        return None
    words = {row.name: asked(row) for row in findings.effects.itertuples(index=False)}
    kinds = list(
        dict.fromkeys(error_bars.TASK if findings.results.study.experiment else on for on in found["verdict_on"])
    )
    unit = f"{findings.effect.unit}, " if findings.effect.unit else ""
    columns = [
        Column("Comparison"),
        Column("Plan"),
        *_sized(f"{unit}{INTERVAL}", metric.digits, signed=True),
        *_labels(kinds),
        Column("Verdict"),
    ]
    rows: list[Sequence[str | float | None]] = []
    for name, mine in found.groupby("name", sort=False):
        for row in mine.itertuples(index=False):
            numbers = [metric.scale * value for value in (row.estimate, row.low, row.high)]
            rows.append([words.get(name, name), row.plan_hash, *numbers, *_label(row.verdict_on, kinds), row.verdict])
        pooled = mine.dropna(subset=["pooled"])
        if len(pooled):
            ends = pooled[["pooled", "pooled_low", "pooled_high"]].iloc[0]
            on = error_bars.REDRAWN if plan.splits != "fixed" else error_bars.THESE
            numbers = [metric.scale * value for value in ends]
            rows.append([words.get(name, name), "together", *numbers, *_label(on, kinds), ""])
    plans = [
        f"{row.plan_hash} on {plural(row.seeds, 'seed')} (familywise error rate {row.alpha:g})"
        for row in found.drop_duplicates("plan_hash").itertuples(index=False)
    ]
    said = [
        f"Earlier plans of the study {_title(findings)}, whose runs had all ended before plan {plan.plan_hash} was "
        f"made: effects on {metric.words}{_in(findings.effect)}, with unadjusted 95% confidence intervals "
        f"{error_bars.on(kinds)}",
        f"Plans: {'; '.join(plans)}; their verdicts stand",
    ]
    if found["pooled"].notna().any():
        fixed = plan.splits == "fixed" and not findings.results.study.experiment
        said.append(
            f"Together: the estimates of all plans that ran the same arms, plan {plan.plan_hash} included, weighed by "
            f"their precision{', with intervals on these test images' if fixed else ''}; it describes, and gives no "
            "verdict, as whoever asked for more could see what the first ones said"
        )
    return PaperTable("earlier", _sentences(said), columns, rows, found)


def _claimed(findings: Findings) -> str:
    kinds = error_bars.kinds(error_bars.of_effects(findings), findings)
    return error_bars.ON[kinds[0]] if len(kinds) == 1 else "on the images that the effects are about"


def turning(findings: Findings) -> int:
    """Comparisons that are inconclusive because they turn on runs that collapsed or diverged."""
    return int(findings.effects["note"].fillna("").str.contains(TURNS, regex=False).sum())


def _counted(found: pd.DataFrame, words: str) -> tuple[str, list[Column]]:
    """n for the caption where it is the same in every row, as `n = …; `; else the columns that it needs."""
    pairs = set(zip(found["n"], found["n_reference"], strict=True))
    if len(pairs) == 1:
        n, reference = pairs.pop()
        return f"n\u00a0=\u00a0{words.format(n, reference)}; ", []
    return "", [Column("level", 0, group="n"), Column("ref.", 0, group="n")]


def _sized(group: str, digits: int, signed: bool = False) -> list[Column]:
    """An estimate and the ends of its interval."""
    return [Column(heading, digits, signed, group=group) for heading in ("estimate", "low", "high")]


def _unit(metric: Metric) -> str:
    return f" ({metric.unit})" if metric.unit else ""


def _in(metric: Metric) -> str:
    return f" in {'percentage points' if metric.unit == 'points' else metric.unit}" if metric.unit else ""


def _title(findings: Findings) -> str:
    """The name, which is that of the folder: a title may be a sentence."""
    return findings.results.study.name


def _sentences(parts: Sequence[str]) -> str:
    return " ".join(
        f"{part[:1].upper()}{part[1:]}." if not part.startswith(("n\u00a0=", "n:")) else f"{part}."
        for part in parts
        if part
    )
