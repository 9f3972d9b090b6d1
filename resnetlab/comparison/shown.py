"""A comparison as a page, as lines of a terminal and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table as Lines
from rich.text import Text

from resnetlab import console
from resnetlab.comparison.folders import AGREE, DIFFER, IDENTICAL, NONE, UNDECIDED, Answer, Comparison
from resnetlab.comparison.pooling import Pooled
from resnetlab.errors import BadRequest, FolderRefused
from resnetlab.report.answer import Answer as Said
from resnetlab.report.formatting import amount, headed, interval, listed, missing, p_value, signed
from resnetlab.report.layout import FOLDED, Section, Table
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study.metrics import Metric
from resnetlab.wording import plural

SHOWN, REASONS = 12, 3  # settings that differ, and reasons for not pooling, in a terminal
COLOURS = {DIFFER: "bold yellow", AGREE: "green", IDENTICAL: "green"}
POOLING = (
    "Pooled: the mean over studies with random effects between them (variance by Paule and Mandel, t interval by "
    "Hartung and Knapp, never narrower than the weights make it). Heterogeneity: sd between studies, its share of the "
    "variance (I²), and p of there being none (Cochran's Q), which finds little in few studies."
)


def lead(comparison: Comparison) -> str:
    """How many comparisons agree, differ or are undecided."""
    words = [one.judged for row in comparison.compared for one in row.answers if one.judged != NONE]
    rows = len(comparison.compared)
    if not rows:
        return "No comparison was made in two of these studies."
    counts = [f"{words.count(word)} {word}" for word in (DIFFER, AGREE, UNDECIDED, IDENTICAL) if words.count(word)]
    pooled = sum(one.pooled is not None for one in comparison.compared)
    first = comparison.labels[0]
    text = f"{plural(rows, 'comparison')} in common. "
    text += f"Against {first}: {listed(counts)}. " if counts else ""
    return f"{text}{pooled} of {rows} can be pooled."


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know of these folders together."""
    said = [
        f"{comparison.labels[i]} and {comparison.labels[j]} ran the same seeds: where their arms are the same, "
        "differences are taken run by run, and they are not pooled."
        for i, j in comparison.shared
    ]
    for label, one in zip(comparison.labels, comparison.findings, strict=True):
        if not one.runs.finished:
            said.append(f"{label} has not ended: its effects may change.")
        for plan_hash in dict.fromkeys(one.earlier["plan_hash"]):
            said.append(
                f"{label}: plan {plan_hash} ended before the one in force, {one.results.planned.plan_hash}, and is "
                f"left out here; the report of {label} has its verdicts."
            )
    said += [f"{label}: {note}" for label, one in zip(comparison.labels, comparison.findings, strict=True)
             for note in one.results.notes]  # fmt: skip
    return said


def rules(comparison: Comparison) -> str:
    """What the words of the verdicts mean."""
    plan = comparison.plans[0]
    unit = plan.metric.effect.unit
    return (
        f"Differences are taken from the first study that made the comparison, with 95% intervals. They differ where "
        f"p, adjusted by Holm's method over all differences of a study, is at most {comparison.alpha:g}; agree where "
        f"two one-sided tests place the difference within ±{comparison.delta:g}{f' {unit}' if unit else ''}; all else "
        "is undecided."
    )


def write(comparison: Comparison, folder: ResultsFolder) -> Path | str:
    """Write compare.html, compared.csv and the forest plot; returns where the page lies. BadRequest where the folder
    cannot be written, FolderRefused where it holds a study."""
    from resnetlab.comparison.forest import drawings
    from resnetlab.report.build import drawn

    if folder.read("study.json") is not None:
        raise FolderRefused(f"--output {folder.url}: holds the results of a study: name another folder")
    figures, files = drawn(drawings(comparison))
    files["compare.html"] = page(comparison, figures).encode("utf-8", console.ERRORS)
    files["compared.csv"] = table(comparison).to_csv(index=False, lineterminator="\n").encode("utf-8", "replace")
    try:
        for name, content in files.items():
            folder.write(name, content)
    except OSError as error:
        raise BadRequest(f"--output {folder.url}: cannot be written: {error.strerror or error}") from None
    return folder.path / "compare.html" if folder.path else f"{folder.url}/compare.html"


