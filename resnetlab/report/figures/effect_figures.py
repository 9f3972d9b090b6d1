"""Drawing: each `draw_x(ax, data)` draws computed data on an axes of a figure of one or two columns, and computes none.

Labels and units come from `resnetlab.experiment.metrics`. Filled marks are full-budget results, hollow ones are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter

from resnetlab.analysis.confirm.interaction_means import InteractionMeans
from resnetlab.analysis.explore.curves import Curve, SearchCurve
from resnetlab.experiment.metrics import METRICS
from resnetlab.report.formatting import asked, compact, interval, level, signed
from resnetlab.report.rendering import COLUMN, PALETTE
from resnetlab.study.records import Status

Style: TypeAlias = dict[str, Any]  # keywords of one mark or text
C = PALETTE
VERDICTS = {  # verdict: (marker, edge, face)
    "effect": ("o", C["blue"], C["blue"]),
    "equivalent": ("s", C["green"], C["green"]),
    "inconclusive": ("o", C["axis"], C["paper"]),
    "not estimable": ("x", C["axis"], C["paper"]),  # an estimate without an interval
}
MANY = 400  # marks or lines beyond which an SVG carries them as pixels


def narrow_of(ax: Axes) -> bool:
    """True in a figure of one column."""
    return figure_of(ax).get_figwidth() <= COLUMN


def draw_effects(ax: Axes, effects: pd.DataFrame, delta: float) -> None:
    """Estimates with intervals, one row each, from the top. In two columns: labels at the left, numbers at the right;
    in one: both above the interval.

    delta: half-width of the band of effects too small to matter, percentage points.
    """
    metric, narrow = METRICS["effect"], narrow_of(ax)
    known = effects["estimate"].notna().to_numpy()
    middle, low, high = (effects[name].to_numpy(float) * metric.scale for name in ("estimate", "low", "high"))
    left, right = _limits(middle[known], low[known], high[known], delta)
    ax.axvspan(-delta, delta, color=C["band"], lw=0)
    ax.axvline(0, color=C["axis"], lw=0.8)
    for y, row in enumerate(effects.itertuples(index=False)):
        if known[y]:
            _estimate(ax, y, row.verdict, middle[y], np.clip([low[y], high[y]], left, right))
            for cut, end, arrow in ((low[y] < left, left, "<"), (high[y] > right, right, ">")):
                if cut:  # the interval goes on outside the axes
                    ax.plot(end, y, arrow, color=VERDICTS[row.verdict][1], ms=3.5, clip_on=False)
        said = signed(row.estimate) if known[y] else "not estimable"
        if narrow:
            place: Style = dict(xycoords=("axes fraction", "data"), xytext=(0, 6), textcoords="offset points")
            ax.annotate(f"{asked(row)}: {said}", (0, y), **place, fontsize=6.5)
        elif known[y]:
            _beside(ax, y, said, interval(row.low, row.high), f"{row.n:.0f} / {row.n_reference:.0f}")
        else:
            ax.text(0, y, f" {said}", color=C["muted"], va="center_baseline", fontsize=6.5)
    ax.set(xlim=(left, right), ylim=(len(effects) - 0.5, -0.9 if narrow else -0.6), xlabel=metric.axis)
    ax.set_yticks([])
    if not narrow:
        _beside(ax, -0.85, metric.unit, "95% interval", "runs", color=C["muted"])
        ax.set_yticks(range(len(effects)), [asked(row) for row in effects.itertuples(index=False)])
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    _legend_of_effects(ax, effects, delta)


def _estimate(ax: Axes, y: float, verdict: str, middle: float, ends: np.ndarray) -> None:
    marker, edge, face = VERDICTS[verdict]
    if np.isfinite(ends).all():
        ax.plot(ends, [y, y], color=edge, lw=1.6, solid_capstyle="butt")
    ax.plot(middle, y, marker, color=edge, mfc=face, ms=5, mew=1.2)


def draw_interactions(ax: Axes, found: Sequence[InteractionMeans]) -> None:
    """A panel for each pair of factors: levels of the first from left to right, a line for each level of the second.

    Lines that are not parallel are an interaction. Bars are 95% intervals of the means.
    """
    spec, figure, metric = ax.get_subplotspec(), figure_of(ax), METRICS["test_accuracy"]
    beside = panels_beside(ax)
    ax.remove()
    assert spec is not None
    grid = spec.subgridspec(math.ceil(len(found) / beside), beside)
    first = None
    for place, cells in enumerate(found):
        panel = figure.add_subplot(grid[place // beside, place % beside], sharey=first)
        first = first or panel
        for j, (marker, colour, style) in enumerate((("o", C["blue"], "-"), ("s", C["orange"], "--"))):
            x, y = np.arange(2) + 0.06 * (2 * j - 1), metric.scale * cells.mean[:, j]
            half = np.nan_to_num(metric.scale * cells.half[:, j])
            panel.errorbar(x, y, half, color=colour, ls=style, marker=marker, ms=3.5, lw=1.0, elinewidth=0.8)
            name = f"{cells.factors[1]} {level(cells.levels[1][j])}"
            panel.plot([], [], color=colour, ls=style, marker=marker, ms=3.5, lw=1.0, label=name)
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, ncols=1, fontsize=6)
        panel.set_xticks([0, 1], [level(value) for value in cells.levels[0]])
        panel.set(xlim=(-0.3, 1.3), xlabel=cells.factors[0])
        panel.grid(visible=False, axis="x")
        panel.yaxis.set_major_locator(MaxNLocator(5))
        panel.tick_params(axis="y", labelleft=place % beside == 0)
        if place % beside == 0:
            panel.set_ylabel(metric.axis)


def panels_beside(ax: Axes) -> int:
    """Panels that stand beside each other: two in one column, four in two."""
    return 2 if narrow_of(ax) else 4


def _beside(ax: Axes, y: float, *texts: str, color: str = C["ink"]) -> None:
    """Columns of text right of the axes, at offsets in points."""
    for text, right in zip(texts, (38, 114, 144), strict=True):
        place: Style = dict(xycoords=("axes fraction", "data"), xytext=(right, 0), textcoords="offset points")
        ax.annotate(text, (1, y), **place, va="center_baseline", ha="right", fontsize=6.5, color=color)


def _limits(middle: np.ndarray, low: np.ndarray, high: np.ndarray, delta: float) -> tuple[float, float]:
    """The x axis, points: all estimates and intervals, except ends so far out that the others would be dots."""
    halves = ((high - low) / 2)[np.isfinite(high - low)]
    low, high = np.where(np.isnan(low), middle, low), np.where(np.isnan(high), middle, high)  # one run: no interval
    widest = min(halves.max(), 2.5 * np.median(halves)) if len(halves) else 0.0
    left = max(min([-2 * delta, *(middle - widest)]), min([-2 * delta, *low]))
    right = min(max([2 * delta, *(middle + widest)]), max([2 * delta, *high]))
    margin = 0.03 * (right - left)
    return float(left - margin), float(right + margin)


def _legend_of_effects(ax: Axes, effects: pd.DataFrame, delta: float) -> None:
    words = {"effect": "effect", "equivalent": f"no effect beyond {delta:g}", "inconclusive": "not confirmed"}
    words["not estimable"] = "no interval from these runs"
    for verdict, label in words.items():
        if (effects["estimate"].notna() & (effects["verdict"] == verdict)).any():
            marker, edge, face = VERDICTS[verdict]
            ax.plot([], [], marker, color=edge, mfc=face, ms=4.5, mew=1.2, label=label)
    ax.fill_between([], [], color=C["band"], label=f"±{delta:g}: too small to matter")
    legend(ax)


def draw_learning_curves(ax: Axes, curves: Sequence[Curve], chosen: str | None = None) -> None:
    """Explore: complete trials as lines, stopped ones grey to where they were stopped, lost ones to a cross."""
    metric = METRICS["val_accuracy"]
    raster = sum(len(curve.epochs) for curve in curves) > 20 * MANY
    groups = {
        "complete": ([Status.COMPLETE], C["blue"], "", 0.9),
        "stopped by ASHA": ([Status.STOPPED], C["axis"], "o", 0.7),
        "diverged or failed": ([Status.DIVERGED, Status.OUT_OF_MEMORY, Status.FAILED], C["red"], "x", 0.9),
        "not ended": ([Status.WAITING, Status.RUNNING, Status.INTERRUPTED], C["orange"], ">", 0.9),
    }
    for label, (statuses, colour, marker, width) in groups.items():
        some = [curve for curve in curves if curve.status in statuses]
        if some:
            _lines(ax, some, colour, width, raster, marker)
            ax.plot([], [], color=colour, lw=width, marker=marker, mfc="none", ms=3.5, label=f"{label} ({len(some):,})")
    best = [curve for curve in curves if curve.trial_id == chosen]
    if best:
        _lines(ax, best, C["ink"], 1.8, False, "")
        ax.plot([], [], color=C["ink"], lw=1.8, label=f"chosen: trial {best[0].number}")
    _epoch_axis(ax, metric.axis)
    legend(ax)


def draw_confirm_curves(ax: Axes, curves: Sequence[Curve]) -> None:
    """Confirm runs, all at the full budget: the incumbent's against those of the other arms."""
    groups = {"other arms": (False, C["orange"], 0.8), "incumbent": (True, C["blue"], 1.4)}
    for label, (incumbent, colour, width) in groups.items():
        some = [curve for curve in curves if (curve.arm == "incumbent") == incumbent]
        if some:
            _lines(ax, some, colour, width, len(curves) > MANY, "")
            ax.plot([], [], color=colour, lw=width, label=f"{label} ({len(some)} runs)")
    lost = [curve for curve in curves if curve.status in (Status.DIVERGED, Status.OUT_OF_MEMORY, Status.FAILED)]
    if lost:
        ends = [(curve.epochs[-1], 100 * curve.values[-1]) for curve in lost]
        ax.plot(*zip(*ends, strict=True), "x", color=C["red"], ms=5, label=f"diverged or failed ({len(lost)})")
    _epoch_axis(ax, METRICS["val_accuracy"].axis)
    legend(ax)


