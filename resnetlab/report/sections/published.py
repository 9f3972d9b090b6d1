"""What a published text printed, beside what the runs of this folder measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from resnetlab.report.findings import Findings
from resnetlab.report.formatting import DASH, listed, settings
from resnetlab.report.layout import Section, Table
from resnetlab.reproduction import verdict_tables
from resnetlab.reproduction.compare import Verdict
from resnetlab.study.metrics import MINUS


def section(findings: Findings) -> Section | None:
    """Claims and numbers with a verdict each, and what in each arm is the text's and what is our choice."""
    found = findings.published
    if found is None:
        return None
    text = [
        f"{found.text.authors}: {found.text.title}.",
        f"Claims: {_counts(found.claims)}. Numbers: {_counts(found.numbers)}.",
        "A printed number is that of one run, so it is compared with the interval in which one further run like these "
        "would fall with 95% probability, widened by its rounding. A claim is about means: it is compared with the 95% "
        "interval of their difference.",
    ]
    arms = Table(
        ["Arm", "What the text fixes", "Our choice"],
        ["name", "long", "long"],
        [[name, arm.text, arm.ours] for name, arm in found.text.arms.items()]
        + [
            [
                name,
                "not in the text",
                settings({key: changes[key] for key in changes if key != "data"} | changes.get("data", {})),
            ]
            for name, changes in findings.results.study.arms.items()
            if name not in found.text.arms
        ],
        title="What the text fixes, and what is our choice",
        folded=True,
    )
    notes = Notes()
    tables = [*_claims(found.claims, notes), *_numbers(found.numbers, notes), *notes.table(), arms]
    return Section("published", "Published against measured", text, tables)


class Notes:
    """Reasons and choices, each said once below the tables and referred to by its number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, row: Verdict) -> str:
        """`1, 3`"""
        said = filter(None, (*row.reasons, *(row.note or "").split("; ")))
        return ", ".join(str(self._numbers.setdefault(text, len(self._numbers) + 1)) for text in said)

    def table(self) -> list[Table]:
        rows = [[number, text] for text, number in self._numbers.items()]
        return [Table(["Note", "Why, and what is ours"], ["number", "long"], rows, title="Notes")] if rows else []


def in_words(findings: Findings) -> str:
    """How the published text fared, in a sentence; empty where there is none."""
    found = findings.published
    return (
        f"Of what the text printed: claims, {_counts(found.claims)}; numbers, {_counts(found.numbers)}."
        if found
        else ""
    )


def _counts(verdicts: Sequence[Verdict]) -> str:
    return listed([f"{n} {verdict}" for verdict, n in Counter(row.verdict for row in verdicts).most_common()]) or "none"


def _claims(verdicts: Sequence[Verdict], notes: Notes) -> list[Table]:
    rows = [
        [row.printed, verdict_tables.arms(row), row.verdict, _measured(row), _minus(verdict_tables.spread(row)), row.n,
         notes.of(row), row.where]
        for row in verdicts
    ]  # fmt: skip
    headings = ["Claim", "Arms", "Verdict", "Difference measured", "95% interval", "Runs", "Notes", "Where"]
    kinds = ["long", "name", "text", "number", "number", "number", "text", "text"]
    return [Table(headings, kinds, rows, title="Claims")] if rows else []


def _numbers(verdicts: Sequence[Verdict], notes: Notes) -> list[Table]:
    rows = [
        [
            verdict_tables.arms(row),
            row.what,
            row.printed,
            *map(_minus, (verdict_tables.number(row.mean, row.unit), verdict_tables.spread(row))),
            row.n,
            _minus(verdict_tables.number(row.difference, row.unit)),
            row.verdict,
            notes.of(row),
            row.where,
        ]
        for row in verdicts
    ]
    headings = ["Arm", "What", "Printed", "Measured", "95% interval, one further run", "Runs", "Difference", "Verdict",
                "Notes", "Where"]  # fmt: skip
    kinds = ["name", "text", *["number"] * 5, "text", "text", "text"]
    foot = "Measured, interval and difference (measured mean less printed) are in the unit of the printed number."
    return [Table(headings, kinds, rows, foot, "Numbers")] if rows else []


def _measured(row: Verdict) -> str:
    text = verdict_tables.number(row.mean, row.unit)
    return text if text == DASH else f"{_minus(text)} {row.unit}".rstrip()


def _minus(text: str) -> str:
    return text.replace("-", MINUS)
