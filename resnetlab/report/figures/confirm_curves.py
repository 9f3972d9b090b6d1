"""What was searched for, by epoch, of every confirm run of a plan of factors."""

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

NAMES = ("confirm-curves",)
SECTION, PLACE = "curves", 40


def drawings(findings: Findings) -> list[Drawing]:
    """None for a study of named arms: each of those has a panel of its own (`arm_curves`)."""
    results, metric = findings.results, findings.searched
    curves = [] if results.study.arms else learning_curves(results.confirm, results.epochs, metric.name)
    if not curves:
        return []
    counts = Counts.of(results.confirm)
    alt = f"{metric.label} by epoch of {len(curves)} confirm runs. {counts.words('confirm')}."
    caption = "Confirm: every run has a fresh seed and the full budget; none is stopped."
    draw = partial(draw_confirm_curves, curves=curves, metric=metric, centre=results.planned.around)
    foot = trials_with_epochs(counts.words("confirm"), counts.total - len(curves))
    return [Drawing("confirm-curves", SIZE, draw, foot, alt, caption)]


def draw_confirm_curves(ax: Axes, curves: Sequence[Curve], metric: Metric, centre: str = "incumbent") -> None:
    """Confirm runs, all at the full budget: those of the design's centre against those of the other arms."""
    groups = {"other arms": (False, C["orange"], 0.8), centre: (True, C["blue"], 1.4)}
    for label, (incumbent, colour, width) in groups.items():
        some = [curve for curve in curves if (curve.arm == centre) == incumbent]
        if some:
            curve_lines(ax, some, metric.scale, colour, width, len(curves) > MANY, "")
            ax.plot([], [], color=colour, lw=width, label=f"{label} ({len(some)} runs)")
    lost = [curve for curve in curves if curve.status in (Status.DIVERGED, Status.OUT_OF_MEMORY, Status.FAILED)]
    if lost:
        ends = [(curve.epochs[-1], metric.scale * curve.values[-1]) for curve in lost]
        ax.plot(*zip(*ends, strict=True), "x", color=C["red"], ms=5, label=f"diverged or failed ({len(lost)})")
    epoch_axis(ax, metric.axis)
    legend(ax)
