"""Accuracy by epoch, a curve for each trial."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Curve:
    """One trial's validation accuracy by epoch. epochs, values: (E,)."""

    trial_id: str
    number: int
    status: str
    arm: str | None
    epochs: np.ndarray
    values: np.ndarray


def learning_curves(trials: pd.DataFrame, epochs: pd.DataFrame, metric: str = "val_accuracy") -> list[Curve]:
    """A curve for each of `trials` that recorded an epoch, in their order."""
    rows = epochs.sort_values(["trial_id", "epoch"], kind="stable")
    ids = rows["trial_id"].to_numpy(dtype=object)
    at, values = rows["epoch"].to_numpy(), rows[metric].to_numpy()
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]]) if len(ids) else np.zeros(0, int)
    spans = {ids[a]: slice(a, b) for a, b in zip(starts, [*starts[1:], len(ids)], strict=False)}
    found = []
    for trial_id, number, status, arm in trials[["trial_id", "number", "status", "arm"]].itertuples(index=False):
        span = spans.get(trial_id)
        if span is not None:
            found.append(Curve(trial_id, int(number), status, arm, at[span], values[span]))
    return found
