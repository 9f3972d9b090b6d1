"""Names of the subfolders of a results folder, and of the files in them."""

from __future__ import annotations

CHECKPOINTS = "checkpoints"  # a trial's last two states
KEPT = "kept"  # the last state of explore trials that ran all epochs, for a study that asks for more of them
WEIGHTS = "weights"  # of trials that others start from, and the files given with --weights
CODE = "code"  # the study's own code, by version
PLANS = "plans"  # those that a later plan replaced or followed
VERSIONS = "versions"  # earlier versions of a study that was extended
ERRORS = "errors"  # one text file for each failed trial
PRINTED = "printed"  # one text file for each trial whose code printed something


def checkpoint_names(trial_id: str) -> tuple[str, str]:
    """The names of a trial's last two checkpoints; either may be the newer one."""
    return f"{CHECKPOINTS}/{trial_id}.pt", f"{CHECKPOINTS}/{trial_id}.1.pt"


def kept_name(trial_id: str) -> str:
    """The name of the last state of a trial, where it is kept."""
    return f"{KEPT}/{trial_id}.pt"
