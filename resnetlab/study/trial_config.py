"""What one trial is: everything that changes its answer, frozen, validated and named by a hash.

Not here, because they change only how fast the answer comes: device, number of workers, threads, storage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar, get_args

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    model_serializer,
    model_validator,
)

from resnetlab.study import legacy
from resnetlab.study.frozen import Frozen, digest, kinds_of
from resnetlab.study.parts import NONE, PLUS, Joined, OwnData, Part, Setting
from resnetlab.study.yaml_io import broken_rule

Dataset = Literal["glyphs", "cifar10", "cifar100", "folder", "character-fonts", "digits"]
Model = Literal[
    "resnet", "cnn", "cnn-resnet", "mlp", "conv2", "scratch-cnn", "flat-resnet", "resnet18", "resnet34", "resnet50"
]
Optimizer = Literal["sgd", "adam", "adamw", "rmsprop"]
Schedule = Literal["constant", "cosine", "one-cycle", "step", "constant-exponential"]
Loss = Literal["cross-entropy"]
CHOICES: dict[str, Any] = {"model": Model, "loss": Loss, "optimizer": Optimizer, "schedule": Schedule}  # of parts
Precision = Literal["fp32", "tf32", "bf16"]
PRECISION = (
    "of matrix products and convolutions; fp32 is what its name says on a GPU too, tf32 needs one, bf16 is autocast"
)
DETERMINISTIC = "only algorithms that give the same bits in every run; matters on a GPU"
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]

T = TypeVar("T")
if TYPE_CHECKING:  # what reads a setting reads it where it applies, and there it is not None
    Conditional: TypeAlias = T | Any
else:
    Conditional = T | None


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd (allowed: 1, 3, 5, 7, 9, 11), got {value}")
    return value


# What each model reads, with the value that it takes where none is given. A setting that a model does not read is None.
_LIBRARY: dict[str, Any] = {"head_depth": 1, "dropout": 0.0, "input_size": None, "resize": None}
READS: dict[str, dict[str, Any]] = {
    "resnet": {
        "blocks": 3,
        "kernel": 3,
        "width": 16,
        "downsample": 2,
        "shortcut": True,
        "se": False,
        "pool": "average",
        "head_depth": 1,
        "head_width": 128,
        "dropout": 0.0,
    },
    "cnn": {"width": 32, "dropout": 0.0},
    "cnn-resnet": {"width": 32, "shortcut": True, "se": False, "dropout": 0.0},
    "mlp": {"head_depth": 2, "head_width": 4000, "dropout": 0.0},
    "conv2": {"dropout": 0.0},
    "scratch-cnn": {"dropout": 0.25},
    "flat-resnet": {
        "blocks": 4,
        "kernel": 3,
        "padding": 1,
        "shortcut": True,
        "se": False,
        "head_depth": 2,
        "dropout": 0.0,
    },
    "resnet18": _LIBRARY,
    "resnet34": _LIBRARY,
    "resnet50": _LIBRARY,
}
MODEL_SETTINGS = tuple(dict.fromkeys(name for reads in READS.values() for name in reads))
LIBRARY = frozenset(name for name, reads in READS.items() if reads is _LIBRARY)  # torchvision's

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
ALWAYS = {"weight_decay": "optimizer", "label_smoothing": "loss"}  # that every built-in one reads; 0 where one does not
DEFAULTS: dict[str, Any] = {
    "momentum": 0.9,
    "nesterov": False,
    "beta2": 0.999,
    "step_at": 0.5,
    "step_factor": 0.1,
    "constant_part": 0.5,
    "warmup_part": 0.3,
}


ALWAYS_READ = frozenset(
    {"name", "val_fraction", "test_fraction", "limit", "limit_of"}
)  # of DataConfig, by every dataset
NEWER = frozenset(  # of DataConfig: what came after the first results
    [
        "table", "path_column", "label_column", "split_column", "class_from", "group", "class_names", "skip",
        "untrained", "limit_of",
    ]
)  # fmt: skip
PLACES = ("root", "font_dir", "download")  # of DataConfig: where the bytes lie, which is not recorded


def _known_name(name: Any, built_in: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Of a function of one's own, any text; else the name of a built-in dataset."""
    return name if info.data.get("own") and isinstance(name, str) else built_in(name)


