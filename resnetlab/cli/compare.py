"""`resnetlab compare`: results folders of one study side by side, and their effects pooled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnetlab import console
from resnetlab.cli import options
from resnetlab.cli.exit_codes import report_errors
from resnetlab.paths import writable_folder

EXAMPLE = "results/here/default results/there/default --output compared"


def main(
    places: Annotated[
        list[str], typer.Argument(metavar="RESULTS...", help="two results folders or more, or their URLs")
    ],
    output: Annotated[
        Path | None, typer.Option(help="folder for compare.html, the forest plot and compared.csv", show_default="none")
    ] = None,
    json: options.Json = False,
) -> None:
    """Compare the results folders of one study: settings that differ, effects side by side, the pooled effect.

    For one study on two machines, with two versions, on two datasets or dates. Needs neither torch nor Ray.
    """
    with report_errors():
        from resnetlab.comparison import shown
        from resnetlab.comparison.folders import Comparison
        from resnetlab.report.terminal import screen
        from resnetlab.storage.results_folder import ResultsFolder

        comparison = Comparison.of(places)
        page = None
        if output is not None:
            page = shown.write(comparison, ResultsFolder.at(writable_folder(output, "--output"), "--output"))
        if json:
            console.print_json(shown.as_json(comparison, page))
            return
        shown.show(comparison, screen(), page)
