"""`reproduce.py`: the results of a published study beside those of its rerun."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resnetlab.errors import BadRequest
from resnetlab.paths import user_path

if TYPE_CHECKING:
    from resnetlab.reproduction.verdict_tables import Held


def print_comparison(place: str) -> None:
    """Print the published numbers and claims of the study in a results folder beside the measured ones.

    Prints nothing where the folder's study is not a published one.
    """
    from rich.console import Console
    from rich.table import Table

    from resnetlab.reproduction import verdict_tables

    comparison, screen = _compare(place), Console()
    footnotes: dict[str, int] = {}
    if comparison is None:
        return
    for title, verdicts in (("Numbers", comparison.numbers), ("Claims", comparison.claims)):
        table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for heading in ("arm", "what", "printed", "measured", "interval", "n", "difference", "verdict"):
            table.add_column(heading, overflow="fold", no_wrap=heading in ("n", "measured", "difference"))
        for row in verdicts:
            notes = [*row.reasons, *([row.note] if row.note else [])]
            marks = [str(footnotes.setdefault(note, len(footnotes) + 1)) for note in notes]
            table.add_row(
                verdict_tables.arms(row),
                row.what if title == "Numbers" else row.printed,
                row.printed if title == "Numbers" else "",
                verdict_tables.number(row.mean, row.unit),
                verdict_tables.spread(row),
                str(row.n),
                verdict_tables.number(row.difference, row.unit),
                row.verdict + (f" ({', '.join(marks)})" if marks else ""),
            )
        screen.print(table, "")
    for note, number in footnotes.items():
        screen.print(f"({number}) {note}", highlight=False)


def comparison_table(place: Path) -> str:
    """A Markdown table that compares every rerun of a published study among the results folders in `place`.

    Raises BadRequest where `place` is not a folder.
    """
    from resnetlab.reproduction import verdict_tables

    if not user_path(place, "--table").is_dir():
        raise BadRequest(f"--table {place}: not a folder")
    comparisons = [_compare(str(file.parent)) for file in sorted(place.glob("*/study.json"))]
    reruns = [comparison for comparison in comparisons if comparison is not None]
    return verdict_tables.markdown(reruns) if reruns else "No folder here has a rerun of a published study."


def _compare(place: str) -> Held | None:
    """With the parameter count of each arm's network, for the published images and classes."""
    from resnetlab.analysis.results import Results
    from resnetlab.driver.dry_run import arm_facts
    from resnetlab.reproduction import verdict_tables

    results = Results.open(place)
    text = verdict_tables.text_of(results.study)
    return verdict_tables.held(results, arm_facts(results.study, text.data.shape, text.data.classes)) if text else None
