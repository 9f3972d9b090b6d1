"""Epochs, time and energy of everything that ran, whatever became of it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from resnetlab.analysis.results import Results
from resnetlab.analysis.sweep_cost import SPENT, cost, efficiency
from resnetlab.analysis.trial_outcomes import WORDS, Counts
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import duration, listed, missing
from resnetlab.report.layout import Section, Table
from resnetlab.study.records import Phase, Status


def section(findings: Findings) -> Section | None:
    """None where nothing ran."""
    results = findings.results
    if results.trials.empty:
        return None
    found = cost(results.trials)
    whole = found["device_seconds"].sum()
    sums = found.drop(columns=["phase", "status"]).sum(min_count=1)
    rows = [
        [row.phase, WORDS[Status(row.status)], *_amounts(row), row.device_seconds / whole if whole else None]
        for row in found.itertuples(index=False)
    ]
    rows.append(["all", "", *_amounts(sums), 1.0 if whole else None])
    headings = ["Phase", "Ended", "Trials", "Epochs", "Training", "Evaluation", "Set-up", "Checkpoints", "Device-hours",
                "Energy (kWh)", "Share of device time"]  # fmt: skip
    foot = (
        f"{Counts.of(results.trials).words('')}. Device-hours: all four times, multiplied by the share of a GPU, or "
        "the number of CPU cores, that the trial was given."
    )
    known = int(results.trials["energy"].notna().sum())
    if known:
        foot += " Energy: the whole device's while a trial trained, so trials that share a GPU each count all of it."
    table = Table(headings, ["text", "text", *["number"] * 8, "bar"], rows, foot).without_empty()
    energy = "Energy: not measured; no trial ran on a GPU that tells (NVML)."
    if known:
        energy = f"Energy: {_kwh(sums['energy'])} kWh, as NVML tells for {known:,} of {len(results.trials):,} trials."
    return Section("cost", "What it cost", [_spent(found), energy, _efficiency(results)], [table])


def _amounts(row: Any) -> list[str | None]:
    return [
        f"{row.trials:,.0f}",
        f"{row.epochs_run:,.0f}",
        *(duration(getattr(row, name)) for name in SPENT),
        _hours(row.device_seconds),
        None if missing(row.energy) else _kwh(row.energy),
    ]


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _kwh(joules: float) -> str:
    return f"{joules / 3.6e6:,.3g}"


def _spent(found: pd.DataFrame) -> str:
    """In a sentence, with what went into trials that gave no result at the full budget."""
    whole = found["device_seconds"].sum()
    parts = []
    for words, statuses in (
        ("stopped early", [Status.STOPPED]),
        ("failed or diverged", [Status.FAILED, Status.DIVERGED, Status.OUT_OF_MEMORY]),
        ("not ended", [status for status in Status if not status.ended]),
    ):
        seconds = found[found["status"].isin(statuses)]["device_seconds"].sum()
        if seconds:
            parts.append(f"{seconds / whole:.0%} in trials that were {words}")
    confirm = found[found["phase"] == Phase.CONFIRM]["device_seconds"].sum()
    if confirm:
        parts.append(f"{confirm / whole:.0%} in confirm runs")
    of = f", of these {listed(parts)}" if parts else ""
    return f"{found['epochs_run'].sum():,.0f} epochs and {_hours(whole)} device-hours{of}."


def _efficiency(results: Results) -> str:
    found = efficiency(results.sweep)
    if found is None:
        return "Sweep efficiency: not recorded (sweep.json has no session that ended)."
    over = f" over {found.sessions} sessions" if found.sessions > 1 else ""
    text = (
        f"Sweep efficiency {found.share:.0%}: slots trained for {duration(found.busy)} of the "
        f"{duration(found.offered)} (slots × wall time) that they were there{over}."
    )
    if found.reports:
        text += (
            f" The driver took {1e3 * found.driver / found.reports:.2f} ms for each of {found.reports:,} reports; "
            f"beside that, {found.sampler:.1f} s for the sampler and {found.publishing:.1f} s for writing tables."
        )
    return text