def page(comparison: Comparison, figures: Any) -> str:
    """The page as HTML. All text from the tables is escaped."""
    from resnetlab.report.page import render

    names = [name for name in figures if name.startswith("forest")]
    effects = Section("compared", "Effects side by side", [rules(comparison)], _tables(comparison), names)
    settings = Section("settings", "What differs between the studies", [], [_settings(comparison)])
    return render(
        kind="Comparison of studies ·",
        name=", ".join(comparison.labels),
        title=f"{comparison.metric.label}: {listed(list(comparison.labels))}",
        answer=Said("", lead(comparison), "", "", [], [], [], []),
        contents={"Compared": [effects], "The record": [settings]},
        figures=figures,
        notes=notes(comparison),
        meta=plural(sum(len(one.results.confirm) for one in comparison.findings), "confirm run"),
        source="the tables of these results folders alone",
    )


def _tables(comparison: Comparison) -> list[Table]:
    """The pooled effects; the effects of each study."""
    if not comparison.compared:
        return []
    metric = comparison.metric.effect
    size = headed("Effect", metric)
    rows: list[list[Any]] = [
        [one.name, *_pooled_cells(one.pooled, metric), "" if one.pooled else f"not pooled: {one.why}"]
        for one in comparison.compared
    ]
    headings = ["Comparison", size, "95% interval", "Studies", headed("Sd between", metric), "I²", "p, no sd", "Note"]
    tables = [Table(headings, ["name", *["number"] * 6, "long"], rows, POOLING, "Pooled over the studies")]
    rows = [
        [
            one.name, comparison.labels[answer.study], signed(answer.estimate, metric=metric),
            interval(answer.low, answer.high, metric), f"{answer.n} / {answer.n_reference}", answer.verdict,
            *_against(answer, comparison), "yes" if answer.paired else "",
        ]
        for one in comparison.compared for answer in one.answers
    ]  # fmt: skip
    headings = ["Comparison", "Study", size, "95% interval", "Runs", "Its verdict", "Difference", "Its interval",
                "The two", "By pairs of runs"]  # fmt: skip
    kinds = ["name", "text", "number", "number", "number", "text", "number", "number", "text", "text"]
    alone = comparison.alone
    foot = f"In one study only: {'; '.join(alone)}." if alone else ""
    tables.append(Table(headings, kinds, rows, foot, "Each study"))
    return [table.without_empty() for table in tables]


def _pooled_cells(found: Pooled | None, metric: Metric) -> list[str]:
    if found is None:
        return [""] * 6
    size = [signed(found.estimate, metric=metric), interval(found.low, found.high, metric)]
    return [*size, str(found.studies), amount(found.between, metric), f"{found.share:.0%}", p_value(found.p)]


def _against(answer: Answer, comparison: Comparison) -> list[str]:
    metric = comparison.metric.effect
    if answer.judged == NONE and missing(answer.difference):
        return ["", "", ""]
    span = "" if missing(answer.difference_low) else interval(answer.difference_low, answer.difference_high, metric)
    return [signed(answer.difference, metric=metric), span, answer.judged]


def _settings(comparison: Comparison) -> Table:
    rows: list[list[Any]] = [[name, *values] for name, values in comparison.settings]
    kinds = ["name", *["long"] * len(comparison.labels)]
    return Table(["Setting", *comparison.labels], kinds, rows, "All else is the same.", folded=len(rows) > 2 * FOLDED)


def table(comparison: Comparison) -> pd.DataFrame:
    """A row for each effect of each study and for each pooled one; fractions, as the tables of a folder have them."""
    rows: list[dict[str, Any]] = []
    for one in comparison.compared:
        for answer in one.answers:
            rows.append(
                {"comparison": one.name, "estimand": one.question.estimand, "study": comparison.labels[answer.study]}
                | {name: getattr(answer, name) for name in COLUMNS}
            )
        if one.pooled:
            rows.append(
                {"comparison": one.name, "estimand": one.question.estimand, "study": "pooled", "n": one.pooled.studies}
                | {name: getattr(one.pooled, name) for name in ("estimate", "low", "high", "standard_error")}
                | {
                    "between": one.pooled.between,
                    "i2": one.pooled.share,
                    "q": one.pooled.q,
                    "p_homogeneous": one.pooled.p,
                }
            )
    return pd.DataFrame(
        rows, columns=["comparison", "estimand", "study", *COLUMNS, "between", "i2", "q", "p_homogeneous"]
    )


