"""`sweep --settings`: the studies that are included, and every setting of a study file with its default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from resnetlab.study import ConfirmSettings, Resources, SearchSettings
from resnetlab.study.data_config import DataConfig
from resnetlab.study.frozen import Frozen
from resnetlab.study.included import study_names
from resnetlab.study.own_config import built_in
from resnetlab.study.parts import Joined, Part
from resnetlab.study.trial_config import SETTINGS, TrialConfig

SECTIONS: dict[str, type[Frozen]] = {
    "dataset": DataConfig,
    "search": SearchSettings,
    "confirm": ConfirmSettings,
    "resources": Resources,
    "baseline and factors": TrialConfig,
}
SET_ELSEWHERE = ("data", "seed", "split_seed", "epochs")  # fields of a trial that a study sets in other sections
TYPE_NAMES = {"str": "text", "int": "whole number", "float": "number", "bool": "true | false"}


def list_settings(own: Sequence[Part] = ()) -> None:
    """Print the names of the included studies, each section of a study file, and the settings of `own` parts."""
    print("studies:", ", ".join(study_names()))
    task = any(part.key == "experiment" for part in own)
    for section, model in SECTIONS.items():
        if task and model in (DataConfig, TrialConfig):
            continue  # all its settings are those of the task
        print(f"\n{section}:")
        for name, field in model.model_fields.items():
            default = field.default
            if name == "own":  # written by resnetlab
                continue
            if model is TrialConfig:
                if name in SET_ELSEWHERE:
                    continue
                default = _default(name, default)
            shown = "required" if field.is_required() else f"default {default}"
            description = f": {field.description}" if field.description else ""
            print(f"  {name} ({_type_name(field.annotation)}, {shown}){description}")
    joined = Joined(tuple(own), built_in(tuple(own)))
    for part in own:
        print(f"\n{part.key} {part.text}:")
        for keyword, setting in part.settings.items():
            shown = "required" if setting.required else f"default {setting.default}"
            description = f": {setting.description}" if setting.description else ""
            print(f"  {joined.name(part, keyword)} ({_type_name(setting.annotation)}, {shown}){description}")


def _default(name: str, default: Any) -> Any:
    """Of a setting that parts have: that of the part which a study has where it names none, else of the first."""
    if name not in SETTINGS:
        return default
    readers = SETTINGS[name].readers
    usual = [part for part in readers if part.name == TrialConfig.model_fields[part.key].default]
    return (usual or list(readers))[0].defaults[name]


def _type_name(annotation: Any) -> str:
    """A type as users write its values: `whole number`, `fp32 | bf16`."""
    if get_origin(annotation) is Annotated:
        return _type_name(get_args(annotation)[0])
    if get_origin(annotation) is tuple:
        return "list"
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    inner = [part for part in get_args(annotation) if part is not type(None)]
    if len(inner) > 1 and (str in inner or any(get_origin(part) is Literal for part in inner)):
        return " | ".join(map(_type_name, inner))
    if inner:
        return _type_name(inner[0])
    return TYPE_NAMES[annotation.__name__]
