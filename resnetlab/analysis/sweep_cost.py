"""What a sweep cost: epochs, seconds and joules by outcome, and how much of the slots' time was training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from resnetlab.study.records import Phase, Status

SPENT = ("train_seconds", "eval_seconds", "setup_seconds", "checkpoint_seconds")


def cost(trials: pd.DataFrame) -> pd.DataFrame:
    """Epochs, seconds and joules by phase and status, failed and stopped work included; a row each, in a fixed order.

    device_seconds: all four kinds of seconds times the share of the device (the CPUs) that the trial was given; energy:
    NaN where no trial of the row has one.
    """
    columns = ["epochs_run", *SPENT, "device_seconds"]
    share = trials["device_share"].astype(float).fillna(1.0)
    trials = trials.assign(device_seconds=trials[list(SPENT)].astype(float).fillna(0).sum(axis=1) * share)
    groups = trials.assign(energy=trials["energy"].astype(float)).groupby(["phase", "status"])
    sums = groups[columns].sum()
    sums["energy"] = groups["energy"].sum(min_count=1)
    sums.insert(0, "trials", groups.size())
    order = [(phase, status) for phase in Phase for status in Status if (phase, status) in sums.index]
    return sums.reindex(pd.MultiIndex.from_tuples(order, names=["phase", "status"])).reset_index()


@dataclass(frozen=True)
class Efficiency:
    """busy: seconds in which slots trained; offered: slots x wall seconds without those of pauses, over all sessions of
    a sweep that ended.

    reports: epochs that the driver was told of; driver: seconds that these took it; sampler, publishing: its seconds of
    proposing and of writing tables, which are not in `driver`. All 0 in sweeps that did not record them.
    """

    busy: float
    offered: float
    sessions: int
    reports: int = 0
    driver: float = 0.0
    sampler: float = 0.0
    publishing: float = 0.0

    @property
    def share(self) -> float:
        return self.busy / self.offered


def efficiency(sweep: Mapping[str, Any]) -> Efficiency | None:
    """How much of the slots' time was training; None where the sweep did not record it (yet).

    A sweep that was continued has several sessions; one that was killed left no times and is not counted.
    """
    sessions = [s for s in sweep.get("sessions") or [sweep] if s.get("ended") and s.get("slots")]
    offered = sum(s["slots"] * ((s.get("wall_seconds") or 0.0) - (s.get("paused_seconds") or 0.0)) for s in sessions)
    if offered <= 0:
        return None
    names = ("busy_seconds", "reports", "report_seconds", "sampler_seconds", "publish_seconds")
    busy, reports, *driver = (sum(s.get(name) or 0 for s in sessions) for name in names)
    return Efficiency(busy, offered, len(sessions), reports, *driver)
