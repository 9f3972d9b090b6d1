"""What the stopping rule stopped, and when."""

from __future__ import annotations

from resnetlab.analysis.explore.stopping import epochs_saved, rung_summary
from resnetlab.analysis.results import Results
from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import listed, shown
from resnetlab.report.layout import Section, Table
from resnetlab.study import catalog
from resnetlab.study.records import Status
from resnetlab.wording import level_text


def section(findings: Findings) -> Section | None:
    """None where nothing was explored."""
    results = findings.results
    if results.explore.empty:
        return None
    search = results.study.search
    text = []
    if not search.stopping:
        text.append("Early stopping was off: every explore trial was allowed its full budget.")
    else:
        saved = epochs_saved(results.explore)
        text.append(
            f"{_rule(results)}; full budget {search.epochs} epochs. {_when(results)} Stopping saved {saved:,} epochs."
        )
    rows = [
        [
            r.rung,
            r.epoch,
            *(f"{n:,}" for n in (r.arrived, r.went_on, r.stopped, r.exempt)),
            shown(r.first_cutoff, findings.searched),
            shown(r.last_cutoff, findings.searched),
        ]
        for r in rung_summary(results.rungs).itertuples(index=False)
    ]
    columns = ["Rung", "Epoch", "Arrived", "Went on", "Stopped", "Exempt", "First cutoff", "Last cutoff"]
    tables = [Table(columns, ["number"] * 8, rows, Counts.of(results.explore).words())] if rows else []
    return Section("asha", "What was stopped early, and when", text, tables, hypothesis=True)


def _rule(results: Results) -> str:
    """In words, with its settings."""
    search = results.study.search
    built_in = catalog.stopping_rule(search.rule)
    if built_in is not None:
        return built_in.words(search.__dict__)
    own = ", ".join(f"{name} {level_text(value)}" for name, value in search.own.get("stopping", {}).items())
    return f"The study's own rule {search.rule}" + (f" ({own})" if own else "")


def _when(results: Results) -> str:
    """`It stopped 13 of 18 trials: 9 after epoch 1 and 4 after epoch 3.`"""
    explore = results.explore
    stopped = explore[explore["status"] == Status.STOPPED]["epochs_run"].value_counts().sort_index()
    when = listed([f"{n:,} after epoch {epoch}" for epoch, n in stopped.items()])
    return f"It stopped {stopped.sum():,} of {len(explore):,} trials{': ' if when else ''}{when}."
