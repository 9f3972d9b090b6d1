"""What a study brings of its own, as data: where each part is found, and its settings. Reading it needs no code.

A part is a function or class of the user's: a model, a loss, an augmentation, an optimizer, a schedule, a metric. Its
keyword arguments are settings of the study, beside the built-in ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from resnetlab.study.frozen import Frozen
from resnetlab.study.yaml_io import suggestion

Value = bool | int | float | str
KINDS: Mapping[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
PLUS = " + "  # between the names of augmentations that follow one another
NONE = "none"  # no augmentation


class Setting(Frozen):
    """One keyword argument of a part. bounds: `ge`, `gt`, `le`, `lt`, `multiple_of`, as far as they are given."""

    kind: Literal["bool", "int", "float", "str"]
    optional: bool = False
    required: bool = False
    default: Value | None = None
    choices: tuple[Value, ...] = ()
    bounds: dict[str, int | float] = Field(default_factory=dict)
    description: str = ""

    @property
    def annotation(self) -> Any:
        """The type of its values."""
        plain: Any = Literal[self.choices] if self.choices else KINDS[self.kind]
        bounds: Any = self.bounds
        return Annotated[plain, Field(**bounds)] if bounds else plain


class Part(Frozen):
    """One reference. text: as the study has it. name: of the object, in a `module`, or in a `file` of the study.

    stages: of a model, the attributes that the study calls its stages, in order. fixed: its arguments that are no
    settings, with the reason.
    """

    key: str
    text: str
    name: str
    module: str = ""
    file: str = ""
    settings: dict[str, Setting] = Field(default_factory=dict)
    stages: tuple[str, ...] = ()
    fixed: dict[str, str] = Field(default_factory=dict)

    @property
    def short(self) -> str:
        """The name of the object alone."""
        return self.name.rpartition(".")[2]

    @property
    def group(self) -> str:
        """What its settings are called by where another part has one of the same name: `loss.gamma`.

        Models are alternatives to one another and share their names; augmentations can follow one another.
        """
        return self.short if self.key == "augment" else self.key


class OwnData(Frozen):
    """A function of one's own that returns a dataset, with its code: workers make the dataset from this alone.

    name: of the function, in a `module`, or in a `file` of the study. settings: of each keyword. files: the code, by
    name below `folder`.
    """

    name: str
    module: str = ""
    file: str = ""
    settings: tuple[tuple[str, Value | None], ...] = ()
    files: tuple[tuple[str, str], ...] = Field((), repr=False)
    folder: str = "study"


class OwnCode(Frozen):
    """All that a study refers to. source: hash of the code; folder: below which the names of files begin."""

    parts: tuple[Part, ...] = ()
    source: str = ""
    folder: str = "study"

    @property
    def task(self) -> Part | None:
        """What the trials run in place of the built-in experiment."""
        return next((part for part in self.parts if part.key == "experiment"), None)


Read = tuple[Part, str, Setting]  # a part, its keyword, and what that takes


class Joined:
    """The settings of several parts under the names by which a study knows them.

    A keyword has its own name, or `group.keyword` where two groups or a built-in setting of another kind claim it.
    built_in: each built-in setting with the key of the part that reads it, e.g. `width: model`; empty for all others.
    """

    def __init__(self, parts: tuple[Part, ...] = (), built_in: Mapping[str, str] | None = None):
        self.parts, self._built_in = parts, built_in or {}
        self._check_groups()
        groups: dict[str, set[str]] = {}
        for part in parts:
            for keyword in part.settings:
                groups.setdefault(keyword, set()).add(part.group)
        self._shared = {
            keyword
            for keyword, claimed in groups.items()
            if len(claimed) > 1 or self._built_in.get(keyword, *claimed) not in claimed
        }
        self.names: dict[str, list[Read]] = {}
        for part in parts:
            for keyword, setting in part.settings.items():
                self.names.setdefault(self.name(part, keyword), []).append((part, keyword, setting))
        for name, readers in self.names.items():
            self._check_one_type(name, readers)

    def _check_groups(self) -> None:
        taken: dict[str, Part] = {}
        for part in self.parts:
            other = taken.setdefault(part.group, part)
            if other is not part and "augment" in (part.key, other.key):
                raise ValueError(
                    f"{part.key}: {part.text} and {other.text} are both called {part.group} (allowed: different names)"
                )

    @staticmethod
    def _check_one_type(name: str, readers: list[Read]) -> None:
        (one, _, first), *others = readers
        for other, _, setting in others:
            if setting.kind != first.kind:
                raise ValueError(
                    f"{name}: is {first.kind} in {one.text} and {setting.kind} in {other.text} (allowed: one type, or "
                    "two names)"
                )

    def name(self, part: Part, keyword: str) -> str:
        """What the study calls a part's keyword."""
        return f"{part.group}.{keyword}" if keyword in self._shared else keyword

    def long_names(self) -> dict[str, str]:
        """`loss.gamma` for each setting that is called `gamma`: both can be written."""
        return {f"{part.group}.{keyword}": self.name(part, keyword) for part in self.parts for keyword in part.settings}

    def unknown(self, name: str, known: Iterator[str] | set[str] | frozenset[str]) -> str:
        """Why `name` is no setting, in words that follow it."""
        long = sorted({self.name(part, name) for part in self.parts if name in part.settings})
        if long:
            return f": could be {' or '.join(long)}, say which"
        for part in self.parts:
            keyword = name.removeprefix(f"{part.group}.")
            if keyword in part.fixed:
                return f": in {part.text}, {part.fixed[keyword]}"
        return suggestion(name, known)

    def chosen(self, values: Mapping[str, Any]) -> list[Part]:
        """The parts that a trial with these settings uses."""
        return [part for part in self.parts if _uses(values.get(part.key), part)]

    def read(self, values: Mapping[str, Any]) -> dict[str, Setting]:
        """The settings that a trial reads beside the built-in ones."""
        return {name: setting for part in self.chosen(values) for name, setting in self.read_by(part).items()}

    def read_by(self, part: Part) -> dict[str, Setting]:
        return {self.name(part, keyword): setting for keyword, setting in part.settings.items()}

    def filled(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All own settings of a trial: as given, or the default; None where no part of it reads them."""
        read = self.read(values)
        unread = {name: None for name in self.names if name not in read and name not in self._built_in}
        given = {
            name: values[name]
            if values.get(name) is not None or (setting.optional and name in values)
            else setting.default
            for name, setting in read.items()
        }
        return unread | given

    def keywords(self, part: Part, values: Any) -> dict[str, Any]:
        """The settings of one part by keyword; values: a trial's config."""
        return {keyword: getattr(values, self.name(part, keyword)) for keyword in part.settings}


def _uses(value: Any, part: Part) -> bool:
    if part.key == "augment":
        return isinstance(value, str) and part.text in value.split(PLUS)
    return bool(value == part.text)
