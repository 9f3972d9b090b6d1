"""Test accuracy by class and named arm, the worst class first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from resnetlab.analysis.evaluation import test_predictions
from resnetlab.report.figures.shared import MARKS, C, Named, arms_shown, legend
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import listed, percent
from resnetlab.report.rendering import Drawing
from resnetlab.study.metrics import METRICS

NAMES = ("class-accuracy",)
SECTION, PLACE = "classes", 90
ROWS = 60  # classes up to which each has a row of marks


def drawings(findings: Findings) -> list[Drawing]:
    """Of the first task; none for a plan of factors, and none where the classes are too many to have a row each."""
    shown = arms_shown(findings.named_arms, findings.searched)
    if not shown:
        return []
    group = next(iter(test_predictions.tasks(shown).values()))
    about, recall = test_predictions.recall_by_arm(findings.results.classes, group)
    if not 2 <= len(recall) <= ROWS:
        return []
    names = about["name"].tolist()
    worst = [f"{arm.name} {percent(recall[arm.name].iloc[0])}" for arm in group]
    alt = f"Test accuracy of {len(names)} classes by arm. The hardest class, {names[0]}: {listed(worst)}."
    caption = f"Test accuracy by class, worst first, mean over the runs of {listed([arm.name for arm in group])}."
    named = Named.of(names, about.index)
    draw = partial(draw_class_accuracy, names=named.names, recall=recall)
    height = 0.9 + 0.125 * len(names)
    counts = findings.arm_counts(group)
    return [Drawing("class-accuracy", (height, height), draw, counts, alt, caption + named.key, fonts=named.fonts)]


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
