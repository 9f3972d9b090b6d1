"""The strongest interactions, confirmed or not: the means that they are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.estimands import INTERACTION
from resnetlab.analysis.confirm.interaction_means import InteractionMeans, cells
from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.report.answer import ranked
from resnetlab.report.figures.shared import C, figure_of, panels_beside
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import NARROW, interacting, level, listed
from resnetlab.report.rendering import Drawing, fonts_for
from resnetlab.study.metrics import Metric

NAMES = ("interactions",)
SECTION, PLACE = "interactions", 20
PANELS = 4  # interactions drawn


def drawings(findings: Findings) -> list[Drawing]:
    """None where the plan estimates no interaction."""
    if findings.results.plan is None:
        return []
    foot = Counts.of(findings.results.confirm).words("confirm")
    return of_interactions(findings.effects, findings.runs, foot, findings.metric.words, findings.metric)


def of_interactions(effects: pd.DataFrame, runs: ConfirmRuns, foot: str, what: str, metric: Metric) -> list[Drawing]:
    """The figure of the runs' metric, `what` in a sentence; none where no interaction has an estimate."""
    rows = ranked(effects[(effects["estimand"] == INTERACTION) & effects["estimate"].notna()])
    swaps = [swap for row in rows.head(PANELS).itertuples(index=False) if (swap := interacting(row))]
    found = [one for swap in swaps if (one := cells(runs, swap)) is not None]
    if not found:
        return []
    said = [
        f"{listed(list(one.factors))}: "
        + ", ".join(
            f"{level(a)} with {level(b)} {metric.show(one.mean[i, j]).replace(' ', NARROW)}"
            for i, a in enumerate(one.levels[0])
            for j, b in enumerate(one.levels[1])
        )
        for one in found
    ]
    more = f" The {PANELS} largest of {len(rows)}." if len(rows) > PANELS else ""
    caption = (
        f"Mean {what} at each pair of levels, averaged over the other factors. Lines that are not parallel "
        f"are an interaction. Bars are 95% intervals of each mean, not of the interaction.{more}"
    )
    draw = partial(draw_interactions, found=found, metric=metric)
    heights = 0.5 + 1.7 * math.ceil(len(found) / 2), 0.5 + 1.7 * math.ceil(len(found) / 4)
    alt = f"Means by pairs of levels. {'; '.join(said)}."
    fonts = fonts_for([alt, metric.label])
    return [Drawing("interactions", heights, draw, foot, alt, caption, 1 if len(found) < 3 else 2, fonts)]


def draw_interactions(ax: Axes, found: Sequence[InteractionMeans], metric: Metric) -> None:
    """A panel for each pair of factors: levels of the first from left to right, a line for each level of the second.

    Lines that are not parallel are an interaction. Bars are 95% intervals of the means.
    """
    spec, figure = ax.get_subplotspec(), figure_of(ax)
    beside = panels_beside(ax)
    ax.remove()
    assert spec is not None
    grid = spec.subgridspec(math.ceil(len(found) / beside), beside)
    first = None
    for place, means in enumerate(found):
        panel = figure.add_subplot(grid[place // beside, place % beside], sharey=first)
        first = first or panel
        for j, (marker, colour, style) in enumerate((("o", C["blue"], "-"), ("s", C["orange"], "--"))):
            x, y = np.arange(2) + 0.06 * (2 * j - 1), metric.scale * means.mean[:, j]
            half = np.nan_to_num(metric.scale * means.half[:, j])
            panel.errorbar(x, y, half, color=colour, ls=style, marker=marker, ms=3.5, lw=1.0, elinewidth=0.8)
            name = f"{means.factors[1]} {level(means.levels[1][j])}"
            panel.plot([], [], color=colour, ls=style, marker=marker, ms=3.5, lw=1.0, label=name)
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, ncols=1, fontsize=6)
        panel.set_xticks([0, 1], [level(value) for value in means.levels[0]])
        panel.set(xlim=(-0.3, 1.3), xlabel=means.factors[0])
        panel.grid(visible=False, axis="x")
        panel.yaxis.set_major_locator(MaxNLocator(5))
        panel.tick_params(axis="y", labelleft=place % beside == 0)
        if place % beside == 0:
            panel.set_ylabel(metric.axis)
