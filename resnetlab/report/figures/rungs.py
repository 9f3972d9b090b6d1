"""What ASHA did at each rung: every trial that arrived, against the cutoff that it met."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from resnetlab.analysis.explore.stopping import rung_summary
from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.report.figures.shared import MANY, SIZE, C, Style, legend
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import listed
from resnetlab.report.rendering import Drawing
from resnetlab.study.metrics import Metric

NAMES = ("rungs",)
SECTION, PLACE = "asha", 60


def drawings(findings: Findings) -> list[Drawing]:
    """None where no trial reached a rung."""
    results = findings.results
    if results.explore.empty or results.rungs.empty:
        return []
    summary = rung_summary(results.rungs)
    said = [
        f"at epoch {r.epoch} {r.arrived:,} arrived, {r.stopped:,} were stopped, {r.exempt:,} were exempt"
        for r in summary.itertuples(index=False)
    ]
    caption = (
        "What was decided at each rung: trials from left to right in the order of arrival, each against the cutoff "
        "that it met, where the rule has one. Within a rung all trials have the same number of epochs."
    )
    draw = partial(draw_rungs, rungs=results.rungs, summary=summary, metric=findings.searched)
    foot, alt = Counts.of(results.explore).words(), f"Rungs: {listed(said)}."
    return [Drawing("rungs", SIZE, draw, foot, alt, caption, columns=2 if len(summary) > 4 else 1)]


def draw_rungs(ax: Axes, rungs: pd.DataFrame, summary: pd.DataFrame, metric: Metric) -> None:
    """One band a rung, trials from left to right as they arrived, the cutoff that each met as a step."""
    scale = metric.scale
    kinds = {
        "continue": ("o", C["blue"], C["blue"], "went on"),
        "stop": ("o", C["axis"], "none", "stopped"),
        "exempt": ("D", C["orange"], C["orange"], "below the cutoff, exempt (audit)"),
    }
    size, strong = (3.2, 1.0) if len(rungs) < MANY else (1.5, 0.6)
    for band, row in enumerate(summary.itertuples(index=False)):
        here = rungs[rungs["rung"] == row.rung].sort_values("recorded")
        x = band - 0.42 + 0.84 * (np.arange(len(here)) + 0.5) / len(here)
        if band % 2 == 0:
            ax.axvspan(band - 0.5, band + 0.5, color=C["band"], lw=0)
        for decision, (marker, edge, face, label) in kinds.items():
            which = (here["decision"] == decision).to_numpy()
            style: Style = dict(color=edge, mfc=face, ms=size, mew=0.2 * size, alpha=strong)
            style["rasterized"] = len(rungs) > MANY
            ax.plot(x[which], scale * here["value"].to_numpy()[which], marker, **style)
            if band == 0:
                ax.plot([], [], marker, color=edge, mfc=face, ms=3.2, mew=0.7, label=label)
        ax.step(x, scale * here["cutoff"], where="mid", color=C["red"], lw=1.1, label=None if band else "cutoff")
    ticks = [f"epoch {r.epoch}\n{r.arrived:,} arrived\n{r.stopped:,} stopped" for r in summary.itertuples(index=False)]
    ax.set_xticks(range(len(summary)), ticks)
    ax.set(ylabel=metric.axis, xlim=(-0.5, max(len(summary), 1) - 0.5))
    ax.tick_params(axis="x", length=0)
    ax.grid(visible=False, axis="x")
    legend(ax)
