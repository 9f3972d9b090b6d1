"""The data of the table of all trials, which the page's script sorts and filters."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from resnetlab.analysis.learning_curves import learning_curves
from resnetlab.analysis.results import Results
from resnetlab.analysis.trial_outcomes import WORDS
from resnetlab.report.formatting import missing
from resnetlab.report.rerun_command import rerun_command
from resnetlab.study.metrics import METRICS

COSTS = {"parameters": "compact", "train_seconds": "seconds"}


def trial_data(results: Results) -> dict[str, Any]:
    """What the page's table of trials reads: headings, a row each, configs without what all have in common, curves.

    columns: [key, label, kind]; rows: lists in the order of columns; curves: what was searched for by epoch, in units
    of 0.01% where it is a fraction, else as it is shown, from epoch 1, null where an epoch is missing.
    """
    trials = results.trials
    columns = [["number", "Trial", "number"], ["phase", "Phase", "text"], ["status", "Status", "status"]]
    columns.append(["epochs_run", "Epochs", "number"])
    study, task = results.study, bool(results.study.experiment)
    accuracies = [] if task else [METRICS["val_accuracy"], METRICS["test_accuracy"]]
    measures = list(dict.fromkeys([*accuracies, study.searched, study.confirmed, *study.measures]))
    columns += [[metric.name, metric.axis, "percent" if metric.fraction else "measure"] for metric in measures]
    columns += [[name, METRICS[name].axis, kind] for name, kind in COSTS.items() if not task or name != "parameters"]
    columns += [[name, name, "level"] for name in results.factors]
    if trials["arm"].notna().any():
        columns.append(["arm", "Arm", "text"])
    if trials["study_version"].nunique() > 1:
        columns.append(["study_version", "Version of the study", "number"])
    keys = [column[0] for column in columns]
    shared, own = _configs(trials["config"])
    scales = {metric.name: metric.scale for metric in measures if not metric.fraction and metric.scale != 1}
    shown = trials.assign(**{name: scale * trials[name] for name, scale in scales.items()})
    searched = study.searched
    ends = trials[["trial_id", "reason", "epochs_allowed", "seed", "host"]]
    return {
        "columns": columns,
        "rows": [[_plain(value) for value in row] for row in shown[keys].itertuples(index=False)],
        "ends": [[_plain(value) for value in row] for row in ends.astype({"seed": str}).itertuples(index=False)],
        "shared": shared,
        "configs": own,
        "curve": {"label": searched.label, "axis": searched.axis, "percent": searched.fraction},
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


def _curve_data(results: Results) -> dict[str, list[float | None]]:
    curves, searched = {}, results.study.searched
    for curve in learning_curves(results.trials, results.epochs, searched.name):
        values: list[float | None] = [None] * int(curve.epochs[-1])
        for epoch, value in zip(curve.epochs, curve.values, strict=True):
            if value == value:
                values[epoch - 1] = round(10_000 * value) if searched.fraction else _plain(searched.scale * value)
        curves[curve.trial_id] = values
    return curves