def _lines(ax: Axes, curves: Sequence[Curve], colour: str, width: float, raster: bool, marker: str) -> None:
    scale = METRICS["val_accuracy"].scale
    paths = [np.column_stack([curve.epochs, scale * curve.values]) for curve in curves]
    alpha = float(np.clip(16 / len(curves), 0.06, 0.9))
    ax.add_collection(LineCollection(paths, colors=colour, linewidths=width, alpha=alpha, rasterized=raster))
    ends = np.array([path[-1] for path in paths])
    shown = marker or "."
    face = colour if shown == "." else "none"
    size = 3.5 if marker else 2.5
    strong = float(np.clip(60 / len(curves), 0.15, 0.9))
    ax.plot(*ends.T, shown, color=colour, mfc=face, ms=size, mew=0.7, alpha=strong, rasterized=raster)
    ax.autoscale_view()


def draw_pareto(ax: Axes, points: pd.DataFrame, cost: str, numbers: Mapping[str, int]) -> None:
    """Full-budget trials with their front; stopped trials in a strip below, where height says nothing.

    numbers: trial_id to the trial's number, written beside the points of the front.
    """
    full, stopped = points[points["full"]], points[~points["full"]]
    scale = METRICS["val_accuracy"].scale
    front = full[full["front"]]
    rest = full[~full["front"]]
    style: Style = dict(color=C["blue"], alpha=0.75, ms=3.5, mew=0)
    ax.plot(rest["cost"], scale * rest["accuracy"], "o", label="full budget", **style)
    if len(front):
        ax.step(front["cost"], scale * front["accuracy"], where="post", color=C["red"], lw=1)
        ax.plot(front["cost"], scale * front["accuracy"], "D", color=C["red"], ms=4, label="full budget, on the front")
    cost_axis(ax, points["cost"], cost)
    _strip(ax, [("o", C["axis"], "stopped at a lower budget", stopped["cost"])], len(full))
    _name_front(ax, front["cost"], scale * front["accuracy"], [numbers[trial] for trial in front["trial_id"]])
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


