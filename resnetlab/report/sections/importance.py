"""Importance for the search; no sign, no interval, no control of error."""

from __future__ import annotations

from resnetlab.analysis.explore.importance import importance
from resnetlab.report.findings import Findings
from resnetlab.report.layout import Section, Table


def section(findings: Findings) -> Section | None:
    """None where nothing was explored."""
    results = findings.results
    if results.study.arms or results.explore.empty:
        return None
    found = importance(results.study, results.trials, results.epochs)
    shares: dict[str, dict[str, str]] = {}
    for row in found.table.itertuples(index=False):
        heading = f"{row.method}, {row.data}: {row.trials:,} trials at epoch {row.epoch}"
        shares.setdefault(heading, {})[row.factor] = f"{row.importance:.0%}"
    factors = list(dict.fromkeys(found.table["factor"]))
    rows = [[factor, *(column.get(factor) for column in shares.values())] for factor in factors]
    text = [
        "Which factors told good explore trials from the rest, at equal epochs only. This helps to choose ranges for a "
        "next search; it is not an effect, and factors that do nothing can rank above some that do.",
        *found.notes,
    ]
    columns = ["Factor", *shares]
    tables = [Table(columns, ["name", *["number"] * len(shares)], rows)] if rows else []
    return Section("importance", "Importance for the search", text, tables, hypothesis=True)
