"""Where the results come from: which code, data, machines and seeds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas as pd

from resnetlab.analysis.results import Results
from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.provenance import without_secrets
from resnetlab.report.findings import Findings
from resnetlab.report.layout import Section, Table
from resnetlab.study.records import bad_rows_said

SEEDS = 10  # that the provenance names


def section(findings: Findings) -> Section:
    """Rows that are not known are left out."""
    results = findings.results
    sweep, trials = results.sweep, results.trials
    data = sweep.get("data") or {}
    sizes = ", ".join(
        f"{data[split]:,} {split}" for split in ("train", "val", "test") if isinstance(data.get(split), int)
    )
    shape = " × ".join(map(str, data.get("shape") or []))
    classes = data.get("classes")
    number = classes if isinstance(classes, int) else len(classes or ())
    facts: list[tuple[str, Any]] = [
        *_commands(sweep),
        ("Started", _minute(sweep.get("started"))),
        ("Ended", _minute(sweep.get("ended"))),
        ("Git revision", revisions(trials)),
        ("Versions", _versions(sweep.get("versions"))),
        ("Platform", sweep.get("platform")),
        ("Hosts", distinct(trials, "host")),
        ("Hardware", distinct(trials, "device")),
        ("Share of the device a trial", distinct(trials, "device_share")),
        ("Threads a trial", distinct(trials, "threads")),
        ("Task", results.study.experiment),
        (
            "Data",
            ", ".join(
                filter(None, [data.get("name", results.study.dataset and results.study.dataset.name), shape, sizes])
            ),
        ),
        ("Classes", number or None),
        ("Weights given in place of a name", _given(results)),
        ("Bad rows", bad_rows_said(data["bad_rows"]) if data.get("bad_rows") else None),
        ("Notes on the data", "; ".join(map(str, data.get("notes") or ())) or None),
        ("Further data", _others(data.get("others") or {})),
        ("Data hash", data.get("hash") or distinct(trials, "data_hash")),
        ("Root seed", f"{results.study.seed}; all other seeds follow from it, and a trial's row has its own"),
        ("Seeds of the confirm runs", _seeds(results)),
        ("Split seed", distinct(trials, "split_seed")),
        ("Study hash", results.study.study_hash),
        ("Plan hash", results.plan.plan_hash if results.plan else None),
        ("Missing tables", ", ".join(results.missing) or "none"),
    ]
    rows = [[name, str(value)] for name, value in facts if value not in (None, "")]
    text = []
    if len(trials["data_hash"].dropna().unique()) > 1 or len(trials["git_revision"].dropna().unique()) > 1:
        text.append("The trials do not all rest on the same code and data: compare the rows below.")
    counts = Counts.of(trials).words("")
    return Section(
        "provenance", "Where it comes from", text, [Table(["What", "Value"], ["name", "code"], rows, f"{counts}.")]
    )


def recorded_commands(sweep: dict[str, Any]) -> list[str]:
    """The exact command of each session, those that repeat once."""
    said = [without_secrets(str(session.get("command") or "")) for session in sweep.get("sessions") or [sweep]]
    return list(dict.fromkeys(filter(None, said)))


def _commands(sweep: dict[str, Any]) -> list[tuple[str, Any]]:
    commands, sessions = recorded_commands(sweep), len(sweep.get("sessions") or [sweep])
    if not commands:
        return [("Command", "not recorded")]
    often = f" ({sessions} sessions)" if sessions > 1 else ""
    return [("Command" if i == 0 else "", command + often * (i == 0)) for i, command in enumerate(commands)]


def revisions(trials: pd.DataFrame) -> str:
    """`440660fe41f2, no local changes`"""
    said = []
    for name in map(str, trials["git_revision"].dropna().unique()):
        changed = "with" if name.endswith("+changes") else "no"
        said.append(f"{name.removesuffix('+changes')}, {changed} local changes")
    return "; ".join(said) or "not recorded (outside a git checkout)"


def _seeds(results: Results) -> str | None:
    """One for each seed block, the same in all arms."""
    seeds = results.confirm.drop_duplicates("seed_block").sort_values("seed_block")["seed"].dropna()
    more = f" and {len(seeds) - SEEDS} more" if len(seeds) > SEEDS else ""
    return ", ".join(map(str, seeds.head(SEEDS))) + more or None


def _given(results: Results) -> str:
    """`IMAGENET1K_V1: file:…`"""
    return ", ".join(f"{name}: {file}" for name, file in results.study.given_weights.items())


def _others(others: dict[str, Any]) -> str:
    """What arms read besides: `glyphs (font), 22 classes, hash …`."""
    return "; ".join(
        f"{data['name']}{' (' + data['label'] + ')' if data.get('label') else ''}, {len(data['classes']):,} classes, "
        f"hash {data['hash']}"
        for data in others.values()
    )


def _minute(when: Any) -> str:
    """An ISO time as `2026-03-02 09:30 UTC`; anything else as it stands."""
    try:
        return datetime.fromisoformat(when).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (TypeError, ValueError):
        return str(when or "")


def distinct(trials: pd.DataFrame, column: str) -> str:
    """The values of a column that occur, in order."""
    return ", ".join(
        f"{value:g}" if isinstance(value, float) else str(value) for value in trials[column].dropna().unique()
    )


def _versions(versions: Any) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) if isinstance(versions, dict) else ""
