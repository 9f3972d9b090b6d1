"""What ASHA stopped at each rung, and how many epochs that saved."""

from __future__ import annotations

import pandas as pd

from resnetlab.study.records import Status


def rung_summary(rungs: pd.DataFrame) -> pd.DataFrame:
    """What ASHA did: a row for each rung with arrived, went_on, stopped, exempt, and the first and last cutoff."""
    names = ["rung", "epoch", "arrived", "went_on", "stopped", "exempt", "first_cutoff", "last_cutoff"]
    if rungs.empty:
        return pd.DataFrame(columns=names)
    ordered = rungs.sort_values(["rung", "recorded"])
    groups = ordered.groupby("rung")
    summary = pd.DataFrame({"epoch": groups["epoch"].first(), "arrived": groups.size()})
    for name, decision in (("went_on", "continue"), ("stopped", "stop"), ("exempt", "exempt")):
        summary[name] = (ordered["decision"] == decision).groupby(ordered["rung"]).sum()
    summary["first_cutoff"] = groups["cutoff"].first()  # the first that is not null
    summary["last_cutoff"] = groups["cutoff"].last()
    return summary.reset_index()[names]


def epochs_saved(explore: pd.DataFrame) -> int:
    """Epochs that stopped trials did not run: what their full budgets would have cost more."""
    stopped = explore[explore["status"] == Status.STOPPED]
    return int((stopped["epochs_allowed"] - stopped["epochs_run"]).sum())