class DataConfig(Frozen):
    """Which images, which label, which split. `root`, `font_dir` and `download` say only where the bytes lie."""

    own: OwnData | None = Field(None, description="written by resnetlab: what `name` leads to where it is a reference")
    name: Annotated[Dataset, WrapValidator(_known_name)]
    root: str | None = Field(None, description="folder or archive of the data, where it is read from files")
    label: str | None = Field(
        None, description="glyphs, character-fonts: `character` or `font`; cifar100: `fine` or `coarse`"
    )
    font_dir: str | None = Field(None, description="glyphs: further fonts, besides those that matplotlib ships")
    variants: int = Field(24, ge=1, le=1000, description="glyphs: images per font and character")
    size: int | None = Field(None, ge=4, le=1024, description="folder: resize to size x size pixels")
    mode: Literal["rgb", "grey"] | None = Field(None, description="folder: convert all images to this mode")
    val_fraction: float = Field(0.1, gt=0.0, lt=0.9, description="of the training images, where there is no val split")
    test_fraction: float = Field(0.15, gt=0.0, lt=0.9, description="of all images, where there is no test split")
    limit: int | None = Field(None, ge=10, description="at most so many training images (a smoke run)")
    download: bool = Field(False, description="cifar: fetch the archive if it is absent")
    table: str | None = Field(
        None, description="folder: CSV, TSV, JSON-lines or Parquet file with a row for each image; its path from `root`"
    )
    path_column: str | None = Field(None, description="of `table`: the image's path; by itself path, file, image, …")
    label_column: str | None = Field(None, description="of `table`: the class; by itself label, class, category, …")
    split_column: str | None = Field(None, description="of `table`: train, val or test; by itself split, where it is")
    class_from: int | str | None = Field(
        None,
        description="folder: an image's class: the name of a folder above it (1: the first below the split's, -1: the "
        "one that it lies in), or what the group of a regular expression finds in its path",
    )
    group: int | str | None = Field(
        None,
        description="folder: images that stay together in every split, such as frames of one scene: a folder or a "
        "regular expression as of class_from, or a column of `table`",
    )
    class_names: str | None = Field(
        None, description="folder: file with a name for each class, to be read by people: CSV, TSV or JSON, from `root`"
    )
    skip: int = Field(0, ge=0, description="folder: go on without at most so many images that cannot be used")
    untrained: Literal["refuse", "leave-out"] = Field(
        "refuse", description="folder: classes that have validation or test images, and none for training"
    )
    limit_of: Literal["train", "all"] = Field(
        "train", description="limit: thin the training images alone, or validation and test images by the same share"
    )

    @model_serializer(mode="wrap")
    def _without_later(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings that came after the first results are not written, nor hashed, where they have their defaults."""
        found: dict[str, Any] = written(self)
        fields = type(self).model_fields
        return {name: value for name, value in found.items() if name not in NEWER or value != fields[name].default}

    @model_validator(mode="before")
    @classmethod
    def _published_split(cls, values: Any) -> Any:
        """character-fonts: 70/15/15 of all images where nothing else is said, as in the published study."""
        if isinstance(values, dict) and values.get("name") == "character-fonts":
            return {"val_fraction": 3 / 17} | values
        return values

    def identity(self) -> dict[str, Any]:
        """The part that changes the answer; the bytes themselves are named by the dataset's own hash."""
        found = self.model_dump(exclude={*PLACES, "own"})
        return found | {"settings": dict(self.own.settings)} if self.own else found


# Of the trials table, besides its factors: a setting of an own part that has such a name is called by its part too.
COLUMNS = frozenset(
    [
        "trial_id",
        "study",
        "number",
        "phase",
        "status",
        "reason",
        "arm",
        "plan_hash",
        "design_row",
        "seed_block",
        "config",
        "seed",
        "split_seed",
        "stop_probability",
        "epochs_run",
        "epochs_allowed",
        "val_accuracy",
        "val_accuracy_best",
        "val_loss",
        "test_accuracy",
        "test_loss",
        "parameters",
        "trainable",
        "multiply_adds",
        "train_seconds",
        "eval_seconds",
        "setup_seconds",
        "checkpoint_seconds",
        "restarts",
        "device",
        "device_share",
        "threads",
        "settings",
        "weights_hash",
        "prefix_cached",
        "prefix_seconds",
        "energy",
        "host",
        "started",
        "ended",
        "data_hash",
        "git_revision",
        "versions",
    ]
)
FIXED = frozenset({"data", "seed", "split_seed", "epochs", "precision", "deterministic", "experiment"})  # no factors


class RunConfig(Frozen):
    """What every trial has, whatever it does: a budget and seeds. `factor_fields()` lists what a study may vary.

    A study that brings parts of its own has a type of its own, with their settings: see `trial_type`. base: the class
    with the settings that are not of own parts.
    """

    own: ClassVar[Joined] = Joined()
    base: ClassVar[type[RunConfig]]
    described: ClassVar[str] = "[]"  # the parts, as JSON

    epochs: int = Field(10, ge=1, le=100_000, description="the full budget; schedules end here")
    seed: int = Field(0, ge=0, description="root of the streams init, order, augment, dropout")
    split_seed: int = Field(0, ge=0, description="root of the splits")

    def _check_read(self) -> dict[str, Setting]:
        """The own settings that this trial reads; ValueError where one is missing or out of its bounds."""
        read = self.own.read(self.__dict__)
        for name, setting in read.items():
            if getattr(self, name) is None:
                if setting.required:
                    reader = next(part for part in self.own.chosen(self.__dict__) if name in self.own.read_by(part))
                    raise ValueError(f"{name}: is missing: {reader.key} {reader.text} has no default for it")
                continue
            _check_type(name, setting.annotation, getattr(self, name))
        return read

    @classmethod
    def factor_fields(cls) -> frozenset[str]:
        """The fields that a study may vary."""
        return frozenset(cls.model_fields) - FIXED

    @classmethod
    def kinds(cls, name: str) -> frozenset[Any]:
        """The plain types of the field `name`; none where there is no such field."""
        annotation: Any = cls.model_fields[name].annotation if name in cls.model_fields else None
        return kinds_of(annotation)

    @classmethod
    def check_level(cls, name: str, value: Any) -> None:
        """ValidationError or ValueError where `value` alone cannot be a level of the field `name`."""
        kinds: list[Any] = [setting.annotation for _, _, setting in cls.own.names.get(name, ())]
        if name in cls.base.model_fields or not kinds:
            info = (cls if name in CHOICES else cls.base).model_fields[name]
            kinds.append(Annotated[info.annotation, "field", *info.metadata])
        for number, kind in enumerate(kinds, start=1):
            try:
                taken: Any = TypeAdapter(kind).validate_python(value)
                break
            except ValidationError:
                if number == len(kinds):
                    raise
        if taken != value or isinstance(taken, bool) != isinstance(value, bool):
            raise ValueError(f"need {type(taken).__name__}, got {value!r}")

    def identity(self) -> dict[str, Any]:
        """What the answer depends on."""
        return self.model_dump()

    @cached_property
    def trial_id(self) -> str:
        """12 hexadecimal digits of a hash over the whole config, never only what differs from the baseline."""
        return digest(self.identity())[:12]


class TrialConfig(RunConfig):
    """One training run of an image classifier in full. Every factor of a study is one of these fields."""

    data: DataConfig

    model: Model = Field(
        "resnet", description="which family; READS says what each reads, docs of resnetlab.vision.models what it is"
    )
    blocks: Conditional[int] = Field(None, ge=1, le=64, description="residual blocks")
    kernel: Conditional[Annotated[int, AfterValidator(_odd)]] = Field(
        None, ge=1, le=11, description="of the blocks' convolutions, odd"
    )
    padding: Conditional[int] = Field(
        None, ge=0, le=5, description="of the blocks' convolutions; below kernel // 2 each of them shrinks the map"
    )
    width: Conditional[int] = Field(None, ge=1, le=2048, description="channels of the stem or first convolution")
    downsample: Conditional[int] = Field(
        None, ge=0, le=6, description="blocks that halve the map and double the channels"
    )
    shortcut: Conditional[bool] = Field(None, description="add each block's input to its output")
    se: Conditional[bool] = Field(None, description="squeeze-excitation in each block")
    pool: Conditional[Literal["average", "flatten"]] = Field(None, description="from the last map to the head's input")
    head_depth: Conditional[int] = Field(None, ge=1, le=8, description="linear layers of the head")
    head_width: Conditional[int] = Field(
        None, ge=1, le=16384, description="hidden units of the head, where head_depth > 1"
    )
    dropout: Conditional[Fraction] = Field(
        None, description="before each linear layer of the head (scratch-cnn: after each pool; twice that in the head)"
    )
    input_size: Conditional[int] = Field(
        None, ge=8, le=1024, description="enlarge images to so many pixels a side on the device; none: as they are"
    )
    resize: Conditional[Literal["nearest", "bilinear"]] = Field(None, description="how input_size enlarges")
    frozen: int = Field(0, ge=0, description="leading stages not trained: 1 is the stem, 2 the first block too, …")
    weights: str = Field(
        "none",
        pattern=r"^(none|[A-Z][A-Z0-9_]*|file:[0-9a-f]{32}|trial:[0-9a-f]{12})$",
        description="what the stages start from: none (random), torchvision's weights by name, file:<content hash>, "
        "trial:<trial_id of a source task>; the head is always new",
    )
    backbone_lr_ratio: float = Field(
        1.0, gt=0.0, le=100.0, description="learning rate of the stages over the head's, which is lr"
    )
    data_fraction: float = Field(1.0, gt=0.0, le=1.0, description="of the training split that is trained on")

    loss: Loss = "cross-entropy"
    optimizer: Optimizer = "sgd"
    lr: float = Field(0.1, gt=0.0, le=100.0, description="peak learning rate")
    momentum: Conditional[Fraction] = None
    nesterov: Conditional[bool] = None
    beta2: Conditional[Fraction] = None
    weight_decay: float = Field(0.0, ge=0.0, le=10.0)
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="of the loss; balanced: each class counts the same, however many training images it has"
    )
    sampling: Literal["shuffled", "balanced"] = Field(
        "shuffled",
        description="balanced: an epoch draws its images with replacement, from each class equally often on average",
    )
    label_smoothing: Fraction = 0.0
    schedule: Schedule = "constant"
    step_at: Conditional[float] = Field(None, gt=0.0, lt=1.0, description="step: part of the run between two drops")
    step_factor: Conditional[Fraction] = Field(None, description="step: multiply by this at each drop")
    constant_part: Conditional[Fraction] = Field(None, description="constant-exponential: part at the peak rate")
    warmup_part: Conditional[Fraction] = Field(None, description="one-cycle: part of the run that rises")

    batch_size: int = Field(128, ge=1, le=65536)
    normalise: Literal["train", "half", "unit", "imagenet"] = Field(
        "train",
        description="pixels: by the mean and deviation of the training split (train) or of ImageNet, to -1 … 1 (half), "
        "to 0 … 1 (unit)",
    )
    crop: int = Field(0, ge=0, le=64, description="pad by so many pixels and crop at random")
    flip: bool = Field(False, description="mirror half of the images left to right")
    flip_vertical: bool = Field(False, description="mirror half of the images top to bottom")
    rotation: float = Field(0.0, ge=0.0, le=180.0, description="rotate by up to so many degrees either way")
    augment: str = Field(NONE, description="of your own, after crop, flip and rotation; several joined by ` + `")

    precision: Precision = Field("fp32", description=PRECISION)
    deterministic: bool = Field(False, description=DETERMINISTIC)

    @model_validator(mode="before")
    @classmethod
    def _conditional(cls, values: Any) -> Any:
        """Fill conditional settings where they apply, drop them where they do not."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if isinstance(values.get("augment"), list | tuple) and all(isinstance(one, str) for one in values["augment"]):
            values["augment"] = PLUS.join(values["augment"]) or NONE
        own = cls.own.filled(values)
        for name, (parent, where) in APPLIES.items():
            if values.get(parent, cls.model_fields[parent].default) not in where:
                values[name] = None
            elif values.get(name) is None:
                values[name] = DEFAULTS[name]
        reads = READS.get(str(values.get("model", "resnet")), {})
        for name in MODEL_SETTINGS:
            if name not in reads:
                values[name] = None
            elif values.get(name) is None:
                values[name] = reads[name]
        if "head_width" in reads and values["head_depth"] == 1:
            values["head_width"] = reads["head_width"]  # a single linear layer has no hidden units
        values["resize"] = (values["resize"] or "bilinear") if values["input_size"] is not None else None
        if _nothing_to_train(values):
            values["backbone_lr_ratio"] = 1.0
        return values | own

    @model_validator(mode="after")
    def _feasible(self) -> TrialConfig:
        def need(allowed: bool, rule: str, *names: str) -> None:
            if not allowed:
                got = ", ".join(f"{name}={getattr(self, name)}" for name in names)
                raise ValueError(f"need {rule}, got {got}")

        if self.model == "resnet":
            need(self.downsample <= self.blocks, "downsample <= blocks", "downsample", "blocks")
        if self.model == "flat-resnet":
            need(self.blocks <= 4, "blocks <= 4 where model=flat-resnet", "blocks")
            need(self.padding <= self.kernel // 2, "padding <= kernel // 2", "padding", "kernel")
        if self.model == "flat-resnet" or self.model in LIBRARY:
            need(self.head_depth <= 3, f"head_depth <= 3 where model={self.model}", "head_depth")
        if self.model == "scratch-cnn":
            need(self.dropout < 0.5, "dropout < 0.5 where model=scratch-cnn (the head has twice that)", "dropout")
        if self.model not in LIBRARY:
            names = " or ".join(sorted(LIBRARY))
            need(not self.weights.isupper(), f"model {names} where weights are torchvision's", "weights", "model")
        if self.stages is not None:
            need(self.frozen <= self.stages, f"frozen <= {self.stages} (the stages of {self.model})", "frozen")
        need(
            self.class_weights == "none" or self.loss in get_args(Loss),
            f"class_weights = none where loss={self.loss}, which has no such setting",
            "class_weights",
        )
        need(not self.nesterov or bool(self.momentum), "momentum > 0 where nesterov is true", "momentum")
        self._check_own()
        return self

    def _check_own(self) -> None:
        """ValueError where a setting of an own part is missing or out of its bounds, or where none reads one."""
        augments = self.augment.split(PLUS)
        known = [part.text for part in self.own.parts if part.key == "augment"]
        if self.augment != NONE and (not set(augments) <= set(known) or len(set(augments)) < len(augments)):
            allowed = ", ".join([NONE, *known, "your own: [file.py:name]"])
            raise ValueError(f"augment: need names, each once, got {self.augment!r} (allowed: {allowed})")
        read = self._check_read()
        for name, parent in ALWAYS.items():
            if (
                getattr(self, parent) in {part.text for part in self.own.parts}
                and name not in read
                and getattr(self, name)
            ):
                raise ValueError(f"need {name} = 0 where {parent}={getattr(self, parent)}, which has no such setting")
        for name in self.own.names.keys() & TrialConfig.model_fields.keys() - read.keys():
            if getattr(self, name) is not None:
                info = TrialConfig.model_fields[name]
                _check_type(name, Annotated[info.annotation, "field", *info.metadata], getattr(self, name))

    @property
    def stages(self) -> int | None:
        """Stages before the head: the most that can be frozen. None of an own model, which must be built to know it."""
        found: int | None = _stages(self.__dict__)
        return found

    @property
    def reads(self) -> frozenset[str]:
        """The settings that the model reads."""
        own = [
            name for part in self.own.chosen(self.__dict__) if part.key == "model" for name in self.own.read_by(part)
        ]
        return frozenset(READS.get(self.model, own))

    def identity(self) -> dict[str, Any]:
        return self.model_dump(exclude={"data"}) | {"data": self.data.identity()}

    @cached_property
    def trial_id(self) -> str:
        """12 hexadecimal digits of a hash over the whole config, never only what differs from the baseline."""
        return digest(legacy.recorded(self.identity(), legacy.SETTINGS))[:12]


class TaskConfig(RunConfig):
    """One run of a study's own task: all other settings are the task's. experiment: the reference to it."""

    experiment: str = ""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        """Fill in the task's defaults."""
        if not isinstance(values, dict):
            return values
        values = {"experiment": cls.model_fields["experiment"].default} | values
        return values | cls.own.filled(values)

    @model_validator(mode="after")
    def _fitting(self) -> TaskConfig:
        self._check_read()
        return self


