"""Format numbers and comparisons for the report. Every unit and scale comes from `resnetlab.study.metrics`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, TypeAlias

import pandas as pd

from resnetlab import wording
from resnetlab.study.metrics import METRICS, MINUS, Metric
from resnetlab.wording import level_text

Number: TypeAlias = float | Any  # a cell of a table: it may also be None, NaN or NA
ACCURACY = METRICS["test_accuracy"]
EFFECT = ACCURACY.effect
DASH, TIMES, NARROW = "\u2013", "\u00d7", "\u202f"  # NARROW: a space that does not break


def missing(value: Any) -> bool:
    """True for None, NaN, NaT and NA."""
    return bool(pd.isna(value))


def signed(value: float, unit: bool = False, metric: Metric = EFFECT) -> str:
    """A difference, by default of accuracies: `+1.20`, or `+1.20 points`. metric: a `Metric.effect`."""
    if missing(value):
        return DASH
    return in_unit(metric.signed(value), metric if unit else None)


def correlation(value: float) -> str:
    """A correlation: `+0.33`."""
    return f"{value:+.2f}".replace("-", MINUS)


def amount(value: float, metric: Metric = EFFECT, unit: bool = False) -> str:
    """The size of a difference: `1.20`, or `1.20 points`."""
    return signed(value, unit, metric).lstrip("+")


def in_unit(text: str, metric: Metric | None) -> str:
    return f"{text} {metric.unit}" if metric and metric.unit else text


def headed(text: str, metric: Metric) -> str:
    """The heading of a column of differences: `Estimate (points)`."""
    return f"{text} ({metric.unit})" if metric.unit else text


def interval(low: float, high: float, metric: Metric = EFFECT) -> str:
    """The interval of a difference: `+0.80 … +1.60`."""
    return f"{signed(low, metric=metric)} … {signed(high, metric=metric)}" if not missing(low) else "no interval"


def percent(fraction: float | None) -> str:
    """An accuracy: `84.31 %`."""
    return shown(fraction, ACCURACY)


def shown(value: Number, metric: Metric) -> str:
    """A value of a metric with its unit, joined by a space that does not break."""
    return metric.show(None if missing(value) else value).replace(" ", NARROW)


def span(low: Number, high: Number, metric: Metric) -> str:
    """The interval of a mean, `82.58 % … 83.72 %`; cut at 0 and 100% for a fraction; a dash if there is none."""
    if missing(low) or missing(high):
        return DASH
    if metric.fraction:
        low, high = max(low, 0.0), min(high, 1.0)
    return f"{shown(low, metric)} … {shown(high, metric)}"


def percents(low: Number, high: Number) -> str:
    """The interval of an accuracy."""
    return span(low, high, ACCURACY)


def p_value(p: Number) -> str:
    """A p-value: `0.013`, `<0.001`."""
    if missing(p):
        return DASH
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def compact(value: Number) -> str:
    """A count for an axis or a table: `950`, `33.9k`, `11.2M`."""
    if missing(value):
        return DASH
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}".replace("-", MINUS)


def duration(seconds: Number) -> str:
    """A duration: `0.8 s`, `42 s`, `12 min 05 s`, `3 h 20 min`."""
    return DASH if missing(seconds) else wording.duration(seconds, tenths=True)


def level(value: Any) -> str:
    """A factor's level as a study file has it; a dash if the factor is inactive."""
    if missing(value):
        return DASH
    return f"{value:.4g}" if isinstance(value, float) else level_text(value)


def settings(values: Mapping[str, Any]) -> str:
    """Settings without inactive factors: `blocks 2, kernel 5, shortcut on`."""
    return ", ".join(f"{name} {level(value)}" for name, value in values.items() if not missing(value)) or DASH


def asked(row: Any) -> str:
    """What a row of the effects table compares: `kernel 5 instead of 3`."""
    if row.estimand == "interaction":
        swaps = interacting(row)
        text = f" {TIMES} ".join(f"{factor} {name}" for factor, name in swaps.items()) if swaps else row.name
        return f"{text} (interaction)"
    if not row.level or not row.reference:
        return str(row.name)
    where = row.estimand.partition(" where ")[2].replace("=", " ")
    factor = "" if row.factor == "arm" else f"{row.factor} "
    return f"{factor}{row.level} instead of {row.reference}" + (f" where {where}" if where else "")


def interacting(row: Any) -> dict[str, str]:
    """The two factors of an interaction, each with its level; empty if a name contains the separator of factors or
    levels."""
    factors, levels = row.factor.split(f" {TIMES} "), row.level.split(", ")
    return dict(zip(factors, levels, strict=True)) if len(factors) == len(levels) == 2 else {}


def sentence(row: Any, metric: Metric = EFFECT) -> str:
    """The evidence for one comparison: `95% interval +0.80 … +1.60, n = 3 against 3, adjusted p = 0.013`."""
    runs = f"n = {row.n:.0f} against {row.n_reference:.0f}"
    return f"95% interval {interval(row.low, row.high, metric)}, {runs}, adjusted p {equals(p_value(row.p_adjusted))}"


def equals(text: str) -> str:
    return text.replace("<", "< ") if text.startswith("<") else f"= {text}"


def listed(items: list[str]) -> str:
    """Join items: `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width)) or " "
