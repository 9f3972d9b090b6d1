"""What one trial is: everything that changes its answer, frozen, validated and named by a hash.

Not here, because they change only how fast the answer comes: device, number of workers, threads, storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from resnetlab.builtin import need
from resnetlab.study import catalog, legacy
from resnetlab.study.data_config import DataConfig, made_of, names_of
from resnetlab.study.frozen import Frozen, digest, kinds_of
from resnetlab.study.parts import NONE, PLUS, Joined, Setting
from resnetlab.study.yaml_io import broken_rule

CHOICES = ("model", "loss", "optimizer", "schedule")  # settings that name one part each
Precision = Literal["fp32", "tf32", "bf16"]
PRECISION = (
    "of matrix products and convolutions; fp32 is what its name says on a GPU too, tf32 needs one, bf16 is autocast"
)
DETERMINISTIC = "only algorithms that give the same bits in every run; matters on a GPU"
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
ALWAYS = {"weight_decay": "optimizer", "label_smoothing": "loss"}  # that every built-in one reads; 0 where one does not
SETTINGS = catalog.fields(*CHOICES, "augment")  # of the built-in parts of a trial, by name
MODEL_SETTINGS = tuple(name for name, found in SETTINGS.items() if found.readers[0].key == "model")

# Of the trials table, besides its factors: a setting of an own part that has such a name is called by its part too.
COLUMNS = frozenset(
    [
        "trial_id",
        "study",
        "study_version",
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

    @property
    def depends_on_budget(self) -> bool:
        """Whether an epoch differs with how many there will be. Of a study's own task nobody but its author knows."""
        return True

    @property
    def own_words(self) -> str:
        """The settings that it reads of own parts, for messages: `depth=2, gamma=0.5`."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.own.read(self.__dict__)) or "its defaults"

    def identity(self) -> dict[str, Any]:
        """What the answer depends on."""
        return self.model_dump()

    @cached_property
    def trial_id(self) -> str:
        """12 hexadecimal digits of a hash over the whole config, never only what differs from the baseline."""
        return digest(self.identity())[:12]


class ImageConfig(RunConfig):
    """What every training run of an image classifier has. `TrialConfig` also has the settings that the files of the
    built-in networks, optimizers, schedules and augmentations declare; where nothing reads one it is None, so that two
    configs that train the same network alike are one config."""

    data: DataConfig

    model: str = Field("resnet", description="which network; docs of resnetlab.vision.models say what each is")
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

    loss: str = "cross-entropy"
    optimizer: str = "sgd"
    lr: float = Field(0.1, gt=0.0, le=100.0, description="peak learning rate")
    weight_decay: float = Field(0.0, ge=0.0, le=10.0)
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="of the loss; balanced: each class counts the same, however many training images it has"
    )
    sampling: Literal["shuffled", "balanced"] = Field(
        "shuffled",
        description="balanced: an epoch draws its images with replacement, from each class equally often on average",
    )
    label_smoothing: Fraction = 0.0
    schedule: str = "constant"

    batch_size: int = Field(128, ge=1, le=65536)
    normalise: Literal["train", "half", "unit", "imagenet"] = Field(
        "train",
        description="pixels: by the mean and deviation of the training split (train) or of ImageNet, to -1 … 1 (half), "
        "to 0 … 1 (unit)",
    )
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
        chosen = cls._chosen(values)
        reads = {name: default for part in chosen for name, default in part.defaults.items()}
        for name in SETTINGS:
            if name not in reads:
                values[name] = None
            elif values.get(name) is None:
                values[name] = reads[name]
        for part in chosen:
            if set(part.settings) <= set(values):
                values |= part.declared.settle(values)
        if cls._nothing_to_train(values):
            values["backbone_lr_ratio"] = 1.0
        return values | own

    @classmethod
    def _chosen(cls, values: Mapping[str, Any]) -> list[catalog.Part]:
        """The built-in parts that a trial with these settings uses."""
        found = []
        for key in CHOICES:
            name = values.get(key, cls.model_fields[key].default)
            found += [part for part in [catalog.parts(key).get(str(name))] if part]
        named = str(values.get("augment", NONE)).split(PLUS)
        augments = catalog.parts("augment").values()
        return [*found, *(part for part in augments if part.declared.always or part.name in named)]

    @classmethod
    def _nothing_to_train(cls, values: Mapping[str, Any]) -> bool:
        """True where every stage is frozen. The values are as they were given, of any type."""
        network = catalog.network(str(values.get("model", cls.model_fields["model"].default)))
        try:
            return network is not None and bool(values.get("frozen", 0) == network.stages(values))
        except TypeError:
            return False

    @model_validator(mode="after")
    def _feasible(self) -> Self:
        values = self.__dict__
        for part in self._chosen(values):
            for name in part.settings:
                if SETTINGS[name].differ:
                    _check_rules(part, name, values[name])
            part.declared.limits(values)
        network = catalog.network(self.model)
        if network is None or not network.weights:
            known = [name for name in catalog.parts("model") if (one := catalog.network(name)) and one.weights]
            allowed = not self.weights.isupper()
            need(allowed, f"model {' or '.join(known)} where weights are torchvision's", values, "weights", "model")
        if self.stages is not None:
            need(self.frozen <= self.stages, f"frozen <= {self.stages} (the stages of {self.model})", values, "frozen")
        loss = catalog.parts("loss").get(self.loss)
        rule = f"class_weights = none where loss={self.loss}, which has no such setting"
        weighted = loss is not None and loss.takes("class_weights")
        need(self.class_weights == "none" or weighted, rule, values, "class_weights")
        self._check_own()
        return self

    def _check_own(self) -> None:
        """ValueError where a setting of an own part is missing or out of its bounds, or where none reads one."""
        augments = self.augment.split(PLUS)
        known = [name for name, part in catalog.parts("augment").items() if not part.declared.always]
        known += [part.text for part in self.own.parts if part.key == "augment"]
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
                info: Any = TrialConfig.model_fields[name]
                _check_type(name, Annotated[info.annotation, "field", *info.metadata], getattr(self, name))

    @property
    def stages(self) -> int | None:
        """Stages before the head: the most that can be frozen. None of an own model, which must be built to know it."""
        network = catalog.network(self.model)
        return network.stages(self.__dict__) if network is not None else None

    @property
    def depends_on_budget(self) -> bool:
        """Only schedules know how long the run is."""
        return catalog.depends_on_budget(self.schedule)

    @property
    def own_model(self) -> bool:
        """True where its network is of the study's own code."""
        return self.model not in catalog.parts("model")

    @property
    def reads(self) -> frozenset[str]:
        """The settings of parts that a part of this trial reads."""
        built_in = [name for part in self._chosen(self.__dict__) for name in part.settings]
        return frozenset([*built_in, *self.own.read(self.__dict__)])

    @property
    def network_reads(self) -> frozenset[str]:
        """The settings that its network reads."""
        own = [part for part in self.own.chosen(self.__dict__) if part.key == "model"]
        built_in = catalog.parts("model").get(self.model)
        return frozenset(built_in.settings if built_in else [name for one in own for name in self.own.read_by(one)])

    def identity(self) -> dict[str, Any]:
        return self.model_dump(exclude={"data"}) | {"data": self.data.identity()}

    @cached_property
    def trial_id(self) -> str:
        """12 hexadecimal digits of a hash over the whole config, never only what differs from the baseline."""
        content = self.identity()
        later = [name for name in SETTINGS if name not in legacy.PARTS and content.get(name) is None]
        kept = {name: value for name, value in content.items() if name not in later}
        return digest(legacy.recorded(kept, legacy.SETTINGS))[:12]


if TYPE_CHECKING:

    class TrialConfig(ImageConfig):
        """One training run of an image classifier in full. Every factor of a study is one of its fields."""

        def __init__(self, **values: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

else:
    TrialConfig = made_of(
        "TrialConfig",
        ImageConfig,
        __name__,
        {name: found.unless_read() for name, found in SETTINGS.items()},
        **{
            key: (names_of(key), Field(info.default, description=info.description))
            for key, info in ImageConfig.model_fields.items()
            if key in CHOICES
        },
    )


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


def _check_rules(part: catalog.Part, name: str, value: Any) -> None:
    """ValueError where a setting that parts limit differently breaks the rules of this part."""
    info = part.signature.field(name)
    _check_type(name, Annotated[info.annotation, "field", *info.metadata], value)


def _check_type(name: str, annotation: Any, value: Any) -> None:
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{name}: {broken_rule(error)}, got {value!r}") from None
