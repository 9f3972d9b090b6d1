"""Confusion matrices on the test split: one for each named arm that is shown, else that of the design's centre."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from resnetlab.analysis.evaluation import test_predictions
from resnetlab.report.figures.shared import MANY, MARKS, POINT, C, Named, arms_shown, figure_of
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import percent
from resnetlab.report.rendering import Drawing
from resnetlab.wording import natural

NAMES = tuple(f"confusion-{n}" for n in range(1, len(MARKS) + 1))
SECTION, PLACE = "classes", 100
MATRIX = 60  # classes up to which all are drawn; of more, the SHOWN with the most mistakes, and the others as one
SHOWN = 40
MOST = 500  # classes up to which there is a matrix; beyond, the most frequent mistakes are a table
WIDE = 24  # classes from which a figure has two columns, so that each has its name
SMALLEST, LARGEST = 4.0, 6.5  # points of a name
PLOTTED = 0.72  # of a figure's width: the matrix beside its names
NUMBERED = 12  # classes up to which the cells of a confusion matrix carry their share


def drawings(findings: Findings) -> list[Drawing]:
    """None of an arm whose predictions were not kept, or whose classes are too many for a matrix."""
    results, arms = findings.results, findings.arms
    shown = arms_shown(findings.named_arms, findings.searched) or [
        arm for arm in arms if arm.name == results.planned.around
    ]
    made = []
    for name, arm in zip(NAMES, shown, strict=False):
        rows = results.classes[(results.classes["trial_id"] == arm.ids[0]) & (results.classes["split"] == "test")]
        names = rows.sort_values("class")["name"].tolist()
        if not 2 <= len(names) <= MOST or not set(arm.ids) & set(findings.predictions.labels):
            continue
        counts = test_predictions.confusion(findings.predictions, arm, len(names))
        right = np.trace(counts) / counts.sum()
        order = sorted(range(len(names)), key=lambda at: natural(names[at]))
        counts, names = counts[np.ix_(order, order)], [names[at] for at in order]
        every = len(names)
        if every > MATRIX:
            counts, kept = condensed(counts)
            order, names = [order[at] for at in kept], [names[at] for at in kept]
        alt = f"Confusion matrix of {arm.name}, {every} classes; {percent(right)} of the images are on the diagonal."
        caption = (
            f"{arm.name}: what each class was taken for on the test split, all runs together"
            + (", percent of the class" if len(names) <= NUMBERED else "")
            + ". Cells darken with the root of the share, so that rare mistakes show."
        )
        named, foot = Named.of(names, order), findings.arm_counts([arm])
        labels = list(named.names)
        if every > MATRIX:
            caption += (
                f" The {SHOWN} classes with the most mistakes of {every:,}; the others are the last row and column."
            )
            labels.append(f"{every - SHOWN:,} others")
        draw = partial(draw_confusion, counts=counts, names=labels)
        columns = 2 if len(labels) > WIDE else 1
        made.append(Drawing(name, (3.7, 7.2), draw, foot, alt, caption + named.key, columns, fonts=named.fonts))
    return made


def condensed(counts: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """(n, n) counts -> (SHOWN + 1, SHOWN + 1) with all but SHOWN classes as one, which comes last; and which are shown.

    Shown are those with the most mistakes, of the class and into it, in their order.
    """
    wrong = counts - np.diag(np.diag(counts))
    kept = np.sort(np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:SHOWN])
    place = np.full(len(counts), SHOWN)
    place[kept] = np.arange(SHOWN)
    found = np.zeros((SHOWN + 1, SHOWN + 1), counts.dtype)
    np.add.at(found, (place[:, None], place[None, :]), counts)
    return found, kept.tolist()


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
    size = min(LARGEST, 0.75 * POINT * PLOTTED * figure_of(ax).get_figwidth() / n)
    step = max(1, math.ceil(SMALLEST / size))  # where every name would be too small, every second or third
    ticks = range(0, n, step)
    for axis, turn in ((ax.xaxis, 90), (ax.yaxis, 0)):
        axis.set_ticks(list(ticks), [names[i] for i in ticks], fontsize=max(size, SMALLEST), rotation=turn)
    ax.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), xlabel="Predicted as", ylabel="Class", aspect="equal")
    ax.tick_params(length=0)
    ax.grid(visible=False)
