"""The effects on fresh seeds: a row for each comparison, with its interval, once wide and once narrow."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.report.answer import ranked
from resnetlab.report.figures.shared import C, Style, legend, narrow_of
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import asked, interval, signed
from resnetlab.report.rendering import Drawing, fonts_for
from resnetlab.study.metrics import Metric

NAMES = ("effects", "effects-narrow")
SECTION, PLACE = "answer", 10
ROWS = 40  # comparisons in one figure; the table has them all
VERDICTS = {  # verdict: (marker, edge, face)
    "effect": ("o", C["blue"], C["blue"]),
    "equivalent": ("s", C["green"], C["green"]),
    "inconclusive": ("o", C["axis"], C["paper"]),
    "not estimable": ("x", C["axis"], C["paper"]),  # an estimate without an interval
}


def drawings(findings: Findings) -> list[Drawing]:
    """None where no comparison has an estimate."""
    effects = findings.effects
    if not effects["estimate"].notna().any():
        return []
    foot = Counts.of(findings.results.confirm).words("confirm")
    what = f"{findings.metric.words} at the full budget on fresh seeds"
    return of_effects(effects, findings.results.planned.delta, foot, what, findings.effect)


def of_effects(effects: pd.DataFrame, delta: float, foot: str, what: str, metric: Metric) -> list[Drawing]:
    """The figure, wide and narrow. delta: as people read it, 0 for none; what: whose difference of means it is."""
    shown = ranked(effects).head(ROWS)
    alt = f"Effects on {what.partition(' at the ')[0]} with 95% intervals. " + " ".join(
        f"{asked(row)}: {signed(row.estimate, unit=True, metric=metric)} ({interval(row.low, row.high, metric)}), "
        f"{row.verdict}."
        for row in shown.itertuples(index=False)
    )
    left = f" The {ROWS} largest of {len(effects)}." if len(effects) > ROWS else ""
    new = bool((shown["verdict_on"] == "new images").any())
    which = "Thin lines are 95% intervals on new images, thick ones on these," if new else "Lines are 95% intervals,"
    lines = (
        f"{which} not adjusted for the number of comparisons; verdicts are adjusted for it (Holm's method)."
        if shown["low"].notna().any()
        else "One run of each arm gives no interval, so nothing can be judged."
    )
    caption = f"Difference of mean {what}. {lines}{left}"
    draw = partial(draw_effects, effects=shown, delta=delta, metric=metric)
    heights = 0.9 + 0.33 * len(shown), 1.0 + 0.26 * len(shown)
    wide = Drawing("effects", heights, draw, foot, alt, caption, 2, fonts_for([alt, metric.label]))
    return [wide, replace(wide, name="effects-narrow", columns=1)]


def draw_effects(ax: Axes, effects: pd.DataFrame, delta: float, metric: Metric) -> None:
    """Estimates with intervals, one row each, from the top. In two columns: labels at the left, numbers at the right;
    in one: both above the interval.

    delta: half-width of the band of effects too small to matter, percentage points or the metric's unit; 0 for none.
    """
    narrow = narrow_of(ax)
    known = effects["estimate"].notna().to_numpy()
    middle, low, high = (effects[name].to_numpy(float) * metric.scale for name in ("estimate", "low", "high"))
    left, right = _limits(middle[known], low[known], high[known], delta)
    rooms = _rooms(effects, metric)
    if delta:
        ax.axvspan(-delta, delta, color=C["band"], lw=0)
    ax.axvline(0, color=C["axis"], lw=0.8)
    for y, row in enumerate(effects.itertuples(index=False)):
        if known[y]:
            _estimate(ax, y, row.verdict, middle[y], np.clip([low[y], high[y]], left, right))
            if row.verdict_on == "new images" and np.isfinite([row.low_these, row.high_these]).all():
                these = np.clip(metric.scale * np.array([row.low_these, row.high_these]), left, right)
                ax.plot(these, [y, y], color=VERDICTS[row.verdict][1], lw=2.8, solid_capstyle="butt", zorder=1.9)
            for cut, end, arrow in ((low[y] < left, left, "<"), (high[y] > right, right, ">")):
                if cut:  # the interval goes on outside the axes
                    ax.plot(end, y, arrow, color=VERDICTS[row.verdict][1], ms=3.5, clip_on=False)
        said = signed(row.estimate, metric=metric) if known[y] else "not estimable"
        if narrow:
            place: Style = dict(xycoords=("axes fraction", "data"), xytext=(0, 6), textcoords="offset points")
            ax.annotate(f"{asked(row)}: {said}", (0, y), **place, fontsize=6.5)
        elif known[y]:
            _beside(ax, y, said, interval(row.low, row.high, metric), f"{row.n:.0f} / {row.n_reference:.0f}", rooms)
        else:
            ax.text(0, y, f" {said}", color=C["muted"], va="center_baseline", fontsize=6.5)
    ax.set(xlim=(left, right), ylim=(len(effects) - 0.5, -0.9 if narrow else -0.6), xlabel=metric.axis)
    ax.set_yticks([])
    if not narrow:
        _beside(ax, -0.85, metric.unit or "effect", "95% interval", "runs", rooms, color=C["muted"])
        ax.set_yticks(range(len(effects)), [asked(row) for row in effects.itertuples(index=False)])
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    _legend_of_effects(ax, effects, delta)


def _estimate(ax: Axes, y: float, verdict: str, middle: float, ends: np.ndarray) -> None:
    marker, edge, face = VERDICTS[verdict]
    if np.isfinite(ends).all():
        ax.plot(ends, [y, y], color=edge, lw=1.2, solid_capstyle="butt", zorder=1.8)
    ax.plot(middle, y, marker, color=edge, mfc=face, ms=5, mew=1.2)


def _rooms(effects: pd.DataFrame, metric: Metric) -> tuple[float, float, float]:
    """The right ends of the columns of text, points from the axes: wider where the numbers are long."""
    sizes = [len(signed(row.estimate, metric=metric)) for row in effects.itertuples(index=False)]
    spans = [len(interval(row.low, row.high, metric)) for row in effects.itertuples(index=False)]
    first = max(38.0, 4 * max(sizes) + 8)
    second = first + max(76.0, 4 * max(spans) + 8)
    return first, second, second + 30


def _beside(
    ax: Axes, y: float, size: str, span: str, runs: str, rooms: tuple[float, float, float], color: str = C["ink"]
) -> None:
    """Columns of text right of the axes."""
    for text, right in zip((size, span, runs), rooms, strict=True):
        place: Style = dict(xycoords=("axes fraction", "data"), xytext=(right, 0), textcoords="offset points")
        ax.annotate(text, (1, y), **place, va="center_baseline", ha="right", fontsize=6.5, color=color)


def _limits(middle: np.ndarray, low: np.ndarray, high: np.ndarray, delta: float) -> tuple[float, float]:
    """The x axis, points: all estimates and intervals, except ends so far out that the others would be dots."""
    halves = ((high - low) / 2)[np.isfinite(high - low)]
    low, high = np.where(np.isnan(low), middle, low), np.where(np.isnan(high), middle, high)  # one run: no interval
    widest = min(halves.max(), 2.5 * np.median(halves)) if len(halves) else 0.0
    left = max(min([-2 * delta, *(middle - widest)]), min([-2 * delta, *low]))
    right = min(max([2 * delta, *(middle + widest)]), max([2 * delta, *high]))
    margin = 0.03 * (right - left)
    return float(left - margin), float(right + margin)


def _legend_of_effects(ax: Axes, effects: pd.DataFrame, delta: float) -> None:
    words = {"effect": "effect", "equivalent": f"no effect beyond {delta:g}", "inconclusive": "not confirmed"}
    words["not estimable"] = "no interval from these runs"
    for verdict, label in words.items():
        if (effects["estimate"].notna() & (effects["verdict"] == verdict)).any():
            marker, edge, face = VERDICTS[verdict]
            ax.plot([], [], marker, color=edge, mfc=face, ms=4.5, mew=1.2, label=label)
    if delta:
        ax.fill_between([], [], color=C["band"], label=f"±{delta:g}: too small to matter")
    legend(ax)
