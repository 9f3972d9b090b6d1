"""How to run a study: where, on how many nodes, which stage."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from resnetlab.sweep.state_machine import Stage


@dataclass(frozen=True)
class Options:
    """How to run, not what: nothing here changes an answer."""

    storage: str = "results"
    address: str | None = None  # of a Ray cluster, or `auto`; None starts Ray on this machine
    nodes: int = 1  # that the cluster should have before the first trial
    slots: int | None = None  # the most trials that may run at once; None for as many as fit
    cache: Path | None = None
    stage: Stage = "all"
    weights: Path | None = None  # a file, for trials that ask for torchvision's weights by name
    retry_failed: bool = False  # run trials again that failed or ran out of memory
    accept_changed_code: bool = False  # go on with results that other code of the study's own began
    extend: bool = False  # go on with results of a study that asked for less
    ends_process: bool = True  # this process ends with the run; a notebook's goes on
    began: float = field(default_factory=time.monotonic)  # when the run was asked for, by this clock