def draw_rungs(ax: Axes, rungs: pd.DataFrame, summary: pd.DataFrame) -> None:
    """One band a rung, trials from left to right as they arrived, the cutoff that each met as a step."""
    scale = METRICS["val_accuracy"].scale
    kinds = {
        "continue": ("o", C["blue"], C["blue"], "went on"),
        "stop": ("o", C["axis"], "none", "stopped"),
        "exempt": ("D", C["orange"], C["orange"], "below the cutoff, exempt (audit)"),
    }
    size, strong = (3.2, 1.0) if len(rungs) < MANY else (1.5, 0.6)
    for band, row in enumerate(summary.itertuples(index=False)):
        here = rungs[rungs["rung"] == row.rung].sort_values("recorded")
        x = band - 0.42 + 0.84 * (np.arange(len(here)) + 0.5) / len(here)
        if band % 2 == 0:
            ax.axvspan(band - 0.5, band + 0.5, color=C["band"], lw=0)
        for decision, (marker, edge, face, label) in kinds.items():
            which = (here["decision"] == decision).to_numpy()
            style: Style = dict(color=edge, mfc=face, ms=size, mew=0.2 * size, alpha=strong)
            style["rasterized"] = len(rungs) > MANY
            ax.plot(x[which], scale * here["value"].to_numpy()[which], marker, **style)
            if band == 0:
                ax.plot([], [], marker, color=edge, mfc=face, ms=3.2, mew=0.7, label=label)
        ax.step(x, scale * here["cutoff"], where="mid", color=C["red"], lw=1.1, label=None if band else "cutoff")
    ticks = [f"epoch {r.epoch}\n{r.arrived:,} arrived\n{r.stopped:,} stopped" for r in summary.itertuples(index=False)]
    ax.set_xticks(range(len(summary)), ticks)
    ax.set(ylabel=METRICS["val_accuracy"].axis, xlim=(-0.5, max(len(summary), 1) - 0.5))
    ax.tick_params(axis="x", length=0)
    ax.grid(visible=False, axis="x")
    legend(ax)


