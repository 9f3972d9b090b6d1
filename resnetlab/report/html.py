"""The page: sections, tables and figures in one file that loads nothing, from nowhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from resnetlab import __version__
from resnetlab.analysis.curves import WORDS, Counts
from resnetlab.analysis.results import Results
from resnetlab.analysis.sharing import shared_times
from resnetlab.records import Status
from resnetlab.report import arms, bookkeeping, claimed, explored, printed, sections
from resnetlab.report.answer import answer
from resnetlab.report.figures import Drawing
from resnetlab.report.sections import Section


def page(results: Results, effects: pd.DataFrame, figures: Mapping[str, tuple[Drawing, str]]) -> str:
    """The report as HTML. figures: by name, each with its SVG as an element. All text from the tables is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["markup"] = Markup  # for our own SVG only
    script = _part("report.js")
    return environment.get_template("report.html").render(
        study=results.study,
        answer=answer(results, effects),
        sections=_sections(results, effects),
        figures=figures,
        notes=_notes(results),
        meta=bookkeeping.meta(results),
        trials=bookkeeping.trial_data(results),
        trials_foot=Counts.of(results.trials).words(""),
        statuses=[(str(status), WORDS[status]) for status in Status],
        style=Markup(_part("report.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=__version__,
    )


def _part(name: str) -> str:
    return (files("resnetlab.report") / name).read_text(encoding="utf-8")


def _sections(results: Results, effects: pd.DataFrame) -> list[Section]:
    """In the order of reading; those for which there is nothing are left out."""
    searched = not results.study.arms
    found: list[Section | None] = [
        claimed.declared(results),
        sections.incumbent(results),
        sections.confirmed(results, effects),
        printed.against_print(results),
        *_of_arms(results),
        sections.hypotheses(results),
        explored.believed(results, effects),
        explored.important(results),
        claimed.fair(results),
        _figures("curves", "Learning curves", ["learning-curves", "confirm-curves"], hypothesis=False)
        if searched
        else None,
        _figures("trade", "Accuracy against size and time", ["accuracy-parameters", "accuracy-time"]),
        sections.stopping(results),
        _figures("search", "How the search went", ["search-trials", "search-epochs"]),
        bookkeeping.plan(results),
        bookkeeping.costs(results),
        bookkeeping.provenance(results),
    ]
    return [section for section in found if section is not None]


def _of_arms(results: Results) -> list[Section | None]:
    """What the arms did, beside the effects."""
    named = bool(results.study.arms)
    curves = _figures("curves", "Learning curves", ["arm-curves"], hypothesis=False) if named else None
    return [curves, arms.transfer(results), arms.per_class(results), arms.pairs(results), arms.voting(results)]


def _figures(key: str, title: str, names: list[str], hypothesis: bool = True) -> Section:
    return Section(key, title, figures=names, hypothesis=hypothesis)


def _notes(results: Results) -> list[str]:
    """What a reader must know before the answer."""
    notes: list[Any] = list(results.notes)
    unended = Counts.of(results.trials)
    running = sum(n for status, n in unended.by_status.items() if not Status(status).ended)
    if running:
        notes.append(
            f"The sweep had not ended when this report was made: {running} trials were waiting, running or interrupted."
        )
    if shared := shared_times(results.trials):
        notes.append(f"Times say nothing about speed here, and are no objective: {shared}.")
    if len(results.other_confirm):
        notes.append(
            f"{len(results.other_confirm)} runs belong to another plan than plan.json: they are used in nothing."
        )
    if results.missing:
        notes.append(f"Absent tables: {', '.join(results.missing)}. What they would show is left out.")
    return notes
