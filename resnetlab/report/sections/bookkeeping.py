"""The report's last sections: the plan, the cost, where it all comes from, and the data of the table of all trials."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from resnetlab.analysis.explore.curves import SPENT, WORDS, Counts, cost, efficiency, learning_curves
from resnetlab.analysis.results import Results
from resnetlab.experiment.metrics import METRICS
from resnetlab.provenance import without_secrets
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import duration, level, listed, missing, settings
from resnetlab.report.layout import FOLDED, Section, Table
from resnetlab.report.rerun_command import rerun_command
from resnetlab.study import differences
from resnetlab.study.records import Phase, Status, bad_rows_said
from resnetlab.study.space import Branch
from resnetlab.study.trial_config import TrialConfig

SHOWN = ("val_accuracy", "test_accuracy", "parameters", "train_seconds")  # metrics in the table of all trials
SEEDS = 10  # that the provenance names


def plan(results: Results) -> Section:
    """What was asked: the factors and their levels, and what was written down before any confirm run."""
    study = results.study
    base = study.baseline_values()
    rows = [
        [
            factor.name,
            TrialConfig.model_fields[factor.name].description or "",
            "; ".join(map(_branch, factor.branches)),
            level(base.get(factor.name)),
        ]
        for factor in study.space.factors
    ]
    fixed = {name: value for name, value in study.baseline.items() if name not in study.space.names}
    foot = f"Set for all trials: {settings(fixed)}; the rest is as resnetlab has it (a trial's row shows all)."
    columns = ["Factor", "Meaning", "Levels or range", "Baseline"]
    factors = Table(columns, ["code", "text", "long", "code"], rows, foot, "The factors")
    if results.plan is None:
        return Section("plan", "The plan", [_no_plan(results)], [factors])
    found = results.plan
    text = [
        f"Written down and hashed before the first of its own confirm runs (plan {found.plan_hash}): design "
        f"{found.design}, {len(found.arms)} arms on {found.seeds} seeds each, compared on "
        f"{METRICS[found.metric].label.lower()}, family-wise error rate {found.alpha:g}, smallest effect of interest "
        f"{found.delta:g} points. Code {found.code}, data {found.data_hash}.",
        *_replaced(results),
    ]
    rows = [
        [arm.name, settings(arm.values), settings(arm.companions) if arm.companions else "none"] for arm in found.arms
    ]
    foot = "Moved along: tuned settings that had to change with the levels, as the search found them."
    columns = ["Arm", "Setting", "Moved along"]
    laid = Table(columns, ["name", "long", "text"], rows, foot, "The arms as planned", folded=len(rows) > FOLDED)
    return Section("plan", "The plan", text, [factors, laid])


def _no_plan(results: Results) -> str:
    if results.study.confirm.design == "none":
        return "There is no plan: this study explores, and confirms nothing (confirm.design: none)."
    return "No plan was made yet: confirm runs follow exploration, once a trial of it has reached the full budget."


def _replaced(results: Results) -> list[str]:
    """Plans that this one took the place of: what they asked otherwise, and what had been seen of them by then."""
    text = []
    for name in results.folder.names("plans"):
        old = results.folder.read_json(f"plans/{name}") or {}
        changed = differences(old.get("asked", {}), results.planned.asked, words="{} then, {} now")
        runs = results.other_confirm
        seen = int((runs["plan_hash"] == old.get("plan_hash")).sum())
        text.append(
            f"It took the place of plan {old.get('plan_hash')} ({'; '.join(changed) or 'the same questions'}), "
            f"of which {seen} runs had been started: they are used in nothing, but whoever changed the plan could see "
            "them."
        )
    return text


def _branch(branch: Branch) -> str:
    if branch.levels is not None:
        text = ", ".join(map(level, branch.levels))
    else:
        text = f"{level(branch.low)} … {level(branch.high)}" + (" (log)" if branch.log else "")
    where = [f"{name} {' or '.join(map(level, levels))}" for name, levels in branch.when.items()]
    return f"{text} where {' and '.join(where)}" if where else text


def costs(results: Results) -> Section | None:
    """Epochs, time and energy of everything that ran, whatever became of it."""
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
        ("stopped by ASHA", [Status.STOPPED]),
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


def provenance(results: Results) -> Section:
    """Which code, data, machines and seeds; rows that are not known are left out."""
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
        ("Git revision", _revisions(trials)),
        ("Versions", _versions(sweep.get("versions"))),
        ("Platform", sweep.get("platform")),
        ("Hosts", _distinct(trials, "host")),
        ("Hardware", _distinct(trials, "device")),
        ("Share of the device a trial", _distinct(trials, "device_share")),
        ("Threads a trial", _distinct(trials, "threads")),
        ("Data", ", ".join(filter(None, [data.get("name", results.study.dataset.name), shape, sizes]))),
        ("Classes", number or None),
        ("Weights given in place of a name", _given(results)),
        ("Bad rows", bad_rows_said(data["bad_rows"]) if data.get("bad_rows") else None),
        ("Notes on the data", "; ".join(map(str, data.get("notes") or ())) or None),
        ("Further data", _others(data.get("others") or {})),
        ("Data hash", data.get("hash") or _distinct(trials, "data_hash")),
        ("Root seed", f"{results.study.seed}; all other seeds follow from it, and a trial's row has its own"),
        ("Seeds of the confirm runs", _seeds(results)),
        ("Split seed", _distinct(trials, "split_seed")),
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


def _commands(sweep: dict[str, Any]) -> list[tuple[str, Any]]:
    """The exact command of each session, those that repeat once."""
    said = [without_secrets(str(session.get("command") or "")) for session in sweep.get("sessions") or [sweep]]
    commands = list(dict.fromkeys(filter(None, said)))
    if not commands:
        return [("Command", "not recorded")]
    often = f" ({len(said)} sessions)" if len(said) > 1 else ""
    return [("Command" if i == 0 else "", command + often * (i == 0)) for i, command in enumerate(commands)]


def _revisions(trials: pd.DataFrame) -> str:
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


def failed(findings: Findings) -> Section | None:
    """What failed, by cause, with an example, its log and what to do; None where nothing did."""
    results, found = findings.results, findings.failures
    if not found:
        return None
    rows = [
        [WORDS[Status(one.status)], f"{one.trials:,}", f"{one.number} ({one.example})", one.cause, one.log, one.remedy]
        for one in found
    ]
    headings = ["Ended", "Trials", "Example", "Cause", "Log or traceback", "Once the cause is mended"]
    total = sum(one.trials for one in found)
    text = [f"{total:,} of {len(results.trials):,} trials ended without a result, for the causes below."]
    kinds = ["text", "number", "code", "long", "code", "code"]
    return Section("failures", "What failed", text, [Table(headings, kinds, rows).without_empty()])


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


def _distinct(trials: pd.DataFrame, column: str) -> str:
    return ", ".join(
        f"{value:g}" if isinstance(value, float) else str(value) for value in trials[column].dropna().unique()
    )


def _versions(versions: Any) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) if isinstance(versions, dict) else ""


def trial_data(results: Results) -> dict[str, Any]:
    """What the page's table of trials reads: headings, a row each, configs without what all have in common, curves.

    columns: [key, label, kind]; rows: lists in the order of columns; curves: validation accuracy by epoch in units of
    0.01%, from epoch 1, null where an epoch is missing.
    """
    trials = results.trials
    columns = [["number", "Trial", "number"], ["phase", "Phase", "text"], ["status", "Status", "status"]]
    columns.append(["epochs_run", "Epochs", "number"])
    for name in SHOWN:
        metric = METRICS[name]
        columns.append(
            [name, metric.axis, "percent" if metric.unit == "%" else "compact" if not metric.unit else "seconds"]
        )
    columns += [[name, name, "level"] for name in results.factors]
    if trials["arm"].notna().any():
        columns.append(["arm", "Arm", "text"])
    keys = [column[0] for column in columns]
    shared, own = _configs(trials["config"])
    ends = trials[["trial_id", "reason", "epochs_allowed", "seed", "host"]]
    return {
        "columns": columns,
        "rows": [[_plain(value) for value in row] for row in trials[keys].itertuples(index=False)],
        "ends": [[_plain(value) for value in row] for row in ends.astype({"seed": str}).itertuples(index=False)],
        "shared": shared,
        "configs": own,
        "curves": _curve_data(results),
        "rerun": _text(rerun_command(results, results.folder.place)) + " ",  # and the trial's number
        "status": {str(status): words for status, words in WORDS.items()},
    }


def _text(path: str) -> str:
    """A path that this locale could not decode, read as UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _plain(value: Any) -> Any:
    if missing(value):
        return None
    value = value.item() if hasattr(value, "item") else value
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _configs(texts: pd.Series) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Settings that all trials share, and each trial's others. Seeds as text: they are beyond what scripts count in."""
    configs = []
    for text in texts:
        config = json.loads(text) if isinstance(text, str) else {}
        flat = {f"data.{name}": value for name, value in (config.pop("data", None) or {}).items()}
        configs.append({k: str(v) if k.endswith("seed") else v for k, v in (config | flat).items()})
    if not configs:
        return {}, []
    first = configs[0]
    shared = {k: v for k, v in first.items() if all(k in other and other[k] == v for other in configs)}
    return shared, [{k: v for k, v in config.items() if k not in shared} for config in configs]


def _curve_data(results: Results) -> dict[str, list[int | None]]:
    curves = {}
    for curve in learning_curves(results.trials, results.epochs):
        values: list[int | None] = [None] * int(curve.epochs[-1])
        for epoch, value in zip(curve.epochs, curve.values, strict=True):
            values[epoch - 1] = None if value != value else round(10_000 * value)
        curves[curve.trial_id] = values
    return curves


def meta(results: Results) -> str:
    """One line for the head of the page: trials, data, date."""
    ended = str(results.sweep.get("ended") or "")[:10]
    parts = [Counts.of(results.trials).words(""), results.study.dataset.name + " data", ended and f"ended {ended}"]
    return " · ".join(filter(None, parts))
