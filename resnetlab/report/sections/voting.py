"""Ensembles: majority votes of runs that were kept anyway."""

from __future__ import annotations

from resnetlab.analysis.evaluation import paired
from resnetlab.analysis.evaluation.test_predictions import tasks
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import percent, percents, signed
from resnetlab.report.layout import Section, Table


def section(findings: Findings) -> Section | None:
    """None where no predictions were kept."""
    if findings.results.study.experiment:
        return None  # a task has no validation accuracy, by which runs are trusted here
    groups, predictions = tasks(findings.arms), findings.predictions
    tables = []
    for task, arms in groups.items():
        found = paired.ensembles(predictions, arms)
        rows = [
            [
                row.what,
                row.runs,
                percent(row.accuracy),
                percents(row.low, row.high),
                percent(row.mean),
                percent(row.first),
                signed(row.accuracy - row.mean),
            ]
            for row in found.itertuples(index=False)
        ]
        headings = ["Vote of", "Runs", "Test accuracy", "95% interval over images", "Mean of its members",
                    "Its best member on validation", "Gain over the mean (points)"]  # fmt: skip
        foot = f"{findings.arm_counts(arms)}. The interval is Wilson's, over images alone."
        title = task if len(groups) > 1 else ""
        if rows:
            tables.append(Table(headings, ["name", *["number"] * 6], rows, foot, title))
    if not tables:
        return None
    text = [
        "Each image gets the class that most of the runs name; where two have as many votes, the run with the higher "
        "validation accuracy decides. Nothing is trained anew: these are the predictions that the confirm runs left. "
        "Best runs are those with the highest validation accuracy, so no ensemble was chosen by what it shows here."
    ]
    return Section("ensembles", "Ensembles", text, tables)
