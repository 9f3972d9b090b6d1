"""What is confirmed, of each named arm, against training time and size, with the Pareto front of the means."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from resnetlab.analysis.explore.pareto import on_front
from resnetlab.report.figures.shared import MARKS, POINT, C, cost_axis, figure_of, legend
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import duration, listed, shown
from resnetlab.report.rendering import Drawing
from resnetlab.study.metrics import METRICS, Metric

NAMES = ("arm-seconds", "arm-parameters")
SECTION, PLACE = "arm-costs", 110


def drawings(findings: Findings) -> list[Drawing]:
    """None for a plan of factors, and none where fewer than two arms have a value and a time, or a size."""
    if not findings.named_arms:
        return []
    metric, made = findings.metric, []
    for name, cost, what in (
        ("arm-seconds", "seconds", "training time of one run"),
        ("arm-parameters", "parameters", "number of parameters"),
    ):
        found = findings.arm_costs.dropna(subset=["value", "seconds", cost])
        if len(found) < 2:
            continue
        by_task = [on_front(part[cost], metric.sign * part["value"]) for _, part in found.groupby("task", sort=False)]
        found = found.assign(front=pd.concat(by_task))
        said = [
            f"{row.arm} {shown(row.value, metric)} at "
            + (duration(row.seconds) if cost == "seconds" else f"{row.parameters:,.0f}")
            for row in found.itertuples(index=False)
        ]
        caption = f"Mean {metric.words} of each arm, with its 95% interval over seeds, against the {what}."
        if found["front"].sum() > 1:
            caption += " The line is the Pareto front: no other arm costs less and is as good on average."
        if cost == "seconds" and (found["source_seconds"] > 0).any():
            caption += " A hollow mark adds the training of the run that the arm starts from."
        draw = partial(draw_arm_costs, costs=found, cost=cost, metric=metric)
        label = METRICS["train_seconds" if cost == "seconds" else cost].label.lower()
        alt = f"{metric.label} against {label}: {listed(said)}."
        height = max(2.7, 0.9 + 0.15 * len(found))
        made.append(Drawing(name, (height, max(3.4, height)), draw, findings.arm_counts(findings.arms), alt, caption))
    return made


def draw_arm_costs(ax: Axes, costs: pd.DataFrame, cost: str, metric: Metric) -> None:
    """Mean of the metric for each arm, with its 95% interval, against parameters or seconds; names at the right.

    costs: of `analysis.transferred`, and `front`: whether the arm is on its task's Pareto front.
    cost: `parameters`, or `seconds`, where a hollow mark adds those of the source.
    """
    scale = metric.scale
    tasks = list(dict.fromkeys(costs["task"]))
    marks = {task: MARKS[i % len(MARKS)] for i, task in enumerate(tasks)}
    for row in costs.itertuples(index=False):
        marker, colour = marks[row.task]
        x, y = float(getattr(row, cost)), scale * row.value
        if np.isfinite(row.low):
            low, high = (max(row.low, 0), min(row.high, 1)) if metric.fraction else (row.low, row.high)
            ax.plot([x, x], [scale * low, scale * high], color=colour, lw=1.0, alpha=0.6)
        if cost == "seconds" and row.source_seconds > 0:
            ax.plot([x, x + row.source_seconds], [y, y], color=colour, lw=0.8, ls=":")
            ax.plot(x + row.source_seconds, y, marker, color=colour, mfc="none", ms=4, mew=0.9)
        ax.plot(x, y, marker, color=colour, ms=4.5, mew=0)
    for _, arms in costs[costs["front"]].groupby("task"):
        front = arms.sort_values(cost)
        ax.step(front[cost], scale * front["value"], where="post", color=C["red"], lw=0.8, zorder=1)
    every = pd.concat([costs[cost], costs[cost] + costs["source_seconds"]]) if cost == "seconds" else costs[cost]
    cost_axis(ax, every, "train_seconds" if cost == "seconds" else cost)
    ax.set_ylabel(metric.axis)
    _names(ax, costs, cost, scale)
    if costs["front"].sum() > 1:
        ax.plot([], [], color=C["red"], lw=0.8, label="Pareto front of the means")
    for task in tasks if len(tasks) > 1 else ():
        marker, colour = marks[task]
        ax.plot([], [], marker, color=colour, ms=4, mew=0, label=task)
    if cost == "seconds" and (costs["source_seconds"] > 0).any():
        ax.plot([], [], "o", color=C["muted"], mfc="none", ms=4, mew=0.9, label="with its source's training")
    legend(ax)


def _names(ax: Axes, costs: pd.DataFrame, cost: str, scale: float) -> None:
    """The arms' names in a column right of the axes, in the order of their values, each joined to its mark."""
    ax.autoscale_view()
    low, high = ax.get_ylim()
    ax.set_ylim(low, high)
    order = costs.sort_values("value", kind="stable")
    at = (scale * order["value"].to_numpy() - low) / (high - low)
    gap = 8.5 / (POINT * 0.72 * figure_of(ax).get_figheight())  # a line of text as a share of the axes
    places = _apart(at, min(gap, 1 / max(1, len(at) - 1)))
    for row, y, place in zip(order.itertuples(index=False), at, places, strict=True):
        ax.annotate(
            row.arm, (getattr(row, cost), low + y * (high - low)), (1.06, place), textcoords="axes fraction",
            va="center", fontsize=6,
            arrowprops={"arrowstyle": "-", "color": C["grid"], "lw": 0.7, "shrinkA": 1, "shrinkB": 3},
            annotation_clip=False, zorder=0,
        )  # fmt: skip


def _apart(at: np.ndarray, gap: float) -> np.ndarray:
    """Sorted places moved up and down as little as it takes to be `gap` from each other, within 0 and 1."""
    places = at.copy()
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    places -= max(0.0, (places[-1] - 1.0) if len(places) else 0.0)
    for i in range(len(places) - 2, -1, -1):
        places[i] = min(places[i], places[i + 1] - gap)
    shift = max(0.0, -places[0]) if len(places) else 0.0
    return places + shift
