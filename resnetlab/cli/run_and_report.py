"""Run or continue a study, and write its report: the common part of `sweep`, `reproduce` and `resnetlab.run`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from resnetlab import console
from resnetlab.cli import status
from resnetlab.errors import TrialsFailed
from resnetlab.wording import plural

if TYPE_CHECKING:
    from resnetlab.driver.run import Options
    from resnetlab.report.findings import Findings
    from resnetlab.report.terminal import Told
    from resnetlab.storage.results_folder import ResultsFolder
    from resnetlab.study import Study


def run(
    study: Study,
    options: Options,
    as_json: bool = False,
    trackers: Mapping[str, Any] | None = None,
    then: Callable[[str], None] | None = None,
) -> Findings:
    """Run or continue `study`, then write its report and print the conclusions, even if every trial failed.

    Args:
        study: what to run.
        options: how to run it.
        as_json: print one JSON object to stdout, and everything else to stderr.
        trackers: the options of the tools that follow the sweep: arguments of `tracking.chosen`.
        then: called with the place of the results folder once the report is written.

    Returns the findings of the report.

    Raises:
        TrialsFailed: no trial has a result, or a planned comparison could not be made.
        ResnetlabError: as `driver.run.run_study`.
    """
    from resnetlab.driver.run import results_folder, run_study
    from resnetlab.tracking import chosen
    from resnetlab.tracking.feed import live

    folder = results_folder(study, options.storage)
    followers = chosen(study.name, **trackers) if trackers else []
    failed: TrialsFailed | None = None
    with console.people_on_stderr(as_json), live(folder, followers, print, trackers or {}):
        try:
            run_study(study, options)
        except TrialsFailed as error:
            failed = error
    findings, summary = _write_report(folder, as_json)
    if then is not None:
        then(folder.place)
    if failed is not None:
        raise failed
    if summary.unmade:
        comparisons = plural(len(summary.unmade), "planned comparison")
        can_retry = any(failure.remedy for failure in summary.failed)
        advice = "; fix the cause shown above, then run again with --retry-failed" if can_retry else ""
        raise TrialsFailed(f"{study.name}: {comparisons} could not be made: all runs of an arm failed{advice}")
    return findings


def _write_report(folder: ResultsFolder, as_json: bool) -> tuple[Findings, Told]:
    from resnetlab.analysis.results import Results
    from resnetlab.report.build import build
    from resnetlab.report.findings import Findings

    findings = Findings(Results.open(folder.place))
    build(findings)
    return findings, status.print_summary(findings, folder.place, as_json, progress=False)
