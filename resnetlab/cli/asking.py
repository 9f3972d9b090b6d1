"""Ask the driver of a results folder for something: the common part of `pause`, `resume` and `stop`."""

from __future__ import annotations

from resnetlab.cli.exit_codes import report_errors
from resnetlab.storage import control
from resnetlab.storage.results_folder import ResultsFolder


def ask(place: str, what: control.What, then: str) -> None:
    """Ask the driver of the folder at `place` (a path or URL), and print which one was asked. then: what it will do."""
    with report_errors():
        driver = control.ask(ResultsFolder.at(place, "RESULTS"), what)
        print(f"asked the sweep on host {driver.host} (pid {driver.pid}) to {what}: {then}")
