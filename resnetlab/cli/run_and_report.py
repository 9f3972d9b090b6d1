"""Run or continue a study, and write its report: the common part of `sweep`, `reproduce` and `resnetlab.run`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from resnetlab import console
from resnetlab.cli import status
from resnetlab.cli.notify import Notifier, view
from resnetlab.errors import BadRequest, Stopped, TrialsFailed
from resnetlab.wording import plural

if TYPE_CHECKING:
    from resnetlab.driver.options import Options
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
    notify: str | None = None,
) -> Findings:
    """Run or continue `study`, then write its report and print the conclusions, even if every trial failed or it was
    asked to stop.

    Args:
        study: what to run.
        options: how to run it.
        as_json: print one JSON object to stdout, and everything else to stderr.
        trackers: the options of the tools that follow the sweep: arguments of `tracking.chosen`.
        then: called with the place of the results folder once the report is written.
        notify: command of the user's that is told how it ended, and when it waits; None for none.

    Returns the findings of the report.

    Raises:
        TrialsFailed: no trial has a result, or a planned comparison could not be made.
        ResnetlabError: as `driver.run.run_study`.
    """
    from resnetlab.driver.checks.accept import results_folder

    folder = results_folder(study, options.storage)
    notifier = Notifier.of(notify, study.name, folder.place)
    with notifier.failures():
        findings, summary = _run_and_report(study, options, folder, as_json, trackers, then, notifier)
        _check_made(study, summary)
    notifier.finished(summary)
    return findings


def _run_and_report(
    study: Study,
    options: Options,
    folder: ResultsFolder,
    as_json: bool,
    trackers: Mapping[str, Any] | None,
    then: Callable[[str], None] | None,
    notifier: Notifier,
) -> tuple[Findings, Told]:
    from resnetlab.driver.run import run_study
    from resnetlab.tracking import chosen
    from resnetlab.tracking.feed import live

    followers = chosen(study.name, **trackers) if trackers else []
    failed: TrialsFailed | Stopped | None = None
    with console.people_on_stderr(as_json), live(folder, followers, print, trackers or {}):
        try:
            run_study(study, options, view(notifier))
        except (TrialsFailed, Stopped) as error:
            if not folder.exists():  # stopped before its first trial
                raise
            failed = error
    findings, summary = _write_report(folder, as_json)
    if then is not None:
        then(folder.place)
    if failed is not None:
        raise failed
    return findings, summary


def answer_if_finished(
    study: Study,
    storage: str,
    as_json: bool,
    notify: str | None = None,
    then: Callable[[str], None] | None = None,
) -> bool:
    """Print the conclusions of a study that has nothing left to do, within seconds; False where there is more to it.

    Args:
        study: what is asked for.
        storage: folder or URL that holds the results folder.
        as_json: print one JSON object to stdout.
        notify: as of `run`, like `then`.

    Raises:
        TrialsFailed: a planned comparison could not be made.
        BadData: its data is not what it was.
    """
    from resnetlab.driver.finished import finished
    from resnetlab.storage.results_folder import ResultsFolder

    if not storage.strip():
        return False
    folder = ResultsFolder.at(storage).sub(study.name)
    notifier = Notifier.of(notify, study.name, folder.place)
    try:
        results = finished(study, folder.place)
    except (OSError, BadRequest):  # whoever runs the study says what is wrong with its storage
        return False
    if results is None:
        return False
    from resnetlab.report.findings import Findings

    summary = status.print_summary(Findings(results), folder.place, as_json)
    if then is not None:
        then(folder.place)
    with notifier.failures():
        _check_made(study, summary)
    notifier.finished(summary)
    return True


def _check_made(study: Study, summary: Told) -> None:
    if summary.unmade:
        comparisons = plural(len(summary.unmade), "planned comparison")
        can_retry = any(failure.remedy for failure in summary.failed)
        advice = "; fix the cause shown above, then run again with --retry-failed" if can_retry else ""
        raise TrialsFailed(f"{study.name}: {comparisons} could not be made: all runs of an arm failed{advice}")


def _write_report(folder: ResultsFolder, as_json: bool) -> tuple[Findings, Told]:
    from resnetlab.analysis.results import Results
    from resnetlab.report.build import build
    from resnetlab.report.findings import Findings

    findings = Findings(Results.open(folder.place))
    build(findings)
    return findings, status.print_summary(findings, folder.place, as_json, progress=False)
