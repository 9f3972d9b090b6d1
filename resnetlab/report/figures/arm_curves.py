"""The study's objective by epoch, on the validation split and as the steps saw it, a panel for each named arm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from resnetlab.analysis.learning_curves import Curve, learning_curves
from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.report.figures.shared import C, Style, legend, panels_beside
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import listed, shown
from resnetlab.report.rendering import Drawing
from resnetlab.study.metrics import METRICS, Metric

NAMES = ("arm-curves",)
SECTION, PLACE = "curves", 80
PANELS = 16  # arms up to which each has a panel of curves


def drawings(findings: Findings) -> list[Drawing]:
    """None for a plan of factors."""
    if not findings.named_arms:
        return []
    results, searched = findings.results, findings.searched
    names = [arm.name for arm in results.planned.arms][:PANELS]
    groups: list[dict[str, list[Curve]]] = []
    for column in (searched.name, searched.name.replace("val_", "train_", 1)):
        there = column in results.epochs
        curves = learning_curves(results.confirm, results.epochs, column) if there else []
        found = {name: [curve for curve in curves if curve.arm == name] for name in names}
        groups.append({name: some for name, some in found.items() if some})
    validation, training = groups
    if not validation:
        return []
    counts = Counts.of(results.confirm).words("confirm")
    last = [f"{name} {shown(np.mean([c.values[-1] for c in some]), searched)}" for name, some in validation.items()]
    what, seen = searched.label, ""
    if training:
        what = f"Training and {searched.words}"
        seen = f"Training {searched.short} (on augmented images, as the steps saw them) and "
    alt = f"{what} by epoch, a panel for each of {len(last)} arms. At the end: {listed(last)}."
    caption = (
        f"{seen}{searched.words if seen else searched.label} by epoch, a line for each run, a panel for each arm; the "
        "other arms' means are behind."
    )
    draw = partial(draw_arm_curves, validation=validation, training=training, metric=searched)
    one, two = (0.7 + 1.25 * math.ceil(len(validation) / beside) for beside in (2, 4))
    return [Drawing("arm-curves", (one, two), draw, counts, alt, caption, columns=2 if len(validation) > 4 else 1)]


def draw_arm_curves(
    ax: Axes, validation: Mapping[str, Sequence[Curve]], training: Mapping[str, Sequence[Curve]], metric: Metric
) -> None:
    """A panel for each arm: its validation curves (a line a run) and training curves, the other arms' means behind."""
    figure = ax.figure
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
        for curves, colour, style in ((training.get(arm, ()), C["orange"], "--"), (validation[arm], C["blue"], "-")):
            for curve in curves:
                drawn: Style = dict(color=colour, ls=style, lw=0.9, zorder=3) | _dot(curve)
                panel.plot(curve.epochs, metric.scale * curve.values, **drawn)
        panel.set_title(arm, loc="left", pad=2)
        panel.tick_params(labelbottom=place + beside >= len(validation), labelleft=place % beside == 0)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if place % beside == 0:
            panel.set_ylabel(replace(metric, label=metric.heading).axis)
        if place + beside >= len(validation):
            panel.set_xlabel(METRICS["epoch"].axis)
    assert first is not None
    if max(curve.epochs[-1] for curves in validation.values() for curve in curves) == 1:
        first.set_xlim(0.5, 1.5)
    for label, colour, style in (("validation, a line a run", C["blue"], "-"),
                                 *([("training", C["orange"], "--")] if training else []),
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
