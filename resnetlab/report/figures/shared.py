"""What several figures share: sizes, colours, axes, legends, which arms are shown, and names of classes.

Every figure's `draw_x(ax, data)` draws computed data on an axes of a figure of one or two columns, and computes none.
Labels and units come from `resnetlab.study.metrics`. Filled marks are full-budget results, hollow ones are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullFormatter

from resnetlab.analysis.evaluation.test_predictions import ArmRuns, tasks
from resnetlab.analysis.learning_curves import Curve
from resnetlab.report.formatting import compact
from resnetlab.report.rendering import COLUMN, PALETTE, drawable, fonts_for
from resnetlab.study.metrics import METRICS, Metric

Style: TypeAlias = dict[str, Any]  # keywords of one mark or text
C = PALETTE
SIZE = 2.7, 3.4  # inches high, at one and at two columns
MANY = 400  # marks or lines beyond which an SVG carries them as pixels
MARKS = [("o", C["blue"]), ("s", C["red"]), ("D", C["green"]), ("^", C["orange"])]  # of arms in one figure
POINT = 72  # in an inch
KEYED = 20  # names of classes that a caption says


def figure_of(ax: Axes) -> Figure:
    """The figure that an axes is drawn on."""
    return cast(Figure, ax.get_figure(root=True))


def narrow_of(ax: Axes) -> bool:
    """True in a figure of one column."""
    return figure_of(ax).get_figwidth() <= COLUMN


def panels_beside(ax: Axes) -> int:
    """Panels that stand beside each other: two in one column, four in two."""
    return 2 if narrow_of(ax) else 4


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


def epoch_axis(ax: Axes, label: str) -> None:
    """Whole epochs from the first, and the label of the y axis."""
    ax.set(xlabel=METRICS["epoch"].axis, ylabel=label)
    ax.set_xlim(left=max(0.5, ax.get_xlim()[0]))
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def curve_lines(
    ax: Axes, curves: Sequence[Curve], scale: float, colour: str, width: float, raster: bool, marker: str
) -> None:
    """A line for each curve, with a mark at its end. raster: whether an SVG carries them as pixels."""
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


def trials_with_epochs(words: str, without: int) -> str:
    """What a figure of curves rests on: the counts in words, less the trials that recorded no epoch."""
    return f"{words}; {without} recorded no epoch" if without else words


def strip(ax: Axes, metric: Metric, marks: Sequence[tuple[str, str, str, pd.Series]], ranked: int) -> None:
    """A band below the data, of `metric`, for trials that have an x but no value that could be compared."""
    ax.set_ylabel(metric.axis)
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


def arms_shown(arms: Sequence[ArmRuns], searched: Metric) -> list[ArmRuns]:
    """As many arms as there are marks: the first of each task, then the best on the validation split."""
    firsts = [group[0].name for group in tasks(arms).values()]
    rest = sorted((arm for arm in arms if arm.name not in firsts), key=lambda arm: arm.rank(searched))
    chosen = {*firsts, *(arm.name for arm in rest[: max(0, len(MARKS) - len(firsts))])}
    return [arm for arm in arms if arm.name in chosen][: len(MARKS)]


@dataclass(frozen=True)
class Named:
    """Names of classes as a figure can set them: `class 7` for one with a character that no font here has.

    key: which those are, as a sentence for the caption; fonts: families that the others need.
    """

    names: list[str]
    key: str
    fonts: tuple[str, ...]

    @classmethod
    def of(cls, names: Sequence[str], numbers: Sequence[int]) -> Named:
        fonts = fonts_for(names)
        shown, left = [], []
        for name, number in zip(names, numbers, strict=True):
            if drawable(name, fonts):
                shown.append(name)
            else:
                shown.append(f"class {number}")
                left.append(f"class {number} is {name}")
        more = f" and {len(left) - KEYED:,} more" if len(left) > KEYED else ""
        key = f" No font here has the characters of some names: {', '.join(left[:KEYED])}{more}." if left else ""
        return cls(shown, key, fonts)