def draw_search(ax: Axes, progress: SearchCurve, by: str) -> None:
    """Best so far against the trial's number or the epochs spent; trials without a full-budget result in a strip.

    by: `number` or `spent`.
    """
    scale = METRICS["val_accuracy"].scale
    points = progress.points
    best = progress.by_number if by == "number" else progress.by_epochs
    full = points[points["full"]]
    ax.plot(full[by], scale * full["accuracy"], "o", color=C["blue"], ms=3.5, mew=0, alpha=0.7, label="full budget")
    if len(best):
        ax.step(best["at"], scale * best["best"], where="post", color=C["red"], label="best so far")
    stopped = points[points["status"] == Status.STOPPED]
    lost = points[~points["full"] & (points["status"] != Status.STOPPED)]
    marks = [("o", C["axis"], "stopped by ASHA", stopped[by]), ("x", C["red"], "diverged or failed", lost[by])]
    ax.set(xlabel="Trial, in the order proposed" if by == "number" else "Epochs spent by all explore trials")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    _strip(ax, marks, len(full))
    legend(ax)


def _strip(ax: Axes, marks: Sequence[tuple[str, str, str, pd.Series]], ranked: int) -> None:
    """A band below the data for trials that have an x but no accuracy that could be compared."""
    ax.set_ylabel(METRICS["val_accuracy"].axis)
    marks = [mark for mark in marks if len(mark[3])]
    if not ranked:
        ax.text(0.5, 0.6, "no trial reached the full budget", ha="center", transform=ax.transAxes, color=C["muted"])
        ax.set_yticks([])
    if not marks:
        return
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.19 * (high - low), high)
    ax.add_patch(Rectangle((0, 0), 1, 0.135, transform=ax.transAxes, color=C["band"], lw=0, zorder=0.5))
    for at, (marker, colour, label, x) in enumerate(marks):
        spread = 0.02 + 0.09 * ((np.arange(len(x)) * 0.618) % 1)
        alpha = float(np.clip(200 / len(x), 0.3, 1.0))
        style: Style = dict(color=colour, mfc="none", ms=3, mew=0.7, alpha=alpha, zorder=2 + at)
        style["transform"] = ax.get_xaxis_transform()
        ax.plot(x, spread, marker, rasterized=len(x) > MANY, **style)
        ax.plot([], [], marker, color=colour, mfc="none", ms=3, mew=0.7, label=label)


def _epoch_axis(ax: Axes, label: str) -> None:
    ax.set(xlabel=METRICS["epoch"].axis, ylabel=label)
    ax.set_xlim(left=max(0.5, ax.get_xlim()[0]))
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def cost_axis(ax: Axes, values: pd.Series, name: str) -> None:
    """The x axis of a cost, in the unit that suits its size; logarithmic where it spans much."""
    metric = METRICS[name].suited(values.max())
    positive = metric.scale * values[values > 0]
    if len(positive) and positive.max() > 8 * positive.min():
        ax.set_xscale("log")
        decades = np.log10(positive.max() / positive.min())
        locator: Locator = LogLocator(subs=(1, 2, 5) if decades < 2 else (1,))
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        locator = MaxNLocator(6)
    if metric.scale == 1:
        ax.xaxis.set_major_locator(locator)
    elif len(positive):
        low, high = ax.get_xlim()
        ticks = np.array(locator.tick_values(metric.scale * low, metric.scale * high)) / metric.scale
        ax.set_xticks([tick for tick in ticks if low <= tick <= high])
    ax.set_xlabel(metric.axis)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(metric.scale * value)))


def legend(ax: Axes) -> None:
    """Above the axes, in as many columns as the figure has room for."""
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        widths = [26 + 3.9 * len(label) for label in labels]  # points, at the style's legend size
        room = 72 * figure_of(ax).get_figwidth()
        fits = [n for n in range(1, len(labels) + 1) if _columns_width(widths, n) <= room]
        ncols = max(fits, default=1)
        figure_of(ax).legend(handles, labels, loc="outside upper left", ncols=ncols, columnspacing=1.2)


def _columns_width(widths: Sequence[float], columns: int) -> float:
    """The width of a legend whose entries fill `columns` columns from the top."""
    return sum(float(max(column)) for column in np.array_split(widths, columns))


def figure_of(ax: Axes) -> Figure:
    """The figure that an axes is drawn on."""
    return cast(Figure, ax.get_figure(root=True))
