"""Checks of a results folder, finished or in progress."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from resnetlab.errors import ResnetlabError
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table


def rows(url: str, table: str) -> list[dict[str, Any]]:
    try:
        found = read_table(ResultsFolder.at(url), table)
    except (OSError, ResnetlabError):
        return []
    return [] if found is None else found.to_pylist()


def wait_for(url: str, epochs: int, seconds: float = 1800, going: Callable[[], bool] = lambda: True) -> int:
    """Wait until so many epochs are acknowledged; their number, which is smaller where the sweep ended before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and going():
        if (seen := len(rows(url, "epochs"))) >= epochs:
            return seen
        time.sleep(0.3)
    return len(rows(url, "epochs"))


def keys(url: str) -> set[tuple[str, int]]:
    return {(row["trial_id"], row["epoch"]) for row in rows(url, "epochs")}


def problems(url: str, trials: int) -> list[str]:
    """What is wrong with a sweep that should have ended well, with `trials` trials."""
    found, epochs = rows(url, "trials"), rows(url, "epochs")
    wrong = []
    if len(found) != trials:
        wrong.append(f"{len(found)} trials instead of {trials}")
    statuses = Counter(row["status"] for row in found)
    if set(statuses) - {"complete", "stopped"}:
        wrong.append(f"statuses {dict(statuses)}: {[row['reason'] for row in found]}")
    if len({(row["trial_id"], row["epoch"]) for row in epochs}) != len(epochs):
        wrong.append("an epoch stands twice")
    if sum(row["epochs_run"] for row in found) != len(epochs):
        wrong.append(f"{len(epochs)} epochs, the trials say {sum(row['epochs_run'] for row in found)}")
    return wrong
