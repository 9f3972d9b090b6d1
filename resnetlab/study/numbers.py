"""The numbers of a study's own task or metrics: which way is better, and how people read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, model_validator

from resnetlab.study.frozen import Frozen
from resnetlab.study.metrics import SPLITS, Metric
from resnetlab.study.yaml_io import suggestion

TEST = "test_"  # begins the name of what is returned at the end, on the test split; all others are of each epoch
RESERVED = frozenset({"epoch", "trial_id", "train_seconds", "eval_seconds", "images_per_second", "peak_memory"})
DIRECTED = "allowed: min or max in METRICS, or in metrics of the study"
BETTER: Mapping[str, Literal["lower", "higher", ""]] = {"min": "lower", "max": "higher", "": ""}


class Number(Frozen):
    """What a task yields under one name, or a metric returns. `scale` turns it into what people read, in `unit`."""

    direction: Literal["min", "max", ""] = Field(description="which way is better; empty: neither")
    unit: str = Field("", description="% is shown in percent, and its differences in points")
    scale: float = Field(1.0, gt=0.0, description="100 where the unit is %, of which the code gives fractions")
    digits: int = Field(3, ge=0, le=12, description="after the point")

    @model_validator(mode="before")
    @classmethod
    def _percent(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("unit") != "%":
            return values
        if values.get("scale", 100) != 100:
            raise ValueError(f"scale: need 100 where unit is %, got {values['scale']!r}")
        return values | {"scale": 100}

    def metric(self, name: str) -> Metric:
        """Of a task, as all tables and figures know it."""
        split, _, rest = name.partition("_")
        found = self.score(name)
        return replace(found, label=f"{SPLITS[split]} {rest.replace('_', ' ')}") if split in SPLITS and rest else found

    def score(self, name: str) -> Metric:
        """Of a classifier's scores, on no split yet."""
        return Metric(name, name.replace("_", " "), self.unit, self.scale, BETTER[self.direction], self.digits)


def chosen(numbers: Mapping[str, Number], key: str, name: str, test: bool) -> Metric:
    """The metric that a study's `objective` or `confirm.metric` names. ValueError where it cannot be that.

    test: it must be of the test split; else it must not.
    """
    fit = [other for other, number in numbers.items() if other.startswith(TEST) == test and number.direction]
    if name not in fit:
        undirected = " has no direction" if name in numbers and not numbers[name].direction else ""
        if undirected:
            raise ValueError(f"{key}: {name}{undirected} ({DIRECTED})")
        what = f"a number of the test split, which begins with {TEST}" if test else "a number that each epoch yields"
        known = suggestion(name, fit) if fit else ""
        raise ValueError(f"{key}: need {what}, got {name!r}{known}")
    return numbers[name].metric(name)
