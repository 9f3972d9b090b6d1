"""The page: sections, tables and figures in one file that loads nothing, from nowhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from importlib.resources import files
from typing import Any, Protocol

import jinja2
import pandas as pd
from markupsafe import Markup

from resnetlab import __version__
from resnetlab.analysis.results import Results
from resnetlab.analysis.shared_times import shared_times
from resnetlab.analysis.trial_outcomes import WORDS, Counts
from resnetlab.report.answer import answer
from resnetlab.report.figures.catalog import of_section
from resnetlab.report.findings import Findings
from resnetlab.report.layout import Section
from resnetlab.report.rendering import Drawing
from resnetlab.report.sections import (
    accuracy_cost,
    best_arm,
    costs,
    data,
    declared_hypotheses,
    effects,
    exploration,
    failures,
    fairness,
    importance,
    incumbent,
    interactions,
    learning_curves,
    mistakes,
    naive_analysis,
    pairs,
    per_class,
    plan,
    provenance,
    published,
    search_progress,
    stopping,
    transfer,
    trial_table,
    voting,
)
from resnetlab.study.records import Phase, Status
from resnetlab.wording import plural


class SectionModule(Protocol):
    """A module of `report.sections`: its section, None where the findings have nothing to show in it."""

    def section(self, findings: Findings) -> Section | None: ...


PARTS: dict[str, tuple[SectionModule, ...]] = {
    "Confirmed": (declared_hypotheses, effects, interactions, best_arm, incumbent, fairness),
    "Explored": (exploration, naive_analysis, importance),
    "What the runs did": (
        transfer,
        accuracy_cost,
        learning_curves,
        stopping,
        search_progress,
        per_class,
        mistakes,
        pairs,
        voting,
        published,
    ),
    "The record": (data, failures, costs, plan, provenance),
}


def page(findings: Findings, figures: Mapping[str, tuple[Drawing, str]]) -> str:
    """The report as HTML. figures: by name, each with its SVG as an element. All text from the tables is escaped."""
    results = findings.results
    return render(
        kind="Ablation report · study",
        name=results.study.name,
        title=results.study.title or results.study.name,
        question=results.study.question,
        answer=answer(findings),
        published=published.in_words(findings),
        contents=_contents(findings),
        figures=figures,
        notes=_notes(findings),
        meta=_meta(results),
        trials=trial_table.trial_data(results),
        trials_foot=Counts.of(results.trials).words(""),
        phases=_present(results.trials["phase"], Phase),
        statuses=[(status, WORDS[Status(status)]) for status in _present(results.trials["status"], Status)],
        source="the tables of this results folder alone",
    )


def render(**parts: Any) -> str:
    """The page of these parts, as report.html names them; the table of all trials only where there are `trials`."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["markup"] = Markup  # for our own SVG only
    script = _part("report.js")
    return environment.get_template("report.html").render(
        style=Markup(_part("report.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=__version__,
        **{"trials": None, "question": "", "published": ""} | parts,
    )


def _present(column: pd.Series, kinds: type[StrEnum]) -> list[str]:
    """The values of `column`, in the order in which `kinds` has them."""
    return [str(kind) for kind in kinds if (column == kind).any()]


def _part(name: str) -> str:
    return (files("resnetlab.report") / name).read_text(encoding="utf-8")


def _contents(findings: Findings) -> dict[str, list[Section]]:
    """The sections in the order of reading, by the part that they belong to; those that have nothing are left out."""
    made = {part: [module.section(findings) for module in modules] for part, modules in PARTS.items()}
    return {
        part: [replace(one, figures=of_section(one.key, one.figures)) for one in sections if one is not None]
        for part, sections in made.items()
    }


def _meta(results: Results) -> str:
    """One line for the head of the page: trials, data, date."""
    ended = str(results.sweep.get("ended") or "")[:10]
    dataset = results.study.dataset
    of = results.study.experiment if dataset is None else f"{dataset.name} data"
    parts = [Counts.of(results.trials).words(""), of, ended and f"ended {ended}"]
    return " · ".join(filter(None, parts))


def _notes(findings: Findings) -> list[str]:
    """What a reader must know before the answer."""
    results = findings.results
    notes: list[Any] = list(results.notes)
    unended = Counts.of(results.trials)
    running = sum(n for status, n in unended.by_status.items() if not Status(status).ended)
    if running:
        notes.append(
            f"The sweep had not ended when this report was made: {running} trials were waiting, running or interrupted."
        )
    if lost := [one for one in findings.failures if one.status != Status.DIVERGED]:
        count = sum(one.trials for one in lost)
        most = lost[0].cause.partition("; ")[0]
        notes.append(f"{plural(count, 'trial')} failed, most often: {most} (What failed, below).")
    if shared := shared_times(results.trials):
        notes.append(f"Times say nothing about speed here, and are no objective: {shared}.")
    if doubts := data.doubts(findings):
        notes.append(f"The data leaves room for doubt: {'; '.join(doubts)} (The data, below).")
    shown = results.other_confirm["plan_hash"].isin(findings.earlier["plan_hash"])
    if number := int(shown.sum()):
        notes.append(f"{number} runs belong to plans that ended before the one in force: see Earlier plans, below.")
    if others := int((~shown).sum()):
        notes.append(f"{others} runs belong to another plan than plan.json: they are not analysed.")
    if results.missing:
        notes.append(f"Absent tables: {', '.join(results.missing)}. What they would show is left out.")
    if not results.sweep:
        notes.append("Absent: sweep.json. Which command, versions and machine these results come from is not known.")
    if results.plan is None and others:
        notes.append("Absent: plan.json. Without the plan its confirm runs answer no question.")
    return notes
