"""A study: the question, the baseline, the factors, how to search and how to confirm. Read from YAML, checked whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from resnetlab.errors import BadRequest
from resnetlab.study import consistency, legacy
from resnetlab.study.data_config import PLACES, DataConfig
from resnetlab.study.frozen import Frozen, digest
from resnetlab.study.grid import combinations, grid
from resnetlab.study.hypotheses import Hypothesis, read_hypothesis
from resnetlab.study.included import study_file
from resnetlab.study.metrics import ALWAYS, CLASSIFIER, METRICS, Metric, own
from resnetlab.study.numbers import DIRECTED, TEST, Number, chosen
from resnetlab.study.own_config import trial_type
from resnetlab.study.parts import OwnCode, Part
from resnetlab.study.sections.confirm import ConfirmSettings
from resnetlab.study.sections.resources import Resources
from resnetlab.study.sections.search import SearchSettings
from resnetlab.study.seeding import MAX_SEED, stream
from resnetlab.study.settings import typed_factors, typed_settings
from resnetlab.study.space import Space
from resnetlab.study.trial_config import DETERMINISTIC, PRECISION, Precision, RunConfig, TrialConfig
from resnetlab.study.yaml_io import assign, explain, first_problem, read_yaml, suggestion
from resnetlab.wording import seconds_of

Resolve = Callable[[Mapping[str, Any], Path], dict[str, Any]]  # finds what a study refers to; see experiment.own
FEW = 2_000  # combinations of levels that are counted


def _nothing_of_its_own(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    return dict(content)


class Study(Frozen):
    """A whole study, validated. `baseline` holds only what differs from TrialConfig's defaults."""

    name: str
    title: str = ""
    question: str = ""
    experiment: str = Field("", description="a task of your own; default: training image classifiers on `dataset`")
    dataset: DataConfig | None = None
    own: OwnCode = Field(OwnCode(), description="written by resnetlab: what the references of the study lead to")
    metrics: tuple[str, ...] = Field(
        (),
        description=f"computed besides accuracy and loss: {', '.join(CLASSIFIER)}, or references to your own; "
        "a mapping says direction, unit, scale and digits of those",
    )
    numbers: dict[str, Number] = Field(
        default_factory=dict, description="written by resnetlab: what its task yields, or its own metrics return"
    )
    objective: str = Field("", description="which of them the search and ASHA go by; default: accuracy")
    baseline: dict[str, Any] = Field(default_factory=dict)
    factors: dict[str, Any] = Field(default_factory=dict)
    arms: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="named trials instead of factors: what each changes in the baseline"
    )
    hypotheses: tuple[str, ...] = ()
    search: SearchSettings = SearchSettings()
    confirm: ConfirmSettings = ConfirmSettings()
    precision: Precision = Field("fp32", description=PRECISION)
    deterministic: bool = Field(False, description=DETERMINISTIC)
    resources: Resources = Resources()
    time_budget: str = Field(
        "", description="such as 40m or 1h30m: how long the sweep may run, reports included; it sets design and seeds"
    )
    given_weights: dict[str, str] = Field(default_factory=dict, description="name: file:<hash> that is taken for it")
    seed: int = Field(0, ge=0, le=MAX_SEED)
    code: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)  # text of `own`, by file

    resolve: ClassVar[Resolve] = staticmethod(_nothing_of_its_own)  # for `load`; resnetlab.api gives experiment.own's

    @classmethod
    def load(cls, source: str | os.PathLike[str] | Mapping[str, Any], **changes: Any) -> Study:
        """Read a study, change some of its keys, and check the whole.

        Args:
            source: a YAML file, the name of an included study such as `default`, or a study as a mapping.
            changes: other values of its keys. A mapping changes the keys that it names of a section, and no others.

        Where a study names code of your own, such as `model="my_net.py:net"`, a file is looked for beside the YAML
        file, or for a mapping in the working folder. A mapping, or a change, may also have the function or class
        itself, if it was imported from a file.

        Raises:
            BadRequest: no such study, or not a valid one; the message has the key, the value and what is allowed.

        Example:
            >>> study = resnetlab.Study.load("default", name="short", search={"trials": 4}, confirm={"seeds": 2})
        """
        dotted: dict[str, Any] = {}
        for key, value in changes.items():
            section = isinstance(value, Mapping) and all(isinstance(name, str) and ":" not in name for name in value)
            dotted |= {f"{key}.{name}": inner for name, inner in value.items()} if section else {key: value}
        if not isinstance(source, Mapping):
            return load_study(study_file(os.fspath(source), "study"), dotted, cls.resolve)
        content = with_changes(_copied(dict(source)), dotted, "study")
        return _resolved(content, Path.cwd(), "study", cls.resolve)

    def __getstate__(self) -> dict[Any, Any]:
        """Without what is computed from the rest: the type of its trials has no name by which it could be found."""
        state = super().__getstate__()
        fields = type(self).model_fields
        return state | {"__dict__": {name: value for name, value in state["__dict__"].items() if name in fields}}

    @model_validator(mode="before")
    @classmethod
    def _usual_sampler(cls, content: Any) -> Any:
        """A study with factors and one objective that names no sampler has `linear`."""
        search = content.get("search") or {}
        named = not isinstance(search, Mapping) or "sampler" in search or search.get("second_objective")
        if named or not content.get("factors"):
            return content
        return {**content, "search": {**search, "sampler": "linear"}}

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if not consistency.NAME.fullmatch(name) or ".." in name:
            raise ValueError(
                f"{name!r} cannot name a results folder (allowed: 1 to 128 letters, digits, '.', '_', '-', "
                "beginning with a letter or digit, without '..')"
            )
        return name

    @field_validator("dataset")
    @classmethod
    def _its_data(cls, dataset: DataConfig | None, info: ValidationInfo) -> DataConfig | None:
        """A study of images names a dataset; a task has its own data."""
        task = info.data.get("experiment")
        if dataset is None and not task:
            raise PydanticCustomError("missing", "is missing")
        if dataset is not None and task:
            raise ValueError(f"is for images (allowed: none beside experiment: {task}, which has its own data)")
        return dataset

    @field_validator("factors")
    @classmethod
    def _known_factors(cls, factors: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        kind = _trial_type(info)
        known = kind.factor_fields()
        for name in factors:
            if name not in known:
                raise ValueError(f"{name!r} is not a factor{kind.own.unknown(name, known)}")
        return typed_factors(factors, kind)

    @field_validator("baseline")
    @classmethod
    def _typed_baseline(cls, baseline: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return typed_settings(baseline, _trial_type(info))

    @field_validator("arms")
    @classmethod
    def _typed_arms(cls, arms: dict[str, dict[str, Any]], info: ValidationInfo) -> dict[str, dict[str, Any]]:
        kind = _trial_type(info)
        return {name: typed_settings(changes, kind) for name, changes in arms.items()}

    @field_validator("time_budget")
    @classmethod
    def _duration(cls, text: str) -> str:
        if text:
            seconds_of(text)
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        consistency.check(self)
        return self

    @cached_property
    def enqueued(self) -> tuple[dict[str, Any], ...]:
        """The points of `search.enqueue`, each whole; without the baseline, which comes first anyway."""
        found = [self._enqueued(point, f"search.enqueue: {i}") for i, point in enumerate(self.search.enqueue, start=1)]
        for i, point in enumerate(found):
            if point in found[:i] and not self.search.repeat:
                raise ValueError(
                    f"search.enqueue: {i + 1} is the same as {found.index(point) + 1} (allowed: each once, or search."
                    "repeat: true)"
                )
        baseline = self.baseline_values()
        return tuple(point for point in found if point != baseline or self.search.repeat)

    def _enqueued(self, given: Mapping[str, Any], place: str) -> dict[str, Any]:
        """A point with the baseline's values where it names none. ValueError where the study does not have it."""
        for name in given:
            if name not in self.space.names:
                raise ValueError(f"{place}: {name!r} is no factor of this study{suggestion(name, self.space.names)}")
        try:
            settings = self._common(0) | self.baseline | typed_settings(given, self.trial_type)
            config = self.trial_type.model_validate(settings)
        except ValidationError as error:
            raise ValueError(f"{place}: {first_problem(error, self.trial_type)}") from None
        values = self.space.active({name: getattr(config, name) for name in self.space.names})
        if problem := self.space.problem(values):
            raise ValueError(f"{place}: {problem}")
        for name in given:
            if name not in values:
                raise ValueError(f"{place}: {name} is read by nothing there (allowed: take it out)")
        return values

    def metric_name(self, text: str) -> str:
        """What a metric is called in columns: a user's function by its own name."""
        return next(
            (part.short for part in self.own.parts if (part.key, part.text) == ("metrics", text)),
            text,
        )

    @property
    def scored(self) -> tuple[str | Part, ...]:
        """What workers compute besides accuracy and loss: names of built-in metrics, and parts of its own."""
        parts = {part.text: part for part in self.own.parts if part.key == "metrics"}
        return tuple(parts.get(text, text) for text in self.metrics if text not in ALWAYS)

    @cached_property
    def measured(self) -> dict[str, Metric]:
        """What is computed from a network's scores, by name: accuracy and loss always, and what `metrics` asks for."""
        asked_for = {self.metric_name(text): text for text in self.metrics}
        mine = {name: number.score(name) for name, number in self.numbers.items()}
        return ALWAYS | {name: CLASSIFIER.get(text) or mine.get(name) or own(name) for name, text in asked_for.items()}

    @property
    def measures(self) -> tuple[Metric, ...]:
        """The columns of the tables that the study adds, each on its split: `val_macro_f1`, `test_macro_f1`."""
        if self.experiment:
            return tuple(one.metric(name) for name, one in self.numbers.items() if name not in METRICS)
        more = [metric for name, metric in self.measured.items() if name not in ALWAYS]
        mean = (self.confirmed,) if self.confirm.last_epochs > 1 else ()
        return (*(metric.on(split) for metric in more for split in ("val", "test")), *mean)

    @property
    def borrowed(self) -> tuple[Metric, ...]:
        """The columns that the tables have anyway, such as `val_loss`, where a task's numbers fill them."""
        return tuple(one.metric(name) for name, one in self.numbers.items() if self.experiment and name in METRICS)

    @cached_property
    def searched(self) -> Metric:
        """The column that the sampler, ASHA and the choice of the incumbent go by."""
        if self.experiment:
            only = [name for name in self.numbers if name.startswith("val_")]
            return chosen(self.numbers, "objective", self.objective or (only[0] if len(only) == 1 else ""), test=False)
        return self.metric_on("objective", self.objective or "accuracy", "val")

    @cached_property
    def confirmed(self) -> Metric:
        """The column whose effects are confirmed."""
        if self.experiment:
            name = self.confirm.metric or f"{TEST}{self.searched.name.removeprefix('val_')}"
            return chosen(self.numbers, "confirm.metric", name, test=True)
        return self.metric_on("confirm.metric", self._to_confirm, "test").over_last(self.confirm.last_epochs)

    @property
    def confirmed_score(self) -> str:
        """The metric that is confirmed, without its split: `auroc`. Empty for a task's."""
        return "" if self.experiment else self.metric_name(self._to_confirm).removeprefix("test_")

    @property
    def _to_confirm(self) -> str:
        return self.confirm.metric or self.searched.name.removeprefix("val_")

    def metric_on(self, key: str, text: str, split: str) -> Metric:
        name = self.metric_name(text).removeprefix(f"{split}_")
        if name not in self.measured:
            add = "; add it to metrics" if name in CLASSIFIER else suggestion(text, self.measured)
            raise ValueError(f"{key}: {text!r} is no metric of this study{add}")
        if not self.measured[name].better:
            raise ValueError(f"{key}: {name} has no direction ({DIRECTED})")
        return self.measured[name].on(split)

    @cached_property
    def trial_type(self) -> type[RunConfig]:
        """The type of its trials' configs, with the settings of its own parts."""
        return trial_type(self.own.parts)

    @property
    def own_columns(self) -> dict[str, str]:
        """Of `columns`, the settings of own parts, with the kind of each: bool, int, float or str."""
        names = self.trial_type.own.names
        return {name: names[name][0][2].kind for name in self.columns if name in names}

    @property
    def space(self) -> Space:
        return Space.of(self.factors)

    @property
    def declared(self) -> tuple[Hypothesis, ...]:
        """The hypotheses, read. Named arms are the levels of a factor called `arm`."""
        space = Space.of({"arm": {"levels": list(self.arms)}}) if self.arms else self.space
        return tuple(read_hypothesis(line, space, self.confirmed) for line in self.hypotheses)

    def baseline_values(self) -> dict[str, Any]:
        """The factor values of the baseline: what it sets, else TrialConfig's default."""
        config = self.trial_type.model_validate(self._common(0) | self.baseline)
        values = {name: getattr(config, name) for name in self.space.names}
        return self.space.active(values)

    def config(self, values: Mapping[str, Any], *, seed: int, split: int | None = None) -> RunConfig:
        """The full config of a trial at `values`; ValidationError where the combination is infeasible.

        split: the seed of its splits, by default those of the study.
        """
        common = self._common(seed, split)
        return self._from_file(self.trial_type.model_validate(common | self.baseline | dict(values)))

    def _from_file(self, config: RunConfig) -> RunConfig:
        """With the file that was given in place of the weights' name: what a trial starts from is part of its id."""
        if not isinstance(config, TrialConfig) or config.weights not in self.given_weights:
            return config
        return self.trial_type.model_validate(config.model_dump() | {"weights": self.given_weights[config.weights]})

    def arm_config(self, name: str, *, seed: int, split: int | None = None) -> RunConfig:
        """The full config of a named arm; one with a `source` starts from what that arm's run with this seed learned.

        split: as of `config`. `data` changes the dataset's settings, `epochs` the budget.
        """
        changes = dict(self.arms[name])
        if "data" in changes and self.dataset is not None:
            changes["data"] = self.dataset.model_dump(exclude_unset=True) | changes["data"]
        source = changes.pop("source", None)
        if source is not None:
            changes["weights"] = f"trial:{self.arm_config(source, seed=seed, split=split).trial_id}"
        return self._from_file(self.trial_type.model_validate(self._common(seed, split) | self.baseline | changes))

    def baseline_config(self, seed: int) -> RunConfig:
        """The full config of the baseline; of named arms the first that starts from no other."""
        if not self.arms:
            return self.config(self.baseline_values(), seed=seed)
        return self.arm_config(next(name for name, arm in self.arms.items() if "source" not in arm), seed=seed)

    def far_configs(self) -> Iterator[tuple[str, RunConfig]]:
        """Trials away from the baseline, each with the name of its place: the other arms, or the ends of the space that
        can be run."""
        baseline = self.baseline_config(seed=0)
        places = [(f"arm {name}", self.arm_config(name, seed=0)) for name in self.arms]
        places += [
            (where, self.config(values, seed=0))
            for where, values in self.space.ends()
            if values and self.feasible(values)
        ]
        yield from ((where, config) for where, config in places if config != baseline)

    def arm_task(self, name: str) -> str:
        """What a named arm is trained for: accuracies of different tasks, or budgets, are not compared."""
        config = self.arm_config(name, seed=0)
        data = self.experiment
        if isinstance(config, TrialConfig):
            data = f"{config.data.name} {config.data.label}" if config.data.label else config.data.name
        return data if config.epochs == self.search.epochs else f"{data}, {config.epochs} epochs"

    def _common(self, seed: int, split: int | None = None) -> dict[str, Any]:
        split = stream(self.seed, "split") if split is None else split
        common = {"epochs": self.search.epochs, "seed": seed, "split_seed": split}
        if self.experiment:
            return common
        return common | {"data": self.dataset, "precision": self.precision, "deterministic": self.deterministic}

    @property
    def columns(self) -> tuple[str, ...]:
        """The settings that differ between trials, each a column of the trials table."""
        if not self.arms:
            return self.space.names
        known = self.trial_type.factor_fields()
        return tuple(dict.fromkeys(key for changes in self.arms.values() for key in changes if key in known))

    @property
    def explore_trials(self) -> int:
        """How many trials the sampler proposes: none where the arms are given, and of a grid no more than it has."""
        if self.search.sampler == "grid" and not self.arms:
            return min(self.search.trials, len(self.grid))
        return 0 if self.arms else self.search.trials

    @cached_property
    def distinct_points(self) -> int | None:
        """How many combinations of levels can be run; None where a factor is a range, or there are very many."""
        try:
            points = combinations(self.space)
        except ValueError:
            return None
        return sum(map(self.feasible, points)) if len(points) <= FEW else None

    @property
    def reachable_trials(self) -> int:
        """`explore_trials`, and no more than there are combinations, where none is tried again."""
        points = None if self.search.repeat or self.arms else self.distinct_points
        return self.explore_trials if points is None else min(self.explore_trials, points)

    @cached_property
    def grid(self) -> list[dict[str, Any]]:
        """The combinations of levels that can be run, in a grid's order. ValueError as of `grid.combinations`."""
        return grid(self.space, self.baseline_values(), self.feasible, self.seed)

    def feasible(self, values: Mapping[str, Any]) -> bool:
        """True where a trial at `values` can be run."""
        try:
            self.config(values, seed=0)
        except ValidationError:
            return False
        return True

    def compared_factors(self) -> list[str]:
        """The factors whose levels the confirm stage compares."""
        return [f.name for f in self.space.factors if f.compared and f.name in (self.confirm.factors or f.name)]

    def identity(self) -> dict[str, Any]:
        """What may not change while results of this name exist. Changed confirm or hypotheses lead to a new plan; a
        file of weights changes the ids of the trials that start from it, and of no other."""
        left_out = {
            "resources", "title", "question", "dataset", "confirm", "hypotheses", "given_weights", "time_budget",
        }  # fmt: skip
        content = {name: value for name, value in self.recorded().items() if name not in left_out}
        for arm in content["arms"].values():  # the code is part of `own`
            if held := arm.get("data", {}).get("own"):
                del held["files"]
        for part in content["own"]["parts"]:  # words for messages
            del part["fixed"]
        content["search"] = self.search.identity()
        return content | ({"dataset": self.dataset.identity()} if self.dataset is not None else {})

    def recorded(self) -> dict[str, Any]:
        """What study.json holds: everything but where the data lies, which may change."""
        content = self.model_dump(mode="json")
        if self.dataset is None:
            del content["dataset"]
        for data in (content.get("dataset", {}), *(arm.get("data", {}) for arm in content["arms"].values())):
            for name in PLACES:
                data.pop(name, None)
        return content

    @property
    def study_hash(self) -> str:
        return digest(legacy.recorded(self.identity(), legacy.of_study({"experiment": self.experiment})))


def _trial_type(info: ValidationInfo) -> type[RunConfig]:
    """Of a study whose fields are being validated; the parts come first."""
    return trial_type(info.data["own"].parts if "own" in info.data else ())


def load_study(path: Path, changes: Mapping[str, Any] | None = None, own: Resolve = _nothing_of_its_own) -> Study:
    """Read a YAML study, apply `changes` (dotted key: value, as `--set` gives them), validate the whole.

    own: finds what the study refers to; without it, a study has built-in parts only. Settings may have old names, which
    a note on stderr tells. Raises BadRequest with file, key, value and what is allowed.
    """
    content = {"name": path.stem} | read_yaml(path)
    said = ", ".join(f"{key}={value}" for key, value in (changes or {}).items())
    source = f"{path} with {said}" if said else str(path)
    return _resolved(with_changes(content, changes or {}, source), path.parent, source, own)


def _resolved(content: dict[str, Any], folder: Path, source: str, own: Resolve) -> Study:
    held = content.get("own")
    if isinstance(held, Mapping) and held and not held.get("parts"):  # of a recorded study that brings nothing
        del content["own"]
        if content.get("numbers") == {}:
            del content["numbers"]
    for key in ("own", "code", "numbers"):
        if key in content:
            raise BadRequest(f"{source}: {key}: is written by resnetlab (allowed: take it out)")
    search = content.get("search")
    if isinstance(search, Mapping) and search.get("own"):
        raise BadRequest(f"{source}: search.own: is written by resnetlab (allowed: take it out)")
    dataset = content.get("dataset")
    if isinstance(dataset, Mapping) and dataset.get("own") is not None:
        raise BadRequest(f"{source}: dataset.own: is written by resnetlab (allowed: take it out)")
    try:
        return build_study(own(content, folder), source)
    except BadRequest as error:
        raise BadRequest(str(error) if str(error).startswith(source) else f"{source}: {error}") from None


def _copied(content: Any) -> Any:
    """Sections and lists copied; what else a caller gives stays as it is, and may be a function or class."""
    if isinstance(content, Mapping):
        return {key: _copied(value) for key, value in content.items()}
    return [_copied(value) for value in content] if isinstance(content, list | tuple) else content


def with_changes(content: Mapping[str, Any], changes: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Parsed content with `changes` (dotted key: value) applied, all under the names of today. Old names are told on
    stderr; BadRequest where a setting has both, or a key leads into something that is not a section."""
    notes: dict[str, None] = {}
    try:
        names = legacy.of_study(content)
        found: dict[str, Any] = legacy.renamed(content, names, notes.setdefault)
        for key, value in legacy.assigned(changes, notes.setdefault, names):
            assign(found, key, value)
    except ValueError as error:
        raise BadRequest(f"{source}: {error}") from None
    if notes:
        print(f"note: {source}: {'; '.join(notes)}", file=sys.stderr)
    return found


def build_study(content: Mapping[str, Any], source: str) -> Study:
    """A Study from parsed content, whose settings may have old names; `source` is the place that messages name."""
    try:
        return Study(**legacy.renamed(content, legacy.of_study(content)))
    except ValidationError as error:
        raise BadRequest(explain(error, Study, source)) from None
    except ValueError as error:
        raise BadRequest(f"{source}: {error}") from None


def differences(
    one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "", words: str = "{} in the folder, {} asked for"
) -> list[str]:
    """The keys in which two identities differ, as `search.trials: 30 in the folder, 40 asked for`."""
    found = []
    for key in sorted({*one, *other}):
        old, new = one.get(key), other.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{prefix}{key}.", words)
        elif old != new:
            found.append(f"{prefix}{key}: " + words.format(repr(old), repr(new)))
    return found
