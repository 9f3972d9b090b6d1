"""Report on runs that were made elsewhere: effects table, page, and lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from rich.console import Console
from rich.text import Text

from resnetlab import console
from resnetlab.analysis.confirm.estimands import INTERACTION
from resnetlab.analysis.confirm.power import block_correlation, noise_floor
from resnetlab.analysis.foreign.comparison import Comparison
from resnetlab.analysis.foreign.refusals import UNKNOWN
from resnetlab.errors import FolderRefused
from resnetlab.report.answer import Answer, in_words, notes, ranked, statements
from resnetlab.report.build import drawn, write_files
from resnetlab.report.formatting import asked, level, missing, signed
from resnetlab.report.layout import FOLDED, Section, Table
from resnetlab.report.terminal import KEPT, conclusions, left_out
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.schema import effects_schema
from resnetlab.wording import plural


def write(comparison: Comparison, folder: ResultsFolder) -> Path | str:
    """Write effects.parquet, report.html and the figures; returns the report's path or URL.

    Raises BadRequest if the folder cannot be written. `check_folder`, to be called first, refuses a study's folder.
    """
    # Imported here because they take seconds, and only after bad requests were refused.
    from resnetlab.report.figures.effects import of_effects
    from resnetlab.report.figures.interactions import of_interactions

    found, delta, name = comparison.effects, comparison.layout.delta, comparison.request.metric
    foot = counts(comparison)
    drawings = of_effects(found, delta, foot, name, comparison.effect)
    drawings += of_interactions(found, comparison.runs, foot, name, comparison.metric)
    figures, files = drawn(drawings)
    files["report.html"] = page(comparison, figures).encode("utf-8", console.ERRORS)
    table = pa.Table.from_pandas(found, effects_schema(name, f"as {name}"), preserve_index=False)
    return write_files(folder, table, files, [] if "interactions" in figures else ["interactions"], "--output")


def check_folder(folder: ResultsFolder) -> None:
    """Raise FolderRefused if the folder holds the results of a study, whose effects would be overwritten."""
    if folder.read("study.json") is not None:
        raise FolderRefused(f"--output {folder.url}: holds the results of a study: name another folder")


def counts(comparison: Comparison) -> str:
    """How many runs were compared: `24 runs: 8 combinations of kernel and depth, 3 seeds each`."""
    arms, seeds = comparison.runs.values.shape
    factors = " and ".join(filter(None, [", ".join(comparison.request.factors[:-1]), comparison.request.factors[-1]]))
    return f"{plural(arms * seeds, 'run')}: {plural(arms, 'combination')} of {factors}, {plural(seeds, 'seed')} each"


def lead(comparison: Comparison) -> str:
    """The sentence that leads the report: how many effects were found, in which runs."""
    effects = comparison.effects
    found = int((effects["verdict"] == "effect").sum())
    share = {0: "None", 1: "One"}.get(found, str(found))
    better = f"{comparison.request.metric}: {comparison.metric.better} is better."
    return (
        f"{share} of {plural(len(effects), 'comparison')} {'is an effect' if found < 2 else 'are effects'}; "
        f"{counts(comparison)}. {better}"
    )


def trusted(comparison: Comparison) -> list[str]:
    """Sentences on what must be taken on trust: what no table can show, and what this one does not."""
    return [
        f"Taken on trust, because no table can show it: {'; '.join(UNKNOWN)}.",
        *(f"{note[0].upper()}{note[1:]}." for note in comparison.notes),
    ]


def page(comparison: Comparison, figures: Mapping[str, Any]) -> str:
    """The report as HTML. All text from the table is escaped."""
    from resnetlab.report.page import render

    effects, delta = comparison.effects, comparison.layout.delta_text
    common, own = notes(effects)
    rows = list(ranked(effects.assign(note=own)).itertuples(index=False))
    words = in_words(effects, delta)
    said = Answer(words, lead(comparison), "", common, *statements(rows, delta, comparison.effect))
    return render(
        kind="Analysis of runs made elsewhere ·",
        name=comparison.place,
        title=f"What changes {comparison.request.metric}",
        answer=said,
        contents={"Compared": _sections(comparison), "The record": [_record(comparison)]},
        figures=figures,
        notes=trusted(comparison)[:1],
        meta=counts(comparison),
        source="this table of runs alone",
    )


def _sections(comparison: Comparison) -> list[Section]:
    from resnetlab.report.sections.effects import of_comparisons

    request, effects = comparison.request, comparison.effects
    common, own = notes(effects)
    effects = effects.assign(note=own, declared="")
    small = (
        f"; effects within ±{request.delta:g} count as too small to matter"
        if request.delta
        else ("; no smallest effect of interest was given (--delta), so nothing is said to make no difference")
    )
    text = f"Differences of mean {request.metric}. Family-wise error rate {request.alpha:g}{small}."
    between = effects["estimand"] == INTERACTION
    tables = [
        of_comparisons(effects[which], counts(comparison), common, comparison.effect) for which in (~between, between)
    ]
    noise = _noise(comparison)
    made = [Section("effects", "Effects", [text], [*tables[0], *([noise] if noise else []), _arms(comparison)])]
    if between.any():
        why = "How much the effect of one factor changes with the level of the other: a difference of differences."
        made.append(Section("interactions", "Interactions", [why], tables[1], ["interactions"]))
    return made


def _arms(comparison: Comparison) -> Table:
    metric = comparison.metric
    rows = [
        [
            *(level(value) for value in arm.values.values()),
            row.n,
            metric.show(row.mean),
            "–" if missing(row.low) else f"{metric.show(row.low)} … {metric.show(row.high)}",
            metric.show(row.sd),
        ]
        for arm, row in zip(comparison.layout.arms, comparison.performance.itertuples(index=False), strict=True)
    ]
    factors = comparison.request.factors
    headings = [*factors, "Runs", f"Mean {metric.label}", "95% interval", "Seed-to-seed sd"]
    kinds = ["name"] * len(factors) + ["number"] * 4
    foot = f"{counts(comparison)}."
    return Table(headings, kinds, rows, foot, "The combinations", folded=len(rows) > FOLDED).said_once("Runs")


def _noise(comparison: Comparison) -> Table | None:
    """Seed noise, and the gain of shared seeds; None if the runs do not differ."""
    values = comparison.runs.values
    floor, shared = noise_floor(values), block_correlation(values)
    if not floor.sd > 0:
        return None
    sd, low, high = (signed(value, metric=comparison.metric).lstrip("+") for value in (floor.sd, floor.low, floor.high))
    rows = [
        ["Noise floor", f"seeds alone spread by {sd} (standard deviation over {floor.runs} runs of {floor.arms} "
                        f"combinations, 95% interval {low} … {high})"],
    ]  # fmt: skip
    if not missing(shared.correlation):
        rows.append(
            ["Pairing gain", f"runs of one seed correlate {shared.correlation:+.2f} between combinations (95% interval "
                             f"{shared.low:+.2f} … {shared.high:+.2f}); the intervals here assume none"]
        )  # fmt: skip
    return Table(["What", "How much"], ["name", "long"], rows, title="Noise")


def _record(comparison: Comparison) -> Section:
    request = comparison.request
    reference = ", ".join(f"{name} {level(value)}" for name, value in comparison.layout.incumbent.items())
    rows = [
        ["Runs", comparison.place],
        ["Factors", ", ".join(request.factors)],
        ["Reference", reference],
        ["Metric", f"{request.metric}, {comparison.metric.better} is better"],
        ["Seed", request.seed],
        ["Budget", f"{request.budget}, the same in all runs" if request.budget else "–"],
        ["Ignored", ", ".join(request.ignored) or "–"],
        ["Design", comparison.layout.design],
    ]
    return Section("record", "What was asked", trusted(comparison), [Table(["What", "Value"], ["name", "long"], rows)])


def as_json(comparison: Comparison, report: Path | str | None) -> dict[str, Any]:
    """The comparison for `--json`; estimates in the metric's own unit."""
    rows = ranked(comparison.effects)[[*KEPT]].astype(object)
    return {
        "runs": comparison.place,
        "metric": comparison.request.metric,
        "better": comparison.metric.better,
        "design": comparison.layout.design,
        "reference": {name: level(value) for name, value in comparison.layout.incumbent.items()},
        "answer": lead(comparison),
        "effects": rows.where(pd.notna(rows), None).to_dict("records"),
        "trusted": trusted(comparison),
        "report": None if report is None else str(report),
    }


def show(comparison: Comparison, screen: Console, report: Path | str | None) -> None:
    """Print the conclusions, as `resnetlab status` does for a sweep."""

    def say(text: str, style: str = "") -> None:
        screen.print(Text(text, style=style), soft_wrap=not screen.is_terminal)

    say(lead(comparison))
    found = ranked(comparison.effects)
    table = conclusions(found, [""] * len(found), screen.width, comparison.effect)
    if table is not None:
        screen.print(table)
    if more := left_out(found):
        say(f"and {more} more in the report" if report else f"and {more} more (--output writes them all)", "dim")
    lost = found[found["estimate"].notna() & found["low"].isna()]
    for row in lost.itertuples(index=False):
        say(f"{asked(row)}: {row.note}", "dim")
    for line in trusted(comparison):
        say(line, "dim")
    if report is not None:
        screen.print(Text(f"\nreport: {report}"), soft_wrap=True)