TrialConfig.base, TaskConfig.base = TrialConfig, TaskConfig


def starts_from(config: RunConfig) -> str:
    """What the trial's weights are before it begins, as `weights` says it."""
    return config.weights if isinstance(config, TrialConfig) else "none"


def of_images(config: RunConfig) -> TrialConfig:
    """The same, in code that only studies of images reach."""
    assert isinstance(config, TrialConfig), config.trial_id
    return config


def _stages(values: Mapping[str, Any]) -> Any:
    match values.get("model", "resnet"):
        case "resnet" | "flat-resnet":
            return values["blocks"] + 1
        case "cnn" | "cnn-resnet":
            return 3
        case "conv2" | "scratch-cnn":
            return 2
        case "mlp":
            return values["head_depth"] - 1
        case model:
            return 5 if model in LIBRARY else None


def _nothing_to_train(values: Mapping[str, Any]) -> bool:
    """True where every stage is frozen. The values are as they were given, of any type."""
    try:
        return bool(values.get("frozen", 0) == _stages(values))
    except TypeError:
        return False


def _check_type(name: str, annotation: Any, value: Any) -> None:
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{name}: {broken_rule(error)}, got {value!r}") from None


def trial_type(parts: tuple[Part, ...]) -> type[RunConfig]:
    """The type of a trial's config in a study that brings these parts, with the settings of each: a TaskConfig where
    one of them is a task, else a TrialConfig.

    The same parts have the same type in each process, and its instances can be pickled. ValueError where the parts do
    not go together.
    """
    return _type_of(json.dumps([part.model_dump(mode="json") for part in parts])) if parts else TrialConfig


