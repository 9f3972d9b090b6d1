"""The epochs at which trials are compared with each other while they run."""

from __future__ import annotations


def rung_epochs(grace: int, reduction: int, epochs: int) -> list[int]:
    """The epochs at which ASHA decides: grace, grace·reduction, … below `epochs` (at `epochs` a trial is complete)."""
    rungs, epoch = [], grace
    while epoch < epochs:
        rungs.append(epoch)
        epoch *= reduction
    return rungs
