"""The built-in parts, found where they lie: each file of a folder in FOLDERS declares some (`resnetlab.builtin`).

To add a part is to add its file. It is looked up here by its kind and its name, and its settings are read from its
signature as those of a user's own function are (`part_settings`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from resnetlab.builtin import BuiltIn, Dataset, Network, Schedule, StoppingRule
from resnetlab.study.part_settings import PartSettings, Setting

HERE = Path(__file__).resolve().parents[1]
DATA = "dataset.name"
STOPPING = "search.stopping"


class Kind(NamedTuple):
    """Where the parts of a kind lie, and what they are given: first what each must take, then what it may name."""

    folder: str
    given: tuple[str, ...] = ()
    offered: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {  # by the key of a study that names such a part
    "model": Kind("vision.parts.models", ("shape", "classes")),
    "loss": Kind("vision.parts.losses", ("logits", "labels"), ("label_smoothing", "class_weights")),
    "optimizer": Kind("vision.parts.optimizers", ("params", "lr"), ("weight_decay", "capturable")),
    "schedule": Kind("vision.parts.schedules", ("done",)),
    "augment": Kind("vision.parts.augmentations", (), ("images", "generator", "frame")),
    DATA: Kind("vision.parts.datasets", ("config", "cache")),
    STOPPING: Kind("search.schedulers", ("epochs", "sign")),
}


@dataclass(frozen=True)
class Part:
    """A built-in part with its settings, read from its signature."""

    key: str
    declared: BuiltIn

    @cached_property
    def signature(self) -> PartSettings:
        kind, declared = KINDS[self.key], self.declared
        if isinstance(declared, Dataset):
            return PartSettings.of_model(declared.settings, declared.name)
        return PartSettings.of(declared.make, declared.name, kind.given, kind.offered)

    @property
    def name(self) -> str:
        return self.declared.name

    @property
    def settings(self) -> Mapping[str, Setting]:
        """By keyword."""
        return self.signature.settings

    @cached_property
    def defaults(self) -> dict[str, Any]:
        return {name: setting.default for name, setting in self.settings.items()}

    def values(self, config: Any) -> dict[str, Any]:
        """The settings of it that a trial has."""
        return {name: getattr(config, name) for name in self.settings}

    def takes(self, name: str) -> bool:
        """True where it names one of the arguments that its kind offers."""
        return name in self.signature.taken

    def bound(self, config: Any, **offered: Any) -> Callable[..., Any]:
        """`make` with the settings that a trial has, and with what it names of `offered`."""
        taken = {name: value for name, value in offered.items() if self.takes(name)}
        return partial(self.declared.make, **taken, **self.values(config))


@cache
def parts(key: str) -> Mapping[str, Part]:
    """All built-in parts of a kind by name, in the order of their files."""
    folder = HERE.joinpath(*KINDS[key].folder.split("."))
    found: dict[str, Part] = {}
    for file in sorted(folder.glob("[a-z]*.py")):
        module = importlib.import_module(f"resnetlab.{KINDS[key].folder}.{file.stem}")
        for declared in getattr(module, "PARTS", ()):
            assert declared.name not in found, f"{file}: {key} {declared.name} is declared twice"
            found[declared.name] = Part(key, declared)
    return found


def part(key: str, name: str) -> Part:
    """KeyError where there is no such built-in part."""
    return parts(key)[name]


def network(name: str) -> Network | None:
    """None where it is none of the built-in ones."""
    found = parts("model").get(name)
    return found.declared if found and isinstance(found.declared, Network) else None


def dataset(name: str) -> Dataset | None:
    """None where it is none of the built-in ones."""
    found = parts(DATA).get(name)
    return found.declared if found and isinstance(found.declared, Dataset) else None


def depends_on_budget(schedule: str) -> bool:
    """Whether a schedule does: each but the built-in ones that say they do not."""
    found = parts("schedule").get(schedule)
    return not (found and isinstance(found.declared, Schedule)) or found.declared.depends_on_budget


def stopping_rule(name: str) -> StoppingRule | None:
    """None where it is none of the built-in ones."""
    found = parts(STOPPING).get(name)
    return found.declared if found and isinstance(found.declared, StoppingRule) else None


class Field(NamedTuple):
    """A setting of built-in parts as a field of a trial's config or of a dataset's.

    readers: of it, by key and name. differ: whether they have limits of their own, beside the type that all share.
    """

    annotation: Any
    default: Any
    description: str
    readers: tuple[Part, ...]
    differ: bool

    def unless_read(self) -> Field:
        """The same with None where no part reads it, unless its part is one that always does."""
        if all(part.declared.always for part in self.readers):
            return self
        return self._replace(annotation=self.annotation | None, default=None)


def fields(*keys: str) -> dict[str, Field]:
    """The settings of all built-in parts of these kinds, by name.

    AssertionError where two parts declare one name with different types, or two kinds claim it.
    """
    readers: dict[str, list[Part]] = {}
    for key in keys:
        for found in parts(key).values():
            for name in found.settings:
                readers.setdefault(name, []).append(found)
    return {name: _joined(name, tuple(those)) for name, those in readers.items()}


def _joined(name: str, readers: tuple[Part, ...]) -> Field:
    first, settings = readers[0], [reader.settings[name] for reader in readers]
    place = f"{name} of {', '.join(f'{reader.key} {reader.name}' for reader in readers)}"
    assert len({reader.key for reader in readers}) == 1, f"{place}: two kinds of parts cannot share a setting"
    assert len({setting.kind for setting in settings}) == 1, f"{place}: needs one type"
    info = first.signature.field(name)
    rules = [_rules(reader, name) for reader in readers]
    differ = any(other != rules[0] for other in rules)
    alone = _present(info.annotation)
    plain: Any = settings[0].kind if differ else Annotated[alone, "field", *info.metadata] if info.metadata else alone
    said = next((setting.description for setting in settings if setting.description), "")
    optional = any(setting.optional for setting in settings)
    return Field(plain | None if optional else plain, settings[0].default, said, readers, differ)


def _present(annotation: Any) -> Any:
    """The type without None."""
    options = [option for option in get_args(annotation) if option is not type(None)]
    return options[0] if len(options) == 1 and get_origin(annotation) in (Union, UnionType) else annotation


def _rules(reader: Part, name: str) -> Any:
    """What limits a setting, comparable: types, choices and bounds, and validators by identity."""
    setting, info = reader.settings[name], reader.signature.field(name)
    checks = [rule for rule in info.metadata if hasattr(rule, "func")]
    return setting.kind, setting.choices, dict(setting.bounds), checks
