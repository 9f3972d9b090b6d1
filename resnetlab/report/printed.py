"""What a published text printed, beside what the runs of this folder measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from resnetlab.analysis import printed
from resnetlab.analysis.published import Verdict
from resnetlab.analysis.results import Results
from resnetlab.report.sections import Section, Table
from resnetlab.report.words import listed


def against_print(results: Results) -> Section | None:
    """Claims and numbers with a verdict each, and what in each arm is the text's and what is our choice."""
    found = printed.held(results)
    if found is None:
        return None
    text = [
        f"{found.text.authors}: {found.text.title}.",
        f"Claims: {_counts(found.claims)}. Numbers: {_counts(found.numbers)}.",
        "A printed number is that of one run, so it is held against the interval in which one further run like these "
        "would fall with 95% probability, widened by its rounding. A claim is about means: it is held against the 95% "
        "interval of their difference.",
    ]
    arms = Table(
        ["Arm", "What the text fixes", "Our choice"],
        ["name", "long", "long"],
        [[name, arm.text, arm.ours] for name, arm in found.text.arms.items()],
        title="What the text fixes, and what is our choice",
        folded=True,
    )
    claims, numbers = _claims(found.claims), _numbers(found.numbers)
    return Section("published", "Published against measured", text, [*claims, *numbers, arms])


def _counts(verdicts: Sequence[Verdict]) -> str:
    return listed([f"{n} {verdict}" for verdict, n in Counter(row.verdict for row in verdicts).most_common()]) or "none"


def _claims(verdicts: Sequence[Verdict]) -> list[Table]:
    rows = [
        [row.printed, printed.arms(row), row.verdict, _unit(row, printed.number(row.mean, row.unit)),
         printed.spread(row), row.n, _why(row), row.where]
        for row in verdicts
    ]  # fmt: skip
    headings = [
        "Claim",
        "Arms",
        "Verdict",
        "Difference measured",
        "95% interval",
        "Runs",
        "Why, and what is ours",
        "Where",
    ]
    kinds = ["long", "name", "text", "number", "number", "number", "long", "text"]
    return [Table(headings, kinds, rows, title="Claims")] if rows else []


def _numbers(verdicts: Sequence[Verdict]) -> list[Table]:
    rows = [
        [printed.arms(row), row.what, row.printed, _unit(row, printed.number(row.mean, row.unit)), printed.spread(row),
         row.n, printed.number(row.difference, row.unit), row.verdict, _why(row), row.where]
        for row in verdicts
    ]  # fmt: skip
    headings = ["Arm", "What", "Printed", "Measured", "95% interval, one further run", "Runs", "Difference", "Verdict",
                "Why, and notes", "Where"]  # fmt: skip
    kinds = ["name", "text", *["number"] * 5, "text", "long", "text"]
    foot = "Difference: measured mean less printed, in the unit of the printed number."
    return [Table(headings, kinds, rows, foot, "Numbers")] if rows else []


def _unit(row: Verdict, text: str) -> str:
    return text if text == "–" else f"{text} {row.unit}".rstrip()


def _why(row: Verdict) -> str:
    return "; ".join(part for part in (*row.reasons, row.note) if part)
