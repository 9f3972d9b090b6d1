"""The results that the five published texts print: numbers, claims, and which settings of each arm the text fixes.

`published.json` holds the data; this module defines its form, which is checked when it is read.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from resnetlab.errors import BadData
from resnetlab.study import catalog
from resnetlab.study.frozen import Frozen
from resnetlab.study.yaml_io import explain

Metric = Literal[
    "accuracy",
    "loss",
    "precision",
    "recall",
    "f1",
    "parameters",
    "trainable",
    "untrained_parameters",
    "layer_parameters",
    "layer_width",
    "epoch_time",
    "early_accuracy",
    "converged_accuracy",
    "overtaking_epoch",
    "convergence_epoch",
    "classes_better",
    "perfect_classes",
    "perfect_in_both",
    "best_of_ten_worst",
    "worst_rate",
    "worst_support",
    "epochs",
    "epochs_allowed",
    "batch_size",
    "data_images",
    "data_fonts",
    "data_characters",
]
Split = Literal["train", "val", "test"]
Epoch = Literal["first", "last", "best"] | int
SCALE = {"%": 0.01, "points": 0.01, "minutes": 60.0, "million parameters": 1e6}  # base units per unit; else 1


class What(Frozen):
    """What is compared: a metric of one arm, or its difference from another's.

    metric: accuracy, loss, precision, recall, f1 (`of`: a class, macro or weighted); early_accuracy: mean of epochs 1
    to 5, converged_accuracy: of the last third; overtaking_epoch: from which on `arm` stays above `against`;
    epoch_time: training time of one pass; perfect_classes: without an error, of those with 35 test images or more, as
    are perfect_in_both, worst_rate, worst_support and best_of_ten_worst (the best recall among the ten lowest).
    split: None if the text names none. epoch: first, last, best, or its number.
    """

    arm: str | None = Field(None, description="none: the number is of all arms")
    against: str | None = Field(None, description="the arm that it is compared with")
    metric: Metric
    split: Split | None = None
    epoch: Epoch | None = None
    of: str | None = Field(None, description="a class, an average or a layer")
    where: str = Field(min_length=1, description="section, figure, table or slide of the text")


class Number(What):
    """One printed number, in `unit`, with `digits` decimals (-3: to thousands)."""

    value: float
    to: float | None = Field(None, description="upper end, where a range is printed")
    digits: int = Field(ge=-6, le=20)
    unit: Literal["", "%", "points", "fraction", "nats", "minutes", "epochs", "parameters", "million parameters"]
    approximate: bool = Field(False, description="printed as about, almost, around")
    bound: Literal["at most"] | None = None
    kind: Literal["result", "setting", "data"] = "result"
    note: str = ""

    @model_validator(mode="after")
    def _range(self) -> Number:
        if self.to is not None and self.to <= self.value:
            raise ValueError(f"need value < to, got value={self.value}, to={self.to}")
        if self.digits >= 0 and round(self.value, self.digits) != self.value:
            raise ValueError(f"value={self.value} has more than digits={self.digits} decimals")
        return self

    @property
    def printed(self) -> str:
        """The number as text: `78.3 %`, `5 to 7 points`, `at most 11.1 %`."""
        digits = max(0, self.digits)
        text = f"{self.value:,.{digits}f}" + (f" to {self.to:,.{digits}f}" if self.to is not None else "")
        words = ("about " if self.approximate else "") + (f"{self.bound} " if self.bound else "")
        return f"{words}{text} {self.unit}".rstrip()

    @property
    def rounding(self) -> float:
        """Half a unit of the last printed digit, a whole one if the number is approximate; in `unit`."""
        return 10.0**-self.digits * (1.0 if self.approximate else 0.5)


class Claim(What):
    """A statement of a text about two arms.

    expect: whether `arm` is higher or lower than `against`, or alike. within: for alike, the largest difference in
    percentage points. most_ratio: for higher, the largest ratio. ours: which part of this reading is our choice.
    """

    text: str
    expect: Literal["higher", "lower", "alike"]
    within: float | None = Field(None, gt=0)
    most_ratio: float | None = Field(None, gt=1)
    ours: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Claim:
        if self.arm is None or self.against is None:
            raise ValueError("a claim needs arm and against")
        if (self.expect == "alike") != (self.within is not None):
            raise ValueError("within belongs to expect: alike, and to it alone")
        return self


class PublishedArm(Frozen):
    """An arm of a text: which settings the text fixes, and which are our choice.

    fixed, chosen: settings of a TrialConfig; `text` and `ours` say the same in words. like: the arm of which this is
    another reading.
    """

    epochs: int | None = Field(None, ge=1)
    pretrained: bool = False
    fixed: dict[str, bool | int | float | str] = Field(default_factory=dict)
    chosen: dict[str, bool | int | float | str] = Field(default_factory=dict)
    text: str
    ours: str
    like: str | None = None
    unspecified: bool = Field(False, description="the text does not say enough to build it")


def _known(name: str) -> str:
    if name not in (known := catalog.parts(catalog.DATA)):
        raise ValueError(f"is no dataset (allowed: {', '.join(known)})")
    return name


class Data(Frozen):
    """The dataset of a text. shape: (H, W, C); train, test: numbers of images."""

    name: Annotated[str, AfterValidator(_known)]
    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int


class PublishedStudy(Frozen):
    """A published text: its data, arms, printed numbers and claims."""

    title: str
    authors: str
    seed: str = Field(pattern=r"^\d{3}$")
    data: Data
    arms: dict[str, PublishedArm]
    numbers: tuple[Number, ...]
    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _arms_exist(self) -> PublishedStudy:
        for item in (*self.numbers, *self.claims):
            for name in (item.arm, item.against):
                if name is not None and name not in self.arms:
                    raise ValueError(f"{item.metric}: no arm {name!r} (allowed: {', '.join(self.arms)})")
        for name, arm in self.arms.items():
            if arm.like is not None and arm.like not in self.arms:
                raise ValueError(f"arms.{name}.like: no arm {arm.like!r}")
        return self


class Published(Frozen):
    version: Literal[1]
    studies: dict[str, PublishedStudy]


def read(raw: bytes, source: str) -> Published:
    """Read the content of a published.json. Raises BadData, naming `source` and what is wrong."""
    try:
        return Published.model_validate_json(raw)
    except ValidationError as error:
        raise BadData(explain(error, Published, source)) from None


@cache
def published() -> Published:
    """The published studies that come with the package."""
    file = files(__package__) / "published.json"
    return read(file.read_bytes(), "published.json")
