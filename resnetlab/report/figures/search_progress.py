"""How the search went: the best so far, by trials and by epochs spent."""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from resnetlab.analysis.explore.search_progress import SearchCurve, search_progress
from resnetlab.analysis.trial_outcomes import Counts, full_budget
from resnetlab.report.figures.shared import SIZE, C, legend, strip
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import compact, shown
from resnetlab.report.rendering import Drawing
from resnetlab.study.metrics import Metric
from resnetlab.study.records import Status

NAMES = ("search-trials", "search-epochs")
SECTION, PLACE = "search", 70


def drawings(findings: Findings) -> list[Drawing]:
    """None where nothing was explored."""
    results, metric = findings.results, findings.searched
    if results.explore.empty:
        return []
    progress = search_progress(results.explore, metric)
    foot = Counts.of(results.explore).words()
    full = full_budget(results.explore)
    best = shown(metric.sign * (metric.sign * full[metric.name]).max(), metric) if len(full) else "none yet"
    made = []
    for name, by, what in zip(NAMES, ("number", "spent"), ("trial", "epochs spent"), strict=True):
        alt = f"Best full-budget {metric.words} so far by {what}; at the end {best}."
        caption = f"How the search went, by {what}: the best so far is over full-budget explore trials only."
        if by == "spent":
            caption += " Epochs of stopped and failed trials count as spent."
        draw = partial(draw_search, progress=progress, by=by, metric=metric)
        made.append(Drawing(name, SIZE, draw, foot, alt, caption))
    return made


def draw_search(ax: Axes, progress: SearchCurve, by: str, metric: Metric) -> None:
    """Best so far against the trial's number or the epochs spent; trials without a full-budget result in a strip.

    by: `number` or `spent`.
    """
    scale = metric.scale
    points = progress.points
    best = progress.by_number if by == "number" else progress.by_epochs
    full = points[points["full"]]
    ax.plot(full[by], scale * full["value"], "o", color=C["blue"], ms=3.5, mew=0, alpha=0.7, label="full budget")
    if len(best):
        ax.step(best["at"], scale * best["best"], where="post", color=C["red"], label="best so far")
    stopped = points[points["status"] == Status.STOPPED]
    lost = points[~points["full"] & (points["status"] != Status.STOPPED)]
    marks = [("o", C["axis"], "stopped early", stopped[by]), ("x", C["red"], "diverged or failed", lost[by])]
    ax.set(xlabel="Trial, in the order proposed" if by == "number" else "Epochs spent by all explore trials")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    strip(ax, metric, marks, len(full))
    legend(ax)
