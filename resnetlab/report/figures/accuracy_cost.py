"""What was searched for, of explore trials, against size and time, with the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from resnetlab.analysis.explore.pareto import pareto
from resnetlab.analysis.results import Results
from resnetlab.analysis.shared_times import shared_times
from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.report.figures.shared import SIZE, C, Style, cost_axis, legend, strip
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import compact, listed, shown
from resnetlab.report.rendering import Drawing
from resnetlab.study.metrics import METRICS, Metric

NAMES = ("accuracy-parameters", "accuracy-time")
SECTION, PLACE = "trade", 50


def drawings(findings: Findings) -> list[Drawing]:
    """None where nothing was explored."""
    results = findings.results
    if results.explore.empty:
        return []
    costs = dict(zip(NAMES, ("parameters", "train_seconds"), strict=True))
    if results.study.experiment:
        del costs["accuracy-parameters"]  # whatever the task has, it is not told
    return [_drawing(results, findings.searched, name, cost) for name, cost in costs.items()]


def _drawing(results: Results, metric: Metric, name: str, cost: str) -> Drawing:
    points = pareto(results.explore, cost, metric)
    front = points[points["front"]]
    numbers = dict(results.explore[["trial_id", "number"]].itertuples(index=False))
    label = METRICS[cost].label.lower()
    ends = [f"{shown(row.value, metric)} at {compact(row.cost)}" for row in front.itertuples(index=False)]
    alt = f"{metric.label} against {label}. " + (
        f"Pareto front of {len(front)} trials: {listed(ends)} {METRICS[cost].unit}".rstrip() + "."
        if ends
        else "No trial reached the full budget."
    )
    caption = (
        f"{metric.label} at the full budget against {label}; the front is of {int(points['full'].sum())} "
        "full-budget explore trials, numbers are trials. Stopped trials stand in the strip: theirs is a lower budget"
    )
    if cost == "train_seconds":
        caption += ", and their place is the time that the full one would have taken at their pace"
        if shared := shared_times(results.explore):
            caption += f". Not fit to compare: {shared}"
    caption += "."
    draw = partial(draw_pareto, points=points, metric=metric, cost=cost, numbers=numbers)
    return Drawing(name, SIZE, draw, Counts.of(results.explore).words(), alt, caption)


def draw_pareto(ax: Axes, points: pd.DataFrame, metric: Metric, cost: str, numbers: Mapping[str, int]) -> None:
    """Full-budget trials with their front; stopped trials in a strip below, where height says nothing.

    numbers: trial_id to the trial's number, written beside the points of the front.
    """
    full, stopped = points[points["full"]], points[~points["full"]]
    scale = metric.scale
    front = full[full["front"]]
    rest = full[~full["front"]]
    style: Style = dict(color=C["blue"], alpha=0.75, ms=3.5, mew=0)
    ax.plot(rest["cost"], scale * rest["value"], "o", label="full budget", **style)
    if len(front):
        ax.step(front["cost"], scale * front["value"], where="post", color=C["red"], lw=1)
        ax.plot(front["cost"], scale * front["value"], "D", color=C["red"], ms=4, label="full budget, on the front")
    cost_axis(ax, points["cost"], cost)
    strip(ax, metric, [("o", C["axis"], "stopped at a lower budget", stopped["cost"])], len(full))
    _name_front(ax, front["cost"], scale * front["value"], [numbers[trial] for trial in front["trial_id"]])
    legend(ax)


def _name_front(ax: Axes, x: pd.Series, y: pd.Series, names: Sequence[int]) -> None:
    """Trial numbers above the points of the front, the best first, those left out that would cover another."""
    ax.autoscale_view()
    taken: list[np.ndarray] = []
    for x_, y_, name in reversed(list(zip(x, y, names, strict=True))):
        at = ax.transAxes.inverted().transform(ax.transData.transform((x_, y_)))
        if all(abs(at - other)[0] > 0.08 or abs(at - other)[1] > 0.08 for other in taken):
            taken.append(at)
            place: Style = dict(xytext=(0, 4), textcoords="offset points", ha="center", fontsize=6)
            ax.annotate(str(name), (x_, y_), **place)
