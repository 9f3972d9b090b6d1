"""`resnetlab reproduce`: rerun a published study, and compare its results with the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnetlab import console
from resnetlab.cli import options
from resnetlab.cli.dry_run import dry_run
from resnetlab.cli.exit_codes import report_errors
from resnetlab.cli.requested import parse_settings, run_options
from resnetlab.cli.run_and_report import answer_if_finished, run
from resnetlab.errors import BadRequest
from resnetlab.paths import user_path
from resnetlab.reproduction.studies import listed, study_of
from resnetlab.study.included import PUBLISHED

if TYPE_CHECKING:
    from resnetlab.reproduction.verdict_tables import Reproduction


EXAMPLE = "font-transfer --scale 0.1 --dry-run"


def main(
    context: typer.Context,
    study: Annotated[str | None, typer.Argument(metavar="STUDY", help="name of a published study")] = None,
    seeds: Annotated[int | None, typer.Option(help="number of runs of each arm", show_default="3")] = None,
    scale: Annotated[
        float, typer.Option(help="fraction of the epochs and training images to use, for a quick check")
    ] = 1.0,
    data: Annotated[
        str | None, typer.Option(help="data: an archive, a folder of images by class, or a folder of fonts")
    ] = None,
    address: options.Address = None,
    slots: options.Slots = None,
    storage: options.Storage = "results",
    weights: options.Weights = None,
    retry_failed: options.RetryFailed = False,
    extend: options.Extend = False,
    settings: options.Set = None,
    table: Annotated[
        Path | None, typer.Option(help="print a Markdown table of all reruns among the results in this folder")
    ] = None,
    json: options.Json = False,
    only_plan: options.DryRun = False,
) -> None:
    """Rerun a published study and compare its results with the published ones. Without STUDY: list the studies."""
    with report_errors():
        if table is not None:
            options.refuse_beside(context, "--table")
            print(comparison_table(table))
            return
        if study is None:
            options.refuse_beside(context, "without STUDY, the list")
            print("\n".join(listed(PUBLISHED)))
            return
        requested = study_of(PUBLISHED, study, seeds, scale, data, parse_settings(settings))
        then = None if json else print_comparison
        more = only_plan or weights or retry_failed
        if not more and answer_if_finished(requested, storage, json, then=then):
            return
        execution = run_options(
            storage, address, weights=weights, retry_failed=retry_failed, slots=slots, extend=extend
        )
        if only_plan:
            options.refuse_beside(context, "--dry-run", "json")
            dry_run(requested, execution)
        else:
            run(requested, execution, json, then=then)


def print_comparison(place: str) -> None:
    """Print the published numbers and claims of the study in a results folder beside the measured ones.

    Prints nothing if the folder's study is not a published one.
    """
    from rich.table import Table

    from resnetlab.reproduction import verdict_tables

    comparison, screen = _compare(place), console.screen()
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

    Raises BadRequest if `place` is not a folder.
    """
    from resnetlab.reproduction import verdict_tables

    if not user_path(place, "--table").is_dir():
        raise BadRequest(f"--table {place}: not a folder")
    comparisons = [_compare(str(file.parent)) for file in sorted(place.glob("*/study.json"))]
    reruns = [comparison for comparison in comparisons if comparison is not None]
    return verdict_tables.markdown(reruns) if reruns else "No folder here has a rerun of a published study."


def _compare(place: str) -> Reproduction | None:
    """Compare a results folder with its published text; None if there is none."""
    from resnetlab.analysis.results import Results
    from resnetlab.driver.dry_run import arm_facts
    from resnetlab.reproduction import verdict_tables

    results = Results.open(place)
    text = verdict_tables.text_of(results.study)
    if text is None:
        return None
    return verdict_tables.reproduction_of(results, arm_facts(results.study, text.data.shape, text.data.classes))
