"""Rerun a published study and compare its results with the published ones. Without STUDY: list the studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnetlab.cli import options
from resnetlab.cli.ablation import run
from resnetlab.cli.dry_run import dry_run
from resnetlab.cli.exit_codes import EXIT_CODES, report_errors, run_app
from resnetlab.cli.reproduce import comparison_table
from resnetlab.cli.requested import parse_settings, run_options
from resnetlab.reproduction.studies import listed, study_of

STUDIES = Path(__file__).resolve().parent / "studies" / "published"
EXAMPLE = "Example: python sweeps/reproduce.py font-transfer --scale 0.1 --dry-run"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__, epilog=f"{EXAMPLE}\n\n{EXIT_CODES}")
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
    storage: options.Storage = "results",
    weights: options.Weights = None,
    retry_failed: options.RetryFailed = False,
    settings: options.Set = None,
    table: Annotated[
        Path | None, typer.Option(help="print a Markdown table of all reruns among the results in this folder")
    ] = None,
    json: options.Json = False,
    only_plan: options.DryRun = False,
) -> None:
    with report_errors():
        if table is not None:
            options.refuse_beside(context, "--table")
            print(comparison_table(table))
            return
        if study is None:
            options.refuse_beside(context, "without STUDY, the list")
            print("\n".join(listed(STUDIES)))
            return
        requested = study_of(STUDIES, study, seeds, scale, data, parse_settings(settings))
        execution = run_options(storage, address, weights=weights, retry_failed=retry_failed)
        if only_plan:
            options.refuse_beside(context, "--dry-run", "json")
            dry_run(requested, execution)
        else:
            run(requested, execution, json, compare_published=not json)


if __name__ == "__main__":
    run_app(app)
