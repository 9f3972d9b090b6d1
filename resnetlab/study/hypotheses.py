"""What a study claims beforehand, a line each: `kernel 5 > kernel 3 by at least 0.5 points`; read and checked."""

from __future__ import annotations

import re
from typing import Any, Literal

from resnetlab.study.frozen import Frozen
from resnetlab.study.metrics import METRICS, Metric
from resnetlab.study.space import Space
from resnetlab.study.yaml_io import suggestion
from resnetlab.wording import level_text

LONGEST = 300
FORMS = (
    "`kernel 5 > kernel 3`, `kernel 5 > kernel 3 by at least 0.5 points` or `kernel 5 within 0.5 points of kernel 3`"
)
_NUMBER = r"(?P<margin>\d+(?:\.\d+)?)(?: (?P<unit>\S+))?"
_ABOVE = re.compile(rf"(?P<one>[^<>]+?) ?(?P<sign>[<>]) ?(?P<other>[^<>]+?)(?: by at least {_NUMBER})?")
_WITHIN = re.compile(rf"(?P<one>.+?) within {_NUMBER} of (?P<other>.+)")
_SIDE = re.compile(r"(?P<factor>[\w.]+)(?: ?= ?| )(?P<level>.+)")


class Hypothesis(Frozen):
    """`level` against `reference` of one factor, in the metric that is confirmed.

    above: level's value is higher by at least `margin` (0: at all), whichever way is better. within: the two are at
    most `margin` apart. margin: as people read the metric: points where it is in percent.
    """

    text: str
    factor: str
    level: Any
    reference: Any
    relation: Literal["above", "within"]
    margin: float


def read_hypothesis(text: str, space: Space, metric: Metric = METRICS["test_accuracy"]) -> Hypothesis:
    """The hypothesis in one line of a study. ValueError that names the line, the rule and what is allowed."""
    try:
        return _read(text, space, metric)
    except ValueError as error:
        raise ValueError(f"hypotheses: {text!r}: {error}") from None


def _read(text: str, space: Space, metric: Metric) -> Hypothesis:
    line = " ".join(text.split())
    if len(line) > LONGEST:
        raise ValueError(f"{len(line)} characters are too many (allowed: {LONGEST})")
    within = _WITHIN.fullmatch(line)
    found = within or _ABOVE.fullmatch(line)
    if found is None:
        raise ValueError(f"not understood (allowed: {FORMS})")
    margin = float(found["margin"] or 0.0)
    unit = metric.effect.unit
    if metric.fraction and found["margin"] and found["unit"] is None:
        raise ValueError(f"need a margin in points, got {margin:g}")
    if found["unit"] not in (None, unit, unit.removesuffix("s")):
        raise ValueError(f"{metric.words} has differences in {unit or 'no unit'}, got {found['unit']}")
    if (metric.fraction and margin > 100) or (within and margin == 0):
        most = " <= 100" if metric.fraction else ""
        raise ValueError(f"need {'0 <' if within else '0 <='} {unit or 'margin'}{most}, got {margin:g}")
    (factor, one), (other_factor, other) = (_side(found[side], space) for side in ("one", "other"))
    if factor != other_factor:
        raise ValueError(f"both sides must be levels of one factor, got {factor} and {other_factor}")
    if level_text(one) == level_text(other):
        raise ValueError(f"compares {factor} {level_text(one)} with itself")
    if not within and found["sign"] == "<":
        one, other = other, one
    return Hypothesis(
        text=text, factor=factor, level=one, reference=other, relation="within" if within else "above", margin=margin
    )


def _side(text: str, space: Space) -> tuple[str, Any]:
    """Factor and level in `kernel 5` or `kernel=5`."""
    found = _SIDE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} does not name a factor and a level (allowed: {FORMS})")
    name = found["factor"]
    compared = [factor.name for factor in space.factors if factor.compared]
    if name not in space.names:
        raise ValueError(f"{name!r} is not a factor of this study{suggestion(name, compared)}")
    if name not in compared:
        raise ValueError(f"{name} is tuned over a range, not compared (allowed: {', '.join(compared) or 'none'})")
    factor = space[name]
    for level in factor.levels:
        if means_level(found["level"], level):
            return name, level
    raise ValueError(f"{name} has no level {found['level']!r} (allowed: {', '.join(map(_written, factor.levels))})")


def means_level(text: str, level: Any) -> bool:
    """Whether `text`, as a person types it, means this level."""
    if text == _written(level):
        return True
    if isinstance(level, bool):
        return text.lower() in (("true", "yes") if level else ("false", "no"))
    try:
        return isinstance(level, int | float) and float(text) == level
    except ValueError:
        return False


def _written(level: Any) -> str:
    return " ".join(level_text(level).split())
