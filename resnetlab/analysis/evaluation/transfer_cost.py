"""What named arms reached against seconds, where arms start from what others learned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from resnetlab.analysis.evaluation.test_predictions import ArmRuns
from resnetlab.analysis.intervals import mean_interval
from resnetlab.study.metrics import METRICS, Metric

ALIKE = ("model", "data_fraction", "epochs")  # settings in which an arm and what it is compared with should agree


def costs(arms: Sequence[ArmRuns], trials: pd.DataFrame, metric: Metric = METRICS["test_accuracy"]) -> pd.DataFrame:
    """A row for each arm: arm, task, start (none, a name, `file`, or the source arm), frozen, parameters, trainable,
    cached (were the frozen stages run once), value of the metric with low and high (95%), n, seconds (training of one
    run), source_seconds (of the run that it starts from; trained once for all that start from it), epoch_seconds,
    reference (the arm of the task that starts from nothing and is most alike; empty where that is the arm itself).

    trials: the trials table, for the source runs. metric: a column of it. Means over the arm's runs.
    """
    by_id = trials.set_index("trial_id")
    rows = []
    for arm in arms:
        value, low, high, n = mean_interval(arm.runs[metric.name])
        start, source_seconds = _start(arm, by_id)
        cached = arm.runs["prefix_cached"].dropna() if "prefix_cached" in arm.runs else pd.Series(dtype=bool)
        rows.append(
            {
                "arm": arm.name,
                "task": arm.task,
                "start": start,
                "frozen": arm.config.get("frozen", 0),
                "parameters": arm.runs["parameters"].iloc[0],
                "trainable": arm.runs["trainable"].iloc[0],
                "cached": bool(cached.all()) if len(cached) else None,
                "value": value,
                "low": low,
                "high": high,
                "n": n,
                "seconds": float(arm.runs["train_seconds"].mean()),
                "source_seconds": source_seconds,
                "epoch_seconds": float((arm.runs["train_seconds"] / arm.runs["epochs_run"]).mean()),
                "reference": _reference(arm, arms),
            }
        )
    return pd.DataFrame(rows)


def _start(arm: ArmRuns, trials: pd.DataFrame) -> tuple[str, float]:
    """What its stages start from, and the mean training seconds of its source runs (0 where there are none)."""
    kind, _, which = _weights(arm.config).partition(":")
    if kind != "trial":
        return ("file" if which else kind), 0.0
    ids = [_weights(json.loads(text)).partition(":")[2] for text in arm.runs["config"]]
    known = trials.loc[[trial for trial in ids if trial in trials.index]]
    if known.empty:
        return f"trial {which}", float("nan")
    return str(known["arm"].iloc[0]), float(known["train_seconds"].mean())


def _weights(config: Mapping[str, Any]) -> str:
    return str(config.get("weights") or "none")


def _reference(arm: ArmRuns, arms: Sequence[ArmRuns]) -> str:
    if _weights(arm.config) == "none":
        return ""
    fresh = [other for other in arms if other.task == arm.task and _weights(other.config) == "none"]
    alike = {other.name: sum(other.config.get(key) == arm.config.get(key) for key in ALIKE) for other in fresh}
    return max(alike, key=lambda name: alike[name], default="")
