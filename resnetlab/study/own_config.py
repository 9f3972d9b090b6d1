"""The type of a trial's config in a study that brings parts of its own: with the settings of each."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Literal

from pydantic import Field, create_model

from resnetlab.study import catalog, legacy
from resnetlab.study.parts import Joined, Part
from resnetlab.study.trial_config import ALWAYS, CHOICES, COLUMNS, SETTINGS, RunConfig, TaskConfig, TrialConfig


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
            info, options = base.model_fields[key], (*catalog.parts(key), *texts) if key in CHOICES else texts
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
    """Each built-in setting, with the key of the part that reads it; also names that settings once had, and those of
    what a config can do: no setting of a part can have them without its key (`model.stages`).

    parts: of the study; where one is a task, few settings are left.
    """
    plain = _base(parts)
    attributes = [name for name in dir(_OwnTask if plain is TaskConfig else _OwnTrial) if not name.startswith("_")]
    every = dict.fromkeys([*COLUMNS, *plain.model_fields, *legacy.SETTINGS, *attributes], "")
    if plain is TaskConfig:
        return every
    optional = {name: found.readers[0] for name, found in SETTINGS.items() if not found.readers[0].declared.always}
    return every | {name: reader.key for name, reader in optional.items()} | ALWAYS
