"""Verdicts on the rerun of a published study in a results folder, and their formatting in tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from resnetlab.analysis.results import Results
from resnetlab.reproduction.compare import Verdict, compare, departures
from resnetlab.reproduction.measured import Measured
from resnetlab.reproduction.published import PublishedStudy, published
from resnetlab.reproduction.studies import SCALED
from resnetlab.study import Study
from resnetlab.wording import plural

TEST, VALIDATION = "test accuracy, last epoch", "validation accuracy, last epoch"
SHORT = ("points", "%", "minutes", "epochs")  # units with two decimals


@dataclass(frozen=True)
class Reproduction:
    """A rerun compared with its text.

    name: of the published study, or of the folder if that is longer (`font-transfer-1205-fonts`). about: data, epochs,
    runs and device of the rerun.
    """

    name: str
    text: PublishedStudy
    numbers: list[Verdict]
    claims: list[Verdict]
    about: str


def reproduction_of(results: Results, facts: Mapping[str, Mapping[str, float]] | None = None) -> Reproduction | None:
    """Compare a folder with its text; None if its study is not a published one. facts: as in `Measured`."""
    text = text_of(results.study)
    if text is None:
        return None
    name, _, scale = results.study.name.partition(SCALED)
    numbers, claims = compare(text, Measured.of(results, facts), scaled=bool(scale))
    place = results.folder.url.rstrip("/").rpartition("/")[2]
    return Reproduction(place if place.startswith(f"{name}-") else name, text, numbers, claims, _about(results, text))


def text_of(study: Study) -> PublishedStudy | None:
    """The published study of which `study` is a rerun, shortened or not; None if there is none."""
    return published().studies.get(study.name.partition(SCALED)[0]) if study.arms else None


def _about(results: Results, text: PublishedStudy) -> str:
    runs, data = results.confirm, results.sweep.get("data") or {}
    configs = {row.arm: json.loads(row.config) for row in runs.dropna(subset=["config"]).itertuples(index=False)}
    used = max((config.get("data_fraction", 1.0) for config in configs.values()), default=1.0)
    share = f" ({used:.0%} of them used)" if used < 1 else ""
    epochs = sorted({int(n) for n in runs["epochs_allowed"].dropna()})
    complete = int((runs["status"] == "complete").sum())
    devices = sorted({f"{row.device}, {plural(int(row.threads), 'thread')} a run"
                      for row in runs.dropna(subset=["device", "threads"]).itertuples(index=False)})  # fmt: skip
    images = f"{data['train']:,} training{share} and {data['test']:,} test images" if "train" in data else ""
    ours = [
        departure
        for name, config in configs.items()
        if name in text.arms
        for departure in departures(config, text.arms[name].fixed | text.arms[name].chosen, "{} instead of {}")
    ]
    parts = [
        f"{data.get('name')}, {images}" if images else "",
        f"{' or '.join(map(str, epochs))} {'epoch' if epochs == [1] else 'epochs'}" if epochs else "",
        ", ".join(dict.fromkeys(ours)),
        f"{complete} of {len(runs)} runs complete",
        *devices,
    ]
    return "; ".join(part for part in parts if part)


def arms(row: Verdict) -> str:
    """`conv2`, or `resnet against conv2`."""
    return f"{row.arm} against {row.against}" if row.against else row.arm


def number(value: float, unit: str) -> str:
    """A value with the decimals that suit its unit; a dash for NaN."""
    if not np.isfinite(value):
        return "–"
    digits = 0 if unit == "parameters" or (unit not in SHORT and value == round(value)) else 2 if unit in SHORT else 3
    return f"{value:,.{digits}f}"


def spread(row: Verdict) -> str:
    """The interval, `76.90 … 79.31`; a dash if there is none."""
    return f"{number(row.low, row.unit)} … {number(row.high, row.unit)}" if np.isfinite(row.low) else "–"


def measured(row: Verdict) -> str:
    """The mean and, if there is an interval, half its width: `78.12 ± 1.20 %`."""
    if not np.isfinite(row.mean):
        return "–"
    half = (row.high - row.low) / 2
    width = f" ± {number(half, row.unit)}" if np.isfinite(half) and half > 0 else ""
    return f"{number(row.mean, row.unit)}{width} {row.unit}".rstrip()


def markdown(reruns: Sequence[Reproduction]) -> str:
    """One Markdown table of all reruns: the claims, and the main numbers of arms that have a run."""
    lines = [
        "| study | what the text says | printed | measured | n | verdict |",
        "|---|---|---|---|---|---|",
        *(_line(rerun, row, claim=True) for rerun in reruns for row in rerun.claims),
        *(_line(rerun, row, claim=False) for rerun in reruns for row in rerun.numbers if _is_main(rerun, row)),
    ]
    left = [f"{count} in {rerun.name}" for rerun in reruns if (count := _left_out(rerun))]
    notes = [
        "± is half of a 95% interval: of the difference of two means for a claim, of one further run for a number.",
        *(f"`{rerun.name}`: {rerun.about}." for rerun in reruns),
        *([f"Numbers left out here, which the folder's report has: {', '.join(left)}."] if left else []),
    ]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])


def _is_main(rerun: Reproduction, row: Verdict) -> bool:
    """True for a row that the table shows: the accuracy of arms with a run (on the validation split if the text prints
    no test accuracy), and the parameters of an arm (trainable ones if the text prints no other)."""
    known = {number.what for number in rerun.numbers}
    accuracy = TEST if TEST in known else VALIDATION
    size = "parameters" if "parameters" in known else "trainable parameters"
    return (bool(row.n) and row.what == accuracy) or (bool(np.isfinite(row.mean)) and row.what == size)


def _left_out(rerun: Reproduction) -> int:
    return sum(not _is_main(rerun, row) for row in rerun.numbers)


def _line(rerun: Reproduction, row: Verdict, claim: bool) -> str:
    why = "; ".join(row.reasons) or row.note
    statement = f"{row.printed} ({arms(row)})" if claim else f"{arms(row)}: {row.what}"
    cells = (
        rerun.name,
        statement,
        "" if claim else row.printed,
        measured(row),
        str(row.n),
        f"*{row.verdict}*{why and ': ' + why}",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
