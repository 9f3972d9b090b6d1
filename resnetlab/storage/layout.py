"""Where things lie in a results folder, beside its tables."""

from __future__ import annotations

CHECKPOINTS = "checkpoints"  # a trial's last two states
WEIGHTS = "weights"  # of trials that others start from, and files that were given with --weights
CODE = "code"  # the study's own, by version
ERRORS = "errors"  # a text for each trial that failed


def checkpoint_names(trial_id: str) -> tuple[str, str]:
    """Where a trial's last two checkpoints lie, in no order."""
    return f"{CHECKPOINTS}/{trial_id}.pt", f"{CHECKPOINTS}/{trial_id}.1.pt"
