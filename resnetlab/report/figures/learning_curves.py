"""What was searched for, by epoch, of every explore trial."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes

from resnetlab.analysis.learning_curves import Curve, learning_curves
from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.report.figures.shared import MANY, SIZE, C, curve_lines, epoch_axis, legend, trials_with_epochs
from resnetlab.report.findings import Findings
from resnetlab.report.rendering import Drawing
from resnetlab.study.metrics import Metric
from resnetlab.study.records import Status

NAMES = ("learning-curves",)
SECTION, PLACE = "curves", 30


def drawings(findings: Findings) -> list[Drawing]:
    """None for a study of named arms, which explores nothing."""
    results, metric = findings.results, findings.searched
    curves = [] if results.study.arms else learning_curves(results.explore, results.epochs, metric.name)
    if not curves:
        return []
    counts = Counts.of(results.explore)
    chosen = results.plan.chosen_trial if results.plan else None
    draw = partial(draw_learning_curves, curves=curves, metric=metric, chosen=chosen)
    alt = f"{metric.label} by epoch, one line for each of {len(curves)} explore trials. {counts.words()}."
    caption = "Explore: each line is a trial; a hollow mark is where it was stopped early, a cross where it was lost."
    foot = trials_with_epochs(counts.words(), counts.total - len(curves))
    return [Drawing("learning-curves", SIZE, draw, foot, alt, caption)]


def draw_learning_curves(ax: Axes, curves: Sequence[Curve], metric: Metric, chosen: str | None = None) -> None:
    """Explore: complete trials as lines, stopped ones grey to where they were stopped, lost ones to a cross."""
    raster = sum(len(curve.epochs) for curve in curves) > 20 * MANY
    groups = {
        "complete": ([Status.COMPLETE], C["blue"], "", 0.9),
        "stopped early": ([Status.STOPPED], C["axis"], "o", 0.7),
        "diverged or failed": ([Status.DIVERGED, Status.OUT_OF_MEMORY, Status.FAILED], C["red"], "x", 0.9),
        "not ended": ([Status.WAITING, Status.RUNNING, Status.INTERRUPTED], C["orange"], ">", 0.9),
    }
    for label, (statuses, colour, marker, width) in groups.items():
        some = [curve for curve in curves if curve.status in statuses]
        if some:
            curve_lines(ax, some, metric.scale, colour, width, raster, marker)
            ax.plot([], [], color=colour, lw=width, marker=marker, mfc="none", ms=3.5, label=f"{label} ({len(some):,})")
    best = [curve for curve in curves if curve.trial_id == chosen]
    if best:
        curve_lines(ax, best, metric.scale, C["ink"], 1.8, False, "")
        ax.plot([], [], color=C["ink"], lw=1.8, label=f"chosen: trial {best[0].number}")
    epoch_axis(ax, metric.axis)
    legend(ax)
