"""What failed, by cause, with an example, its log and what to do."""

from __future__ import annotations

from resnetlab.analysis.trial_outcomes import WORDS
from resnetlab.report.findings import Findings
from resnetlab.report.layout import Section, Table
from resnetlab.report.rerun_command import debug_command
from resnetlab.study.records import Status


def section(findings: Findings) -> Section | None:
    """None where nothing failed."""
    results, found = findings.results, findings.failures
    if not found:
        return None
    rows = [
        [
            WORDS[Status(one.status)],
            f"{one.trials:,}",
            f"{one.number} ({one.example})",
            one.in_a_line,
            one.log,
            debug_command(results, results.folder.place, one),
            one.remedy,
        ]
        for one in found
    ]
    headings = [
        "Ended",
        "Trials",
        "Example",
        "Cause",
        "Log or traceback",
        "Alone, in a debugger",
        "Once the cause is mended",
    ]
    total = sum(one.trials for one in found)
    text = [f"{total:,} of {len(results.trials):,} trials ended without a result, for the causes below."]
    kinds = ["text", "number", "code", "long", "code", "code", "code"]
    return Section("failures", "What failed", text, [Table(headings, kinds, rows).without_empty()])
