"""What one trial is: everything that changes its answer, frozen, validated and named by a hash.

Not here, because they change only how fast the answer comes: device, number of workers, threads, storage.
"""

from __future__ import annotations

import json
from functools import cached_property
from hashlib import blake2b
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

Dataset = Literal["glyphs", "cifar10", "cifar100", "folder"]
Optimizer = Literal["sgd", "adam", "adamw", "rmsprop"]
Schedule = Literal["constant", "cosine", "one-cycle", "step", "constant-exponential"]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd, got {value}")
    return value


# Settings that only one optimizer, schedule or other choice reads. Elsewhere they are None, so that two configs that
# train the same network alike are one config.
APPLIES: dict[str, tuple[str, frozenset[Any]]] = {
    "momentum": ("optimizer", frozenset({"sgd", "rmsprop"})),
    "nesterov": ("optimizer", frozenset({"sgd"})),
    "beta2": ("optimizer", frozenset({"adam", "adamw"})),
    "step_at": ("schedule", frozenset({"step"})),
    "step_factor": ("schedule", frozenset({"step"})),
    "constant_part": ("schedule", frozenset({"constant-exponential"})),
    "warmup_part": ("schedule", frozenset({"one-cycle"})),
}
DEFAULTS: dict[str, Any] = {
    "momentum": 0.9,
    "nesterov": False,
    "beta2": 0.999,
    "step_at": 0.5,
    "step_factor": 0.1,
    "constant_part": 0.5,
    "warmup_part": 0.3,
}


class Frozen(BaseModel):
    """A validated value: no unknown keys, no changes afterwards, no infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)


class DataConfig(Frozen):
    """Which images, which label, which split. `root`, `font_dir` and `download` say only where the bytes lie."""

    name: Dataset
    root: str | None = Field(None, description="folder of the data, where the dataset is read from files")
    label: str | None = Field(None, description="glyphs: `character` or `font`; cifar100: `fine` or `coarse`")
    font_dir: str | None = Field(None, description="glyphs: further fonts, besides those that matplotlib ships")
    variants: int = Field(24, ge=1, le=1000, description="glyphs: images per font and character")
    size: int | None = Field(None, ge=4, le=1024, description="folder: resize to size x size pixels")
    mode: Literal["rgb", "grey"] | None = Field(None, description="folder: convert all images to this mode")
    val_fraction: float = Field(0.1, gt=0.0, lt=0.9, description="of the training images, where there is no val split")
    test_fraction: float = Field(0.15, gt=0.0, lt=0.9, description="of all images, where there is no test split")
    limit: int | None = Field(None, ge=10, description="at most so many training images (a smoke run)")
    download: bool = Field(False, description="cifar: fetch the archive if it is absent")

    def identity(self) -> dict[str, Any]:
        """The part that changes the answer; the bytes themselves are named by the dataset's own hash."""
        return self.model_dump(exclude={"root", "font_dir", "download"})


class TrialConfig(Frozen):
    """One training run in full. Every factor of a study is one of these fields; `factor_fields()` lists them."""

    data: DataConfig

    model: Literal["resnet"] = "resnet"
    blocks: int = Field(3, ge=1, le=64, description="residual blocks")
    kernel: Annotated[int, AfterValidator(_odd)] = Field(3, ge=1, le=11, description="of the blocks' convolutions, odd")
    width: int = Field(16, ge=1, le=2048, description="channels of the stem")
    downsample: int = Field(2, ge=0, le=6, description="blocks that halve the map and double the channels")
    shortcut: bool = Field(True, description="add each block's input to its output")
    se: bool = Field(False, description="squeeze-excitation in each block")
    pool: Literal["average", "flatten"] = Field("average", description="from the last map to the head's input")
    head_depth: int = Field(1, ge=1, le=8, description="linear layers of the head")
    head_width: int = Field(128, ge=1, le=16384, description="hidden units of the head, where head_depth > 1")
    dropout: Fraction = Field(0.0, description="before each linear layer of the head")
    frozen: int = Field(0, ge=0, description="leading stages not trained: 1 is the stem, 2 the first block too, …")

    optimizer: Optimizer = "sgd"
    lr: float = Field(0.1, gt=0.0, le=100.0, description="peak learning rate")
    momentum: Fraction | None = None
    nesterov: bool | None = None
    beta2: Fraction | None = None
    weight_decay: float = Field(0.0, ge=0.0, le=10.0)
    label_smoothing: Fraction = 0.0
    schedule: Schedule = "constant"
    step_at: float | None = Field(None, gt=0.0, lt=1.0, description="step: part of the run between two drops")
    step_factor: Fraction | None = Field(None, description="step: multiply by this at each drop")
    constant_part: Fraction | None = Field(None, description="constant-exponential: part at the peak rate")
    warmup_part: Fraction | None = Field(None, description="one-cycle: part of the run that rises")

    batch: int = Field(128, ge=1, le=65536)
    epochs: int = Field(10, ge=1, le=100_000, description="the full budget; schedules end here")
    crop: int = Field(0, ge=0, le=64, description="pad by so many pixels and crop at random")
    flip: bool = Field(False, description="mirror half of the images left to right")
    rotation: float = Field(0.0, ge=0.0, le=180.0, description="rotate by up to so many degrees either way")

    seed: int = Field(0, ge=0, description="root of the streams init, order, augment, dropout")
    split_seed: int = Field(0, ge=0, description="root of the splits")

    @model_validator(mode="before")
    @classmethod
    def _conditional(cls, values: Any) -> Any:
        """Fill conditional settings where they apply, drop them where they do not."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        for name, (parent, where) in APPLIES.items():
            if values.get(parent, cls.model_fields[parent].default) not in where:
                values[name] = None
            elif values.get(name) is None:
                values[name] = DEFAULTS[name]
        if values.get("head_depth", 1) == 1:
            values.pop("head_width", None)  # a single linear layer has no hidden units
        return values

    @model_validator(mode="after")
    def _feasible(self) -> TrialConfig:
        if self.downsample > self.blocks:
            raise ValueError(f"need downsample <= blocks, got downsample={self.downsample}, blocks={self.blocks}")
        if self.frozen > self.blocks + 1:
            raise ValueError(f"need frozen <= blocks + 1 (the stem), got frozen={self.frozen}, blocks={self.blocks}")
        if self.nesterov and not self.momentum:
            raise ValueError(f"nesterov needs momentum > 0, got momentum={self.momentum}")
        return self

    @classmethod
    def factor_fields(cls) -> frozenset[str]:
        """The fields that a study may vary."""
        return frozenset(cls.model_fields) - {"data", "seed", "split_seed", "epochs"}

    @classmethod
    def check_level(cls, name: str, value: Any) -> None:
        """ValidationError or ValueError where `value` alone cannot be a level of the field `name`."""
        info = cls.model_fields[name]
        taken = TypeAdapter(Annotated[info.annotation, "field", *info.metadata]).validate_python(value)  # type: ignore[misc]
        if taken != value or isinstance(taken, bool) != isinstance(value, bool):
            raise ValueError(f"need {type(taken).__name__}, got {value!r}")

    def identity(self) -> dict[str, Any]:
        return self.model_dump(exclude={"data"}) | {"data": self.data.identity()}

    @cached_property
    def trial_id(self) -> str:
        """12 hexadecimal digits of a hash over the whole config, never only what differs from the baseline."""
        return digest(self.identity())[:12]


def digest(value: Any) -> str:
    """A stable hash (32 hexadecimal digits) of a JSON-like value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return blake2b(text.encode(), digest_size=16).hexdigest()
