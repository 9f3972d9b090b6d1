"""Drawing what the arms did: curves, rates by class, confusion, and accuracy against what each arm cost.

As in `figures`: data in, marks out, nothing computed; colours by name, so that the page can turn them dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from resnetlab.analysis.explore.curves import Curve
from resnetlab.experiment.metrics import METRICS
from resnetlab.report.figures.effect_figures import MANY, C, Style, cost_axis, figure_of, legend, panels_beside

MARKS = [("o", C["blue"]), ("s", C["red"]), ("D", C["green"]), ("^", C["orange"])]  # of arms in one figure
NUMBERED = 12  # classes up to which the cells of a confusion matrix carry their share
POINT = 72  # in an inch


def draw_arm_curves(
    ax: Axes, validation: Mapping[str, Sequence[Curve]], training: Mapping[str, Sequence[Curve]]
) -> None:
    """A panel for each arm: validation accuracy (a line a run) and training accuracy, the other arms' means behind."""
    figure, metric = ax.figure, METRICS["val_accuracy"]
    spec = ax.get_subplotspec()
    beside = panels_beside(ax)
    rows = math.ceil(len(validation) / beside)
    ax.remove()
    grid = spec.subgridspec(rows, beside) if spec is not None else None
    first = None
    means = {arm: _mean(curves) for arm, curves in validation.items()}
    for place, arm in enumerate(validation):
        at = () if grid is None else (grid[place // beside, place % beside],)
        panel = figure.add_subplot(*at, sharex=first, sharey=first)
        first = first or panel
        for other, (epochs, values) in means.items():
            if other != arm:
                panel.plot(epochs, metric.scale * values, color=C["axis"], lw=0.7, alpha=0.6, zorder=1)
        for curves, colour, style in ((training[arm], C["orange"], "--"), (validation[arm], C["blue"], "-")):
            for curve in curves:
                drawn: Style = dict(color=colour, ls=style, lw=0.9, zorder=3) | _dot(curve)
                panel.plot(curve.epochs, metric.scale * curve.values, **drawn)
        panel.set_title(arm, loc="left", pad=2)
        panel.tick_params(labelbottom=place + beside >= len(validation), labelleft=place % beside == 0)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if place % beside == 0:
            panel.set_ylabel("Accuracy (%)")
        if place + beside >= len(validation):
            panel.set_xlabel(METRICS["epoch"].axis)
    assert first is not None
    if max(curve.epochs[-1] for curves in validation.values() for curve in curves) == 1:
        first.set_xlim(0.5, 1.5)
    for label, colour, style in (("validation, a line a run", C["blue"], "-"), ("training", C["orange"], "--"),
                                 ("validation, mean of each other arm", C["axis"], "-")):  # fmt: skip
        first.plot([], [], color=colour, ls=style, lw=1.0, label=label)
    legend(first)


def _dot(curve: Curve) -> Style:
    """A mark for a curve of a single epoch, which has no line."""
    return {"marker": "o", "ms": 3} if len(curve.epochs) == 1 else {}


def _mean(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs that all runs have, and the mean over the runs."""
    shortest = min((curve.epochs for curve in curves), key=len)
    return shortest, np.mean([curve.values[: len(shortest)] for curve in curves], axis=0)


def draw_class_accuracy(ax: Axes, names: Sequence[str], recall: pd.DataFrame) -> None:
    """A row for each class, worst first, with a mark for each arm (columns of `recall`, at most as many as MARKS)."""
    y = np.arange(len(recall))
    values = METRICS["test_accuracy"].scale * recall.to_numpy(float)
    ax.hlines(y, np.nanmin(values, axis=1), np.nanmax(values, axis=1), color=C["grid"], lw=1.2, zorder=1)
    for column, (arm, (marker, colour)) in enumerate(zip(recall.columns, MARKS, strict=False)):
        ax.plot(values[:, column], y, marker, color=colour, mfc=colour, ms=3.2, mew=0, alpha=0.9, label=arm)
    ax.set_yticks(y, names, fontsize=6 if len(y) <= 30 else 5)
    ax.set(ylim=(len(y) - 0.4, -0.6), xlabel=METRICS["test_accuracy"].axis)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    legend(ax)


def draw_confusion(ax: Axes, counts: np.ndarray, names: Sequence[str]) -> None:
    """counts: (n, n), row the class, column what it was taken for.

    Cells darken with the root of their share of the row, so that rare mistakes show.
    """
    n = len(counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows, columns = np.nonzero(counts)
    cells = [Rectangle((x - 0.5, y - 0.5), 1, 1) for y, x in zip(rows, columns, strict=True)]
    faces = [to_rgba(C["blue"], math.sqrt(share[y, x])) for y, x in zip(rows, columns, strict=True)]
    ax.add_collection(PatchCollection(cells, facecolors=faces, linewidths=0, rasterized=len(cells) > MANY))
    if n <= NUMBERED:
        for y, x in zip(rows, columns, strict=True):
            if share[y, x] >= 0.005:
                colour = C["paper"] if share[y, x] > 0.35 else C["ink"]
                ax.text(
                    int(x), int(y), f"{100 * share[y, x]:.0f}", ha="center", va="center", fontsize=5.5, color=colour
                )
    size = min(6.5, 0.75 * POINT * 2.7 / n)
    step = max(1, math.ceil(4.0 / size))  # where every name would be too small, every second or third
    ticks = range(0, n, step)
    for axis, turn in ((ax.xaxis, 90), (ax.yaxis, 0)):
        axis.set_ticks(list(ticks), [names[i] for i in ticks], fontsize=max(size, 4.0), rotation=turn)
    ax.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), xlabel="Taken for", ylabel="Class", aspect="equal")
    ax.tick_params(length=0)
    ax.grid(visible=False)


def draw_arm_costs(ax: Axes, costs: pd.DataFrame, cost: str) -> None:
    """Mean test accuracy of each arm, with its 95% interval, against parameters or seconds; names at the right.

    costs: of `analysis.transferred`, and `front`: whether the arm is on its task's Pareto front.
    cost: `parameters`, or `seconds`, where a hollow mark adds those of the source.
    """
    scale = METRICS["test_accuracy"].scale
    tasks = list(dict.fromkeys(costs["task"]))
    shown = {task: MARKS[i % len(MARKS)] for i, task in enumerate(tasks)}
    for row in costs.itertuples(index=False):
        marker, colour = shown[row.task]
        x, y = float(getattr(row, cost)), scale * row.accuracy
        if np.isfinite(row.low):
            ax.plot([x, x], [scale * max(row.low, 0), scale * min(row.high, 1)], color=colour, lw=1.0, alpha=0.6)
        if cost == "seconds" and row.source_seconds > 0:
            ax.plot([x, x + row.source_seconds], [y, y], color=colour, lw=0.8, ls=":")
            ax.plot(x + row.source_seconds, y, marker, color=colour, mfc="none", ms=4, mew=0.9)
        ax.plot(x, y, marker, color=colour, ms=4.5, mew=0)
    for _, arms in costs[costs["front"]].groupby("task"):
        front = arms.sort_values(cost)
        ax.step(front[cost], scale * front["accuracy"], where="post", color=C["red"], lw=0.8, zorder=1)
    every = pd.concat([costs[cost], costs[cost] + costs["source_seconds"]]) if cost == "seconds" else costs[cost]
    cost_axis(ax, every, "train_seconds" if cost == "seconds" else cost)
    ax.set_ylabel(METRICS["test_accuracy"].axis)
    _names(ax, costs, cost, scale)
    if costs["front"].sum() > 1:
        ax.plot([], [], color=C["red"], lw=0.8, label="Pareto front of the means")
    for task in tasks if len(tasks) > 1 else ():
        marker, colour = shown[task]
        ax.plot([], [], marker, color=colour, ms=4, mew=0, label=task)
    if cost == "seconds" and (costs["source_seconds"] > 0).any():
        ax.plot([], [], "o", color=C["muted"], mfc="none", ms=4, mew=0.9, label="with its source's training")
    legend(ax)


def _names(ax: Axes, costs: pd.DataFrame, cost: str, scale: float) -> None:
    """The arms' names in a column right of the axes, in the order of their accuracy, each joined to its mark."""
    ax.autoscale_view()
    low, high = ax.get_ylim()
    ax.set_ylim(low, high)
    order = costs.sort_values("accuracy", kind="stable")
    at = (scale * order["accuracy"].to_numpy() - low) / (high - low)
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
