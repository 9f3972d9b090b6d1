"""Curves of trials as a chart: paths in a square of 1,000 units, which the page stretches, and evenly spaced ticks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from resnetlab.analysis.learning_curves import Curve
from resnetlab.study.metrics import Metric

POINTS = 60  # of a curve that are drawn, at most
STEPS = (1, 2, 2.5, 5)  # between ticks, times a power of ten


@dataclass(frozen=True)
class Line:
    """One trial. kind: the class of its path. path: as SVG has it. says: its number and its last value."""

    number: int
    kind: str
    path: str
    says: str


@dataclass(frozen=True)
class Chart:
    """values: ticks from the top down; epochs: ticks from the left on. Both are evenly spaced over the whole axis."""

    axis: str
    values: Sequence[str]
    epochs: Sequence[str]
    lines: Sequence[Line]


def chart(curves: Sequence[Curve], metric: Metric, epochs: int, kinds: Mapping[int, str]) -> Chart | None:
    """The chart of `curves`, in their order; None where no value is known.

    Args:
        curves: of the trials; values of `metric` as the tables have them.
        epochs: the most that a trial may run.
        kinds: the class of a trial's line, by its number; empty for all others.
    """
    shown = [(curve, np.asarray(curve.values, float) * metric.scale) for curve in curves]
    known = np.concatenate([np.zeros(0), *(values[np.isfinite(values)] for _, values in shown)])
    if not len(known):
        return None
    heights = _ticks(float(known.min()), float(known.max()), 4)
    widths = _ticks(0, max(epochs, *(int(curve.epochs[-1]) for curve in curves)), 6, whole=True)
    lines = [
        Line(
            curve.number,
            kinds.get(curve.number, ""),
            _path(curve.epochs / widths[-1], (values - heights[0]) / (heights[-1] - heights[0])),
            f"trial {curve.number}: {metric.show(float(curve.values[-1]))} after epoch {curve.epochs[-1]}",
        )
        for curve, values in shown
    ]
    return Chart(metric.axis, [f"{tick:,.6g}" for tick in heights[::-1]], [f"{tick:,.0f}" for tick in widths], lines)


def _ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Two or more round numbers at equal distances, from `low` or below to `high` or above: about `most` steps."""
    if high <= low:
        low, high = (low - abs(low) / 10 - 0.5 * (low == 0), high + abs(high) / 10 + 0.5 * (low == 0))
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    steps = (step * power for power in (size, 10 * size) for step in STEPS)
    step = next(step for step in steps if step * most >= (high - low) * 0.999 and (not whole or step == int(step)))
    first = math.floor(low / step + 1e-9)
    return [step * i for i in range(first, max(first + 1, math.ceil(high / step - 1e-9)) + 1)]


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """x, y: (E,) from 0 to 1. A value that is not finite leaves a gap; a single point is a dot."""
    parts, pen_up = [], True
    for i in sorted({*np.linspace(0, len(x) - 1, min(len(x), POINTS)).astype(int).tolist()}):
        if not np.isfinite(y[i]):
            pen_up = True
            continue
        parts.append(f"{'M' if pen_up else 'L'}{1000 * x[i]:.0f} {1000 * (1 - y[i]):.0f}")
        pen_up = False
    return "".join(parts) + ("h0" if len(parts) == 1 else "")
