"""What starting from other weights costs and brings: what is confirmed against time, for named arms."""

from __future__ import annotations

from typing import Any

import pandas as pd

from resnetlab.experiment.scores import guessed
from resnetlab.report.figures import arm_costs
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import duration, headed, listed, missing, shown, signed
from resnetlab.report.layout import Section, Table
from resnetlab.study.metrics import Metric


def section(findings: Findings) -> Section | None:
    """None for a plan of factors; the figures alone where every arm starts from random values."""
    arms, classes = findings.named_arms, findings.results.classes
    if not arms:
        return None
    tested = classes[(classes["split"] == "test") & (classes["support"] > 0)]
    images = [tested[tested["trial_id"] == next(iter(arm.ids), "")]["support"].to_numpy() for arm in arms]
    metric, score = findings.metric, findings.results.study.confirmed_score
    found = findings.arm_costs.assign(
        classes=[len(each) for each in images],
        guessing=[(guessed(score, each) if len(each) else None) for each in images],
    )
    figures = [*arm_costs.NAMES]
    title = f"{metric.heading} against time and size"
    if findings.results.study.experiment:
        figures, title = ["arm-seconds"], f"{metric.heading} against time"
    if (found["start"] == "none").all():
        return Section("arm-costs", title, [], [], figures)
    by_name = found.set_index("arm")
    rows = [
        _cost(row, by_name, metric) for row in found.itertuples(index=False) if row.start != "none" or _used(row, found)
    ]
    headings = ["Arm", "Starts from", "Frozen stages", "Trained parameters", metric.label, "Runs", "Time per epoch",
                "Training", "With its source", "Against", headed(metric.heading, findings.effect), "Training time",
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
    return Section("arm-costs", title, _untaught(found, metric), [table], figures)


def _untaught(found: pd.DataFrame, metric: Metric) -> list[str]:
    """Sources that did not learn their own task: what starts from them shows nothing of transfer."""
    text = []
    for row in found[found["arm"].isin(set(found["start"]))].itertuples(index=False):
        if not missing(row.guessing) and row.value <= row.guessing:
            start = [name for name, source in zip(found["arm"], found["start"], strict=True) if source == row.arm]
            text.append(
                f"{row.arm} did not learn its own task: {_reached(row, metric)}, where "
                f"guessing gives up to {shown(row.guessing, metric)}. So {listed(start)} started from next to nothing, "
                "and say nothing about what transfer brings."
            )
    return text


def _reached(row: Any, metric: Metric) -> str:
    of = "" if metric.short == "accuracy" else f"a {metric.short} of "
    return f"{of}{shown(row.value, metric)} {'of' if not of else 'on'} {row.classes:,} classes"


def _used(row: Any, found: pd.DataFrame) -> bool:
    return row.arm in set(found["reference"]) | set(found["start"])


def _cost(row: Any, by_name: pd.DataFrame, metric: Metric) -> list[object]:
    against = by_name.loc[row.reference] if row.reference else None
    whole = row.seconds + row.source_seconds
    frozen = f"{row.frozen}{', run once' if row.cached else ''}" if row.frozen else "none"
    return [
        row.arm,
        "random values" if row.start == "none" else row.start,
        frozen,
        f"{row.trainable:,.0f} of {row.parameters:,.0f}",
        shown(row.value, metric),
        row.n,
        duration(row.epoch_seconds),
        duration(row.seconds),
        duration(whole) if not missing(whole) else None,
        row.reference or None,
        None if against is None else signed(row.value - against["value"], metric=metric.effect),
        None if against is None else f"{row.seconds / against['seconds']:.2f} ×",
        None if against is None or missing(whole) else f"{whole / against['seconds']:.2f} ×",
    ]
