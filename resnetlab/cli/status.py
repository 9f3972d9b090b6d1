"""`resnetlab status`: print progress and conclusions of a sweep, running or finished, from its results folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnetlab import console
from resnetlab.cli import options
from resnetlab.cli.exit_codes import report_errors
from resnetlab.commands import short

if TYPE_CHECKING:
    from resnetlab.report.findings import Findings
    from resnetlab.report.terminal import Told


EXAMPLE = "results/default"


def main(place: options.Results, json: options.Json = False) -> None:
    """Show the progress and the conclusions of a sweep, running or finished.

    Works on any machine that can read the results folder, and writes nothing. Needs neither torch nor Ray.
    """
    with report_errors():
        print_status(place, json)


def print_status(place: str, as_json: bool = False) -> None:
    """Print the progress and the conclusions of the results folder at `place` (a path or URL); writes nothing."""
    from resnetlab.analysis.results import Results
    from resnetlab.report.findings import Findings

    print_summary(Findings(Results.open(place)), place, as_json)


def print_summary(findings: Findings, place: str, as_json: bool, progress: bool = True) -> Told:
    """Print the summary of the folder at `place`, as text or one JSON object, and return it.

    progress: whether the text begins with the progress of the sweep.
    """
    from resnetlab.report import terminal

    summary = terminal.told(findings, short(place))
    if as_json:
        console.print_json(summary.as_json())
        return summary
    terminal.show(summary, terminal.screen(), progress)
    return summary