COLUMNS = (
    "estimate", "low", "high", "standard_error", "df", "n", "n_reference", "verdict", "difference", "difference_low",
    "difference_high", "judged", "paired",
)  # fmt: skip


def as_json(comparison: Comparison, place: Path | str | None) -> dict[str, Any]:
    """For scripts; accuracies are fractions."""
    found = table(comparison).astype(object)
    return {
        "studies": list(comparison.labels),
        "places": [one.results.folder.url for one in comparison.findings],
        "metric": comparison.metric.name,
        "answer": lead(comparison),
        "notes": notes(comparison),
        "settings": {name: values for name, values in comparison.settings},
        "effects": found.where(pd.notna(found), None).to_dict("records"),
        "not_pooled": {one.name: one.why for one in comparison.compared if one.pooled is None},
        "page": None if place is None else str(place),
    }


def show(comparison: Comparison, screen: Console, place: Path | str | None) -> None:
    """Print what differs, and the effects side by side with the pooled one below them."""

    def say(text: str, style: str = "") -> None:
        screen.print(Text(text, style=style), soft_wrap=not screen.is_terminal)

    say(lead(comparison), "bold")
    for note in notes(comparison):
        say(note, "yellow")
    if comparison.settings:
        screen.print(_settings_lines(comparison))
        if len(comparison.settings) > SHOWN:
            more = len(comparison.settings) - SHOWN
            say(f"and {more} more{'' if place else ' (--output writes them all)'}", "dim")
    if comparison.compared:
        screen.print(Text(""))
        screen.print(_effect_lines(comparison, screen.width))
        say(rules(comparison), "dim")
    for why in list(dict.fromkeys(one.why for one in comparison.compared if one.pooled is None))[:REASONS]:
        names = [one.name for one in comparison.compared if one.why == why]
        say(f"Not pooled: {listed(names)}: {why}.", "dim")
    if any(one.pooled for one in comparison.compared):
        say(POOLING, "dim")
    if place is not None:
        screen.print(Text(f"\npage: {place}"), soft_wrap=True)


def _settings_lines(comparison: Comparison) -> Lines:
    found = Lines(box=None, pad_edge=False, header_style="bold", title_justify="left")
    found.add_column("differs", overflow="fold")
    for label in comparison.labels:
        found.add_column(label, overflow="fold")
    order = sorted(comparison.settings, key=lambda row: row[0].startswith(("version", "host", "platform", "plan")))
    for name, values in order[:SHOWN]:
        found.add_row(name, *(Text(value if len(value) <= 60 else f"{value[:57]}…") for value in values))
    return found


def _effect_lines(comparison: Comparison, width: int) -> Lines:
    metric = comparison.metric.effect
    found = Lines(box=None, pad_edge=False, header_style="bold")
    found.add_column("comparison", overflow="fold")
    found.add_column("study", overflow="fold")
    for heading in (metric.unit or "effect", "95% interval", "less the first"):
        found.add_column(heading, justify="right", no_wrap=width >= 80)
    found.add_column("", min_width=9)
    for one in comparison.compared:
        for i, answer in enumerate(one.answers):
            difference, span, judged = _against(answer, comparison)
            size = [signed(answer.estimate, metric=metric), interval(answer.low, answer.high, metric)]
            less = f"{difference} ({span})" if span else difference
            word = Text(judged, style=COLOURS.get(judged, "dim"))
            found.add_row(one.name if i == 0 else "", comparison.labels[answer.study], *size, less, word)
        if one.pooled and np.isfinite(one.pooled.low):
            size = [signed(one.pooled.estimate, metric=metric), interval(one.pooled.low, one.pooled.high, metric)]
            spread = f"I² {one.pooled.share:.0%}"
            found.add_row("", Text("pooled", style="bold"), *(Text(part, style="bold") for part in size), "", spread)
    return found
