"""Times that were taken while trials shared a GPU or a core say nothing about speed: who shared, and how it is said."""

from __future__ import annotations

import pandas as pd


def shared_times(trials: pd.DataFrame) -> str:
    """Which of these trials (rows of the trials table) had less than a whole device; empty where none."""
    if "device_share" not in trials.columns:
        return ""
    known = trials["device_share"].dropna()
    shares = sorted(known[known < 1].unique())
    if not shares:
        return ""
    words = " or ".join(f"{share:g}" for share in shares[:3])
    number = int((known < 1).sum())
    return f"{number:,} of {len(known):,} trials shared a device with others ({words} of one each)"
