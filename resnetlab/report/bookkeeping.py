"""The report's last sections: the plan, the cost, where it all comes from, and the data of the table of all trials."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from resnetlab.analysis.curves import WORDS, Counts, cost, efficiency, learning_curves
from resnetlab.analysis.results import Results
from resnetlab.config import TrialConfig
from resnetlab.metrics import METRICS
from resnetlab.records import Phase, Status, bad_rows_said
from resnetlab.report.sections import Section, Table
from resnetlab.report.words import duration, level, missing, settings
from resnetlab.space import Branch
from resnetlab.study import differences

SHOWN = ("val_accuracy", "test_accuracy", "parameters", "train_seconds")  # metrics in the table of all trials


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
        return Section("plan", "The plan", ["No plan was made yet: confirm runs follow exploration."], [factors])
    found = results.plan
    text = [
        f"Written down and hashed before the first of its own confirm runs (plan {found.plan_hash}): design "
        f"{found.design}, {len(found.arms)} arms on {found.seeds} seeds each, compared on "
        f"{METRICS[found.metric].label.lower()}, family-wise error rate {found.alpha:g}, smallest effect of interest "
        f"{found.delta:g} points.",
        *_replaced(results),
    ]
    rows = [
        [arm.name, settings(arm.values), settings(arm.companions) if arm.companions else "none"] for arm in found.arms
    ]
    foot = "Moved along: tuned settings that had to change with the levels, as the search found them."
    columns = ["Arm", "Setting", "Moved along"]
    laid = Table(columns, ["name", "long", "text"], rows, foot, "The arms as planned")
    return Section("plan", "The plan", text, [laid, factors])


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
    """Epochs and time of everything that ran, whatever became of it."""
    if results.trials.empty:
        return None
    found = cost(results.trials)
    times = ["train_seconds", "eval_seconds", "setup_seconds", "checkpoint_seconds"]
    rows = [
        [row.phase, WORDS[Status(row.status)], f"{row.trials:,}", f"{int(row.epochs_run):,}"]
        + [duration(getattr(row, name)) for name in times]
        for row in found.itertuples(index=False)
    ]
    sums = found[["trials", "epochs_run", *times]].sum()
    rows.append(
        ["all", "", f"{int(sums['trials']):,}", f"{int(sums['epochs_run']):,}"]
        + [duration(sums[name]) for name in times]
    )
    columns = ["Phase", "Ended", "Trials", "Epochs", "Training", "Evaluation", "Set-up", "Checkpoints"]
    text = [_spent(results, found)]
    busy = efficiency(results.sweep)
    if busy is None:
        text.append("Sweep efficiency: not recorded (sweep.json has no session that ended).")
    else:
        over = f" over {busy.sessions} sessions" if busy.sessions > 1 else ""
        text.append(
            f"Sweep efficiency {busy.share:.0%}: slots trained for {duration(busy.busy)} of the "
            f"{duration(busy.offered)} (slots × wall time) that they were there{over}."
        )
        if busy.reports:
            text.append(
                f"The driver took {1e3 * busy.driver / busy.reports:.2f} ms for each of {busy.reports:,} reports; "
                f"beside that, {busy.sampler:.1f} s for the sampler and {busy.publishing:.1f} s for writing tables."
            )
    foot = Counts.of(results.trials).words("") + "."
    return Section("cost", "What it cost", text, [Table(columns, ["text", "text", *["number"] * 6], rows, foot)])


def _spent(results: Results, found: pd.DataFrame) -> str:
    epochs = found["epochs_run"].sum()
    useful = found[found["status"] == Status.COMPLETE]["epochs_run"].sum()
    seconds = found["train_seconds"].sum() + found["eval_seconds"].sum()
    share = (epochs - useful) / epochs if epochs else 0.0
    confirm = found[found["phase"] == Phase.CONFIRM]["epochs_run"].sum()
    return (
        f"{int(epochs):,} epochs and {duration(seconds)} of device time, {share:.0%} of the epochs in trials that were "
        f"stopped, failed or did not end; {int(confirm):,} epochs for confirmation."
    )


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
        ("Sessions", len(sweep.get("sessions") or ()) or None),
        ("Command", _no_password(sweep.get("command"))),
        ("Started", _minute(sweep.get("started"))),
        ("Ended", _minute(sweep.get("ended"))),
        ("Code", _distinct(trials, "git_revision")),
        ("Versions", _versions(sweep.get("versions"))),
        ("Platform", sweep.get("platform")),
        ("Hosts", _distinct(trials, "host")),
        ("Devices", _distinct(trials, "device")),
        ("Threads a trial", _distinct(trials, "threads")),
        ("Data", ", ".join(filter(None, [data.get("name", results.study.dataset.name), shape, sizes]))),
        ("Classes", number or None),
        ("Bad rows", bad_rows_said(data["bad_rows"]) if data.get("bad_rows") else None),
        ("Further data", _others(data.get("others") or {})),
        ("Data hash", data.get("hash") or _distinct(trials, "data_hash")),
        ("Root seed", results.study.seed),
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


def _no_password(command: Any) -> str | None:
    """A storage URL may carry a password; a report may be sent to anyone."""
    return None if command is None else re.sub(r"(://)[^/@\s]+@", r"\1…@", str(command))


def trial_data(results: Results) -> dict[str, Any]:
    """What the page's table of trials reads: headings, a row each, configs without what all have in common, curves.

    columns: [key, label, kind]; rows: lists in the order of columns; curves: validation accuracy by epoch in units of
    0.01%, from epoch 1, null where an epoch is missing.
    """
    trials = results.trials
    columns = [["number", "Trial", "number"], ["phase", "Phase", "text"], ["status", "Status", "status"]]
    if len(results.confirm) + len(results.other_confirm):
        columns.append(["arm", "Arm", "text"])
    columns.append(["epochs_run", "Epochs", "number"])
    for name in SHOWN:
        metric = METRICS[name]
        columns.append(
            [name, metric.axis, "percent" if metric.unit == "%" else "compact" if not metric.unit else "seconds"]
        )
    columns += [[name, name, "level"] for name in results.factors]
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
        "status": {str(status): words for status, words in WORDS.items()},
    }


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
