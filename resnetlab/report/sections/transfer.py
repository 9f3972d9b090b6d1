"""What starting from other weights costs and brings: accuracy against time, for named arms."""

from __future__ import annotations

from typing import Any

import pandas as pd

from resnetlab.experiment.scores import guessed
from resnetlab.report.figures import arm_costs
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import duration, listed, missing, percent, signed
from resnetlab.report.layout import Section, Table


def section(findings: Findings) -> Section | None:
    """None for a plan of factors; the figures alone where every arm starts from random values."""
    arms, classes = findings.named_arms, findings.results.classes
    if not arms:
        return None
    tested = classes[(classes["split"] == "test") & (classes["support"] > 0)]
    images = [tested[tested["trial_id"] == next(iter(arm.ids), "")]["support"].to_numpy() for arm in arms]
    found = findings.arm_costs.assign(
        classes=[len(each) for each in images],
        guessing=[(guessed("accuracy", each) if len(each) else None) for each in images],
    )
    figures = [*arm_costs.NAMES]
    if (found["start"] == "none").all():
        return Section("arm-costs", "Accuracy against time and size", [], [], figures)
    by_name = found.set_index("arm")
    rows = [_cost(row, by_name) for row in found.itertuples(index=False) if row.start != "none" or _used(row, found)]
    headings = ["Arm", "Starts from", "Frozen stages", "Trained parameters", "Test accuracy", "Runs", "Time per epoch",
                "Training", "With its source", "Against", "Accuracy (points)", "Training time",
                "With its source"]  # fmt: skip
    table = Table(
        headings,
        ["name", "text", "text", "number", "number", "number", "number", "number", "number", "text", *["number"] * 3],
        rows,
        f"{findings.arm_counts(arms)}. Training of one run, mean over runs; frozen stages that ran once for all epochs "
        "count with what that took. A source is trained once for all arms that start from it. Against: the arm of the "
        "same task that starts from random values and is most alike in data and epochs; times as a multiple of its.",
        "What starting from other weights costs and brings",
    )
    return Section("arm-costs", "Accuracy against time and size", _untaught(found), [table], figures)


def _untaught(found: pd.DataFrame) -> list[str]:
    """Sources that did not learn their own task: what starts from them shows nothing of transfer."""
    text = []
    for row in found[found["arm"].isin(set(found["start"]))].itertuples(index=False):
        if not missing(row.guessing) and row.accuracy <= row.guessing:
            start = [name for name, source in zip(found["arm"], found["start"], strict=True) if source == row.arm]
            text.append(
                f"{row.arm} did not learn its own task: {percent(row.accuracy)} of {row.classes:,} classes, where "
                f"guessing gives up to {percent(row.guessing)}. So {listed(start)} started from next to nothing, "
                "and say nothing about what transfer brings."
            )
    return text


def _used(row: Any, found: pd.DataFrame) -> bool:
    return row.arm in set(found["reference"]) | set(found["start"])


def _cost(row: Any, by_name: pd.DataFrame) -> list[object]:
    against = by_name.loc[row.reference] if row.reference else None
    whole = row.seconds + row.source_seconds
    frozen = f"{row.frozen}{', run once' if row.cached else ''}" if row.frozen else "none"
    return [
        row.arm,
        "random values" if row.start == "none" else row.start,
        frozen,
        f"{row.trainable:,.0f} of {row.parameters:,.0f}",
        percent(row.accuracy),
        row.n,
        duration(row.epoch_seconds),
        duration(row.seconds),
        duration(whole) if not missing(whole) else None,
        row.reference or None,
        None if against is None else signed(row.accuracy - against["accuracy"]),
        None if against is None else f"{row.seconds / against['seconds']:.2f} ×",
        None if against is None or missing(whole) else f"{whole / against['seconds']:.2f} ×",
    ]