@cache
def _type_of(described: str) -> type[RunConfig]:
    parts = tuple(Part(**content) for content in json.loads(described))
    own, base = Joined(parts, built_in(parts)), _base(parts)
    fields: dict[str, Any] = {}
    for key in (*CHOICES, "experiment"):
        if texts := tuple(part.text for part in parts if part.key == key):
            info, options = base.model_fields[key], (CHOICES[key], *texts) if key in CHOICES else texts
            default = info.default if key in CHOICES else texts[0]
            fields[key] = (Literal[options], Field(default, description=info.description))
    for name, readers in own.names.items():
        (part, _, setting), *others = readers
        kind: Any = setting.annotation
        if others or name in base.model_fields:
            kind = _KINDS[setting.kind]  # each reader has bounds of its own, which `_check_own` knows
        said = setting.description or f"of {part.key} {part.text}"
        default = base.model_fields[name].default if name in base.model_fields else None
        fields[name] = (kind | None, Field(default, description=said))
    create: Any = create_model
    made: type[RunConfig] = create("OwnConfig", __base__=_OwnTask if base is TaskConfig else _OwnTrial, **fields)
    made.own, made.described = own, described
    return made


class _OwnTrial(TrialConfig):
    """Pickled by the description of the parts."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _revived, (self.described, self.__getstate__())


class _OwnTask(TaskConfig):
    """Pickled by the description of the parts."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _revived, (self.described, self.__getstate__())


def _revived(described: str, state: dict[Any, Any]) -> RunConfig:
    kind = _type_of(described)
    made = kind.__new__(kind)
    made.__setstate__(state)
    return made


_KINDS: dict[str, Any] = {"bool": bool, "int": int, "float": float, "str": str}


def _base(parts: tuple[Part, ...]) -> type[RunConfig]:
    return TaskConfig if any(part.key == "experiment" for part in parts) else TrialConfig


def built_in(parts: tuple[Part, ...] = ()) -> dict[str, str]:
    """Each built-in setting, with the key of the part that reads it; also names that settings once had.

    parts: of the study; where one is a task, few settings are left.
    """
    plain = _base(parts)
    every = dict.fromkeys([*COLUMNS, *plain.model_fields, *legacy.SETTINGS], "")
    if plain is TaskConfig:
        return every
    return every | dict.fromkeys(MODEL_SETTINGS, "model") | {name: key for name, (key, _) in APPLIES.items()} | ALWAYS
