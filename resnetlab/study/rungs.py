"""The epochs at which trials are compared with each other while they run."""

from __future__ import annotations


def rung_epochs(grace_period: int, reduction_factor: int, epochs: int) -> list[int]:
    """The epochs at which ASHA decides: `grace_period`, then `reduction_factor` times the one before, below
    `epochs` (at `epochs` a trial is complete)."""
    rungs, epoch = [], grace_period
    while epoch < epochs:
        rungs.append(epoch)
        epoch *= reduction_factor
    return rungs
