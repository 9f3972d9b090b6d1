"""The forest plot: each comparison with the effect of every study, its interval, and the pooled effect below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from resnetlab.comparison.folders import Compared, Comparison
from resnetlab.report.figures.effects import VERDICTS
from resnetlab.report.figures.shared import C, Style, legend, narrow_of
from resnetlab.report.formatting import interval, signed
from resnetlab.report.rendering import Drawing, fonts_for
from resnetlab.study.metrics import Metric
from resnetlab.wording import plural

ROWS = 36  # of one figure
POOLED = "pooled"


@dataclass(frozen=True)
class Line:
    """A row of the plot: a comparison's name (no estimate), a study or the pooled effect. Percentage points, or the
    metric's unit; weight: in the pooled effect, 0 where there is none."""

    label: str
    estimate: float = np.nan
    low: float = np.nan
    high: float = np.nan
    kind: str = "head"
    verdict: str = ""
    weight: float = 0.0


def drawings(comparison: Comparison) -> list[Drawing]:
    """As many figures as the rows need, wide; none where nothing is compared."""
    pages: list[list[Line]] = []
    for one in comparison.compared:
        lines = lines_of(comparison, one)
        if not pages or len(pages[-1]) + len(lines) > ROWS:
            pages.append([])
        pages[-1] += lines
    return [_drawing(comparison, lines, i) for i, lines in enumerate(pages)]


def lines_of(comparison: Comparison, one: Compared) -> list[Line]:
    """The heading of a comparison, its studies, and the pooled effect where there is one."""
    scale = comparison.metric.scale
    weights: Sequence[float] = one.pooled.weights if one.pooled else [0.0] * len(one.answers)
    lines = [Line(one.name)]
    for answer, weight in zip(one.answers, weights, strict=True):
        label = comparison.labels[answer.study]
        estimate, low, high = (scale * value for value in (answer.estimate, answer.low, answer.high))
        lines.append(Line(label, estimate, low, high, "study", answer.verdict, weight))
    if one.pooled:
        estimate, low, high = (scale * value for value in (one.pooled.estimate, one.pooled.low, one.pooled.high))
        lines.append(Line(POOLED, estimate, low, high, POOLED))
    return lines


def _drawing(comparison: Comparison, lines: Sequence[Line], number: int) -> Drawing:
    metric = comparison.metric.effect
    alt = f"Forest plot of effects on {comparison.metric.words}. " + " ".join(
        f"{line.label}:" if line.kind == "head" else f"{line.label} {_size(line, metric)} ({_span(line, metric)})."
        for line in lines
    )
    caption = (
        f"Difference of mean {comparison.metric.words} in each study, with 95% intervals; squares grow with a study's "
        "weight in the pooled effect. Diamonds: the mean over studies (random effects, Paule and Mandel), as wide as "
        "its 95% interval (Hartung and Knapp)."
    )
    foot = f"{plural(len(comparison.labels), 'study').replace('studys', 'studies')}: {', '.join(comparison.labels)}"
    name = "forest" if number == 0 else f"forest-{number + 1}"
    draw = partial(draw_forest, lines=lines, delta=comparison.delta, metric=metric)
    heights = 0.9 + 0.24 * len(lines), 1.0 + 0.22 * len(lines)
    return Drawing(name, heights, draw, foot, alt, caption, 2, fonts_for([alt, foot, metric.label]))


def draw_forest(ax: Axes, lines: Sequence[Line], delta: float, metric: Metric) -> None:
    """A row for each line, from the top. delta: half-width of the band of effects too small to matter."""
    narrow = narrow_of(ax)
    left, right = _limits(lines, delta)
    ax.axvspan(-delta, delta, color=C["band"], lw=0)
    ax.axvline(0, color=C["axis"], lw=0.8)
    for y, line in enumerate(lines):
        if line.kind == "study":
            _study(ax, y, line, left, right)
        elif line.kind == POOLED:
            _diamond(ax, y, line, left, right)
        if line.kind != "head":
            for text, room in ((_size(line, metric), 38), (_span(line, metric), 122)):
                place: Style = dict(xycoords=("axes fraction", "data"), xytext=(room, 0), textcoords="offset points")
                if not narrow:
                    ax.annotate(text, (1, y), **place, va="center_baseline", ha="right", fontsize=6.5)
    ax.set(xlim=(left, right), ylim=(len(lines) - 0.4, -0.8), xlabel=metric.axis)
    ax.set_yticks(range(len(lines)), [line.label if line.kind == "head" else f"{line.label}  " for line in lines])
    for tick, line in zip(ax.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("bold" if line.kind == "head" else "normal")
        tick.set_color(C["ink"] if line.kind != "study" else C["muted"])
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    if delta:
        ax.fill_between([], [], color=C["band"], label=f"±{delta:g}: too small to matter")
    if any(line.kind == POOLED for line in lines):
        ax.plot([], [], "D", color=C["red"], ms=4, label="pooled")
    words = {"effect": "effect in that study", "equivalent": f"no effect beyond {delta:g} there"}
    words["inconclusive"] = "not confirmed there"
    for verdict, label in words.items():
        if any(line.verdict == verdict for line in lines):
            _, edge, face = VERDICTS[verdict]
            ax.plot([], [], "s", color=edge, mfc=face, ms=4, label=label)
    legend(ax)


def _study(ax: Axes, y: int, line: Line, left: float, right: float) -> None:
    _, edge, face = VERDICTS.get(line.verdict, VERDICTS["inconclusive"])
    if np.isfinite([line.low, line.high]).all():
        ax.plot(np.clip([line.low, line.high], left, right), [y, y], color=edge, lw=1.2, solid_capstyle="butt")
        _arrows(ax, y, line, left, right, edge)
    ax.plot(line.estimate, y, "s", color=edge, mfc=face, ms=3 + 4 * line.weight**0.5, mew=1.0)


def _diamond(ax: Axes, y: int, line: Line, left: float, right: float) -> None:
    ends = np.clip([line.low, line.high], left, right)
    ax.fill([ends[0], line.estimate, ends[1], line.estimate], [y, y - 0.28, y, y + 0.28], color=C["red"], lw=0)
    _arrows(ax, y, line, left, right, C["red"])


def _arrows(ax: Axes, y: int, line: Line, left: float, right: float, colour: str) -> None:
    """Where an interval goes on outside the axes."""
    for outside, end, mark in ((line.low < left, left, "<"), (line.high > right, right, ">")):
        if outside:
            ax.plot(end, y, mark, color=colour, ms=3.5, clip_on=False)


def _limits(lines: Sequence[Line], delta: float) -> tuple[float, float]:
    """All studies with their intervals, but for ends so far out that the others would be dots; a pooled interval may
    go on outside."""
    found = [line for line in lines if line.kind == "study"]
    middle = np.array([line.estimate for line in found])
    halves = np.array([(line.high - line.low) / 2 for line in found])
    known = halves[np.isfinite(halves)]
    half = np.minimum(np.nan_to_num(halves), 3 * np.median(known)) if len(known) else np.zeros(len(found))
    pooled = [line.estimate for line in lines if line.kind == POOLED]
    left = min([-2 * delta, *(middle - half), *pooled])
    right = max([2 * delta, *(middle + half), *pooled])
    margin = 0.04 * (right - left)
    return float(left - margin), float(right + margin)


def _size(line: Line, metric: Metric) -> str:
    return signed(line.estimate, metric=_unscaled(metric))


def _span(line: Line, metric: Metric) -> str:
    return interval(line.low, line.high, _unscaled(metric))


def _unscaled(metric: Metric) -> Metric:
    return replace(metric, scale=1.0)
