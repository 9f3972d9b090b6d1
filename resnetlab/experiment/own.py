"""A study's own parts, found and described when the study is loaded.

`resolve` follows each reference of a study file once, in a process of its own, and returns what `Study.own` holds: the
parts with their settings, and the text of all code that they need. From then on the study is data. A worker unpacks the
code and calls the parts through `own_parts`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError, create_model

from resnetlab.errors import BadRequest
from resnetlab.experiment.own_parts import DATA
from resnetlab.experiment.protocol import OF_KEY
from resnetlab.experiment.references import Reference, probe, refer
from resnetlab.experiment.scores import BUILT_IN as SCORES
from resnetlab.experiment.source import Source
from resnetlab.study import SearchSettings, Study, catalog, legacy, load_study
from resnetlab.study.data_config import ALWAYS_READ, DataConfig
from resnetlab.study.frozen import Frozen
from resnetlab.study.numbers import Number
from resnetlab.study.own_config import built_in
from resnetlab.study.part_settings import PartSettings
from resnetlab.study.parts import NONE, PLUS, Joined, OwnCode, OwnData, Part, Setting
from resnetlab.study.sections.search import SAMPLERS
from resnetlab.study.trial_config import CHOICES, TaskConfig
from resnetlab.study.yaml_io import explain, first_problem, suggestion

SAMPLER, STOPPING = "search.sampler", catalog.STOPPING
BUILT_IN: dict[str, tuple[str, ...]] = {key: tuple(catalog.parts(key)) for key in CHOICES} | {
    "augment": (NONE, *(name for name, part in catalog.parts("augment").items() if not part.declared.always)),
    "dataset.name": tuple(catalog.parts(catalog.DATA)),
    "metrics": tuple(SCORES),
    "experiment": (),
    SAMPLER: SAMPLERS,
    STOPPING: tuple(catalog.parts(STOPPING)),
}
PARTS = tuple(
    key for key in BUILT_IN if key not in ("metrics", "experiment", DATA, SAMPLER, STOPPING)
)  # keys at the top of a study that are settings of each trial
LOOK = f"{__name__}:described"


Heard = Callable[[Collection[str]], None]


def load(path: Path, changes: Mapping[str, Any] | None = None, heard: Heard | None = None) -> Study:
    """Read a study file, with what it refers to. Arguments and errors are those of `study.load_study`, and `heard` that
    of `resolve`."""
    return load_study(path, changes, partial(resolve, heard=heard))


def resolve(content: Mapping[str, Any], folder: Path, heard: Heard | None = None) -> dict[str, Any]:
    """The content of a study file with what it refers to: parts moved into `baseline`, and `own` and `code` where there
    is code of the study's own.

    folder: that the file lies in, where its references begin. From Python, `content` may have a function or class in
    place of a reference. heard: called with the keys of the parts, if there are any, before they are imported.
    BadRequest for a reference that leads nowhere, or to what cannot be such a part.
    """
    held: dict[tuple[str, str], Reference] = {}
    found: dict[str, Any] = _as_text(content, "", held)
    stages = _stages(found.pop("stages", None))
    said: dict[str, Any] = {}
    if not found.get("experiment"):
        found, said = _named_metrics(_settled(found))
    references = [
        reference
        for key, texts in _named(found).items()
        for text in texts
        if (reference := held.get((key, text)) or _refer(key, text, folder))
    ]
    if stages and not any(reference.key == "model" for reference in references):
        raise BadRequest("stages: are those of a network of your own, and the study has none (allowed: take it out)")
    if not references:
        return found
    if heard is not None:
        heard({reference.key for reference in references})
    seen = probe(references, look=LOOK)
    parts = tuple(part_of(reference, about, folder) for reference, about in zip(references, seen, strict=True))
    source = Source.collect([reference.trace() for reference in references], folder, _registered(references))
    parts = tuple(part.model_copy(update={"stages": stages}) if part.key == "model" else part for part in parts)
    own = OwnCode(parts=parts, source=source.hash, folder=source.folder)
    for part, about in zip(parts, seen, strict=True):
        if part.key == DATA:
            settings = {name: Setting(**setting) for name, setting in about["settings"].items()}
            found = _with_data(found, part, settings, source)
    found = _with_search(found, [(part, about["settings"]) for part, about in zip(parts, seen, strict=True)])
    if own.task is not None:
        declared = next(about["metrics"] for part, about in zip(parts, seen, strict=True) if part == own.task)
        found["numbers"] = numbers_of(own.task.text, declared, found.pop("metrics", {}))
    numbers: dict[str, Any] = {}
    for part, about in zip(parts, seen, strict=True):
        if part.key == "metrics":
            numbers |= number_of(part, about["metrics"], said.get(part.text))
    if numbers:
        found["numbers"] = numbers
    return _short_names(found, own) | {"own": own.model_dump(mode="json"), "code": dict(source.files)}


def _as_text(content: Any, key: str, held: dict[tuple[str, str], Reference]) -> Any:
    """`content` with references in place of functions and classes; held: gets each, by the key and text of its part."""
    if isinstance(content, Mapping):
        keys = {name: _key(name, key) for name in content}
        return {
            _as_text(name, key, held) if callable(name) else name: _as_text(value, keys[name], held)
            for name, value in content.items()
        }
    if isinstance(content, list | tuple):
        return [_as_text(value, key, held) for value in content]
    if isinstance(content, ModuleType):
        raise BadRequest(f"{key}: {content.__name__} is a module (allowed: a function or class in it)")
    if not callable(content):
        return content
    if not key:
        raise BadRequest(f"{content!r}: is no value of a setting (allowed as {', '.join(BUILT_IN)})")
    reference = refer(key, content, Path(), {})
    if held.setdefault((key, reference.text), reference) != reference:
        raise BadRequest(f"{reference}: is the name of two different parts (allowed: files with different names)")
    return reference.text


def _key(name: Any, around: str) -> str:
    """The key of the part that a function or class below `name` would be."""
    if name in ("dataset", "search"):
        return DATA if name == "dataset" else "search"
    if around == "search":
        return f"search.{name}" if f"search.{name}" in OF_KEY else ""
    return name if name in OF_KEY else around


def _stages(given: Any) -> tuple[str, ...]:
    """BadRequest for stages that are no list of attributes of a network, each once."""
    names = given if isinstance(given, list) else [given]
    good = all(isinstance(name, str) and name.isidentifier() for name in names) and len(set(names)) == len(names)
    if given is None or (good and names):
        return tuple(names) if given is not None else ()
    raise BadRequest(f"stages: need names of attributes of the network, each once, got {given!r}")


def _named_metrics(content: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """With `metrics` as a list of names; and what the study says of each, where it is a mapping. BadRequest for what is
    neither, and where something is said of a built-in metric."""
    metrics = content.get("metrics", [])
    names: list[Any] = list(metrics) if isinstance(metrics, Mapping | list | tuple) else [None]
    if not all(isinstance(name, str) for name in names):
        raise BadRequest(
            f"metrics: need a list of names, got {metrics!r} (allowed: {', '.join(SCORES)}; or your own: file.py:name)"
        )
    if len(set(names)) < len(names):
        raise BadRequest(f"metrics: need each once, got {', '.join(names)}")
    if not isinstance(metrics, Mapping):
        return content, {}
    for name, said in metrics.items():
        if said and name in SCORES:
            raise BadRequest(f"metrics: {name}: is built in, got {said!r} (allowed: nothing after its name)")
    return content | {"metrics": names}, {name: said for name, said in metrics.items() if said}


def number_of(part: Part, beside: Mapping[str, Any], said: Any) -> dict[str, Any]:
    """The number that an own metric returns, as METRICS beside it and the study declare it; empty where neither does.

    BadRequest where METRICS leaves it out: that is a slip of its name, or of the one it has there.
    """
    name = part.short
    if beside and not said and name not in beside:
        raise BadRequest(
            f"metrics: {part.text}: METRICS beside it says nothing of {name!r}{suggestion(name, beside)}; allowed: "
            f"{{{name!r}: 'max'}} there too"
        )
    declared = {name: beside[name]} if name in beside else {}
    return _declared(part.text, declared, {name: said} if said else {})


LIKE = "allowed: names with min, max, or a mapping of direction, unit, scale and digits, e.g. {val_loss: min}"


def _declared(text: str, declared: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as METRICS beside `text` declares them, with what the study says of them. BadRequest for a wrong one."""
    found: dict[str, Any] = {}
    for place, names in ((f"METRICS beside {text}", declared), ("metrics", given)):
        for name, said in names.items():
            more = dict(said) if isinstance(said, Mapping) else {"direction": said}
            found[name] = found.get(name, {}) | more
            try:
                Number(**found[name])
            except (ValidationError, TypeError) as error:
                problem = first_problem(error, Number) if isinstance(error, ValidationError) else "need names as text"
                raise BadRequest(f"{place}: {name}: {problem} ({LIKE})") from None
    return found


def numbers_of(task: str, declared: Mapping[str, Any], given: Any) -> dict[str, Any]:
    """The numbers of a task, which are declared beside it or in the study."""
    if not isinstance(given, Mapping):
        raise BadRequest(f"metrics: need a mapping beside experiment, got {given!r} ({LIKE})")
    found = _declared(task, declared, given)
    if not found:
        raise BadRequest(
            f"experiment: {task}: no numbers are declared (allowed: METRICS = {{'val_loss': 'min'}} beside it, or "
            "metrics: {val_loss: min} in the study)"
        )
    return found


def _settled(content: Mapping[str, Any]) -> dict[str, Any]:
    """With `model: …` at the top as `baseline: {model: …}`: the two say the same."""
    found = {key: value for key, value in content.items() if key not in PARTS}
    at_top = {key: content[key] for key in PARTS if key in content}
    baseline = found.get("baseline") or {}
    if not isinstance(baseline, Mapping):
        return found
    for key in at_top:
        if key in baseline:
            raise BadRequest(f"{key} and baseline.{key} are one setting: give one")
    baseline = {**at_top, **baseline}
    if isinstance(baseline.get("augment"), list) and all(isinstance(one, str) for one in baseline["augment"]):
        baseline["augment"] = PLUS.join(baseline["augment"]) or NONE
    return found | ({"baseline": baseline} if at_top else {})


def _named(content: Mapping[str, Any]) -> dict[str, dict[Any, None]]:
    """What the study names, by the key of the part: in its baseline, factors and their conditions, arms and metrics."""
    found: dict[str, dict[Any, None]] = {key: {} for key in BUILT_IN}

    def take(key: str, values: Any) -> None:
        for value in values if isinstance(values, list | tuple) else [values]:
            if isinstance(value, str):
                found[key] |= dict.fromkeys(value.split(PLUS) if key == "augment" else [value])

    def take_all(settings: Any) -> None:
        if isinstance(settings, Mapping):
            for key in PARTS:
                take(key, settings.get(key))

    search = _mapping(content.get("search"))
    for key in (SAMPLER, STOPPING):
        take(key, search.get(key.removeprefix("search.")))
    if content.get("experiment"):
        take("experiment", content["experiment"])
        return found
    take_all(content.get("baseline"))
    for arm in _mapping(content.get("arms")).values():
        take_all(arm)
    for name, branches in _mapping(content.get("factors")).items():
        for branch in branches if isinstance(branches, list | tuple) else [branches]:
            if isinstance(branch, Mapping):
                take_all(branch.get("when"))
                if name in PARTS:
                    take(name, branch.get("levels"))
    take("metrics", content.get("metrics"))
    take(DATA, _mapping(content.get("dataset")).get("name"))
    return found


def _registered(references: Sequence[Reference]) -> dict[str, str]:
    """What the packages that register short names say of those that are used, as text by the name of the package."""
    found: dict[str, list[str]] = {}
    for one in references:
        if one.package:
            line = f"{OF_KEY[one.key].group}: {one.text} = {one.module}:{one.name}\n"
            found.setdefault(one.package, []).append(line)
    return {package: "".join(sorted(set(lines))) for package, lines in found.items()}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _refer(key: str, text: str, folder: Path) -> Reference | None:
    """None for a built-in name, and for another word where no package registers any: validation knows what is allowed
    there."""
    group = OF_KEY[key].group
    if text in BUILT_IN[key]:
        return None
    if (
        key != "experiment"
        and ":" not in text
        and not text.endswith(".py")
        and not entry_points(group=group, name=text)
    ):
        names = [*BUILT_IN[key], *(entry.name for entry in entry_points(group=group))]
        if key in ("metrics", SAMPLER, STOPPING) or len(names) > len(BUILT_IN[key]):
            raise BadRequest(f"{key}: {text!r} is not known{suggestion(text, names)}; or your own: file.py:name")
        return None
    return refer(key, text, folder, dict.fromkeys(BUILT_IN[key], ""), group)


def described(reference: Reference, target: Callable[..., Any]) -> dict[str, Any]:
    """In the process of `probe`, JSON-like: the settings of what a reference leads to, its arguments that are none, and
    the METRICS of a task or metric."""
    kind = OF_KEY[reference.key]
    read = PartSettings.of(target, str(reference), kind.given_to(target), kind.offered)
    declared = reference.beside("METRICS", {}) if reference.key in ("experiment", "metrics") else {}
    if not isinstance(declared, Mapping) or not all(isinstance(name, str) for name in declared):
        raise BadRequest(
            f"{reference}: METRICS beside it: need a dict, got {declared!r} (allowed: {{'val_loss': 'min'}})"
        )
    settings = {
        name: {
            "kind": setting.kind.__name__,
            "optional": setting.optional,
            "required": setting.required,
            "default": None if setting.required else setting.default,
            "choices": list(setting.choices),
            "bounds": dict(setting.bounds),
            "description": setting.description,
        }
        for name, setting in read.settings.items()
    }
    return {"settings": settings, "fixed": dict(read.fixed), "metrics": dict(declared)}


def part_of(reference: Reference, about: Mapping[str, Any], folder: Path) -> Part:
    """A part as the study holds it. about: what `described` returns. BadRequest for a metric with an argument that has
    no default."""
    settings = about["settings"]
    file = reference.file and os.path.relpath(Path(reference.folder, reference.file).resolve(), folder.resolve())
    place = {"name": reference.name, "module": reference.module, "file": Path(file).as_posix() if file else ""}
    if reference.key == "metrics":
        for name, setting in settings.items():
            if setting["required"]:
                raise BadRequest(
                    f"metrics: {reference.text}: {name} has no default (allowed: one, which is what it gets)"
                )
        settings = {}
    if reference.key in (DATA, SAMPLER, STOPPING):
        settings = {}  # see _with_data and _with_search
    return Part(key=reference.key, text=reference.text, settings=dict(settings), fixed=about["fixed"], **place)


def _with_data(content: dict[str, Any], part: Part, settings: Mapping[str, Setting], source: Source) -> dict[str, Any]:
    """With the settings of the function that returns the dataset taken out of `dataset`, and of the `data` of arms, and
    put with its code into `own` there."""
    for name in settings.keys() & ALWAYS_READ:
        raise BadRequest(f"{DATA}: {part.text}: argument {name!r} is a setting of every dataset (rename it)")
    rest = DataConfig.model_fields.keys() - settings.keys()  # of a dataset of any kind

    def taken(data: Mapping[str, Any], where: str, before: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: data[name] for name in data if name not in rest}
        values = _checked(part, settings, {**before, **given}, where)
        own = OwnData(
            **part.model_dump(include={"name", "module", "file"}),
            settings=tuple(values.items()),
            files=tuple(source.files.items()),
            folder=source.folder,
        )
        return {name: data[name] for name in data if name in rest} | {"own": own.model_dump(mode="json")}

    dataset, arms = content["dataset"], dict(_mapping(content.get("arms")))
    base = {name: dataset[name] for name in dataset if name in settings}
    for name, arm in arms.items():
        data = arm.get("data") if isinstance(arm, Mapping) else None
        if isinstance(data, Mapping):
            other = data.get("name", part.text) != part.text
            arms[name] = {**arm, "data": {**data, "own": None} if other else taken(data, f"arms.{name}.data", base)}
    return content | {"dataset": taken(dataset, "dataset", {})} | ({"arms": arms} if arms else {})


def _with_search(content: dict[str, Any], parts: Sequence[tuple[Part, Mapping[str, Any]]]) -> dict[str, Any]:
    """With the settings of an own sampler and stopping rule taken out of `search` and put into `own` there."""
    mine = {
        part.key.removeprefix("search."): (part, {name: Setting(**one) for name, one in settings.items()})
        for part, settings in parts
        if part.key in (SAMPLER, STOPPING)
    }
    if not mine:
        return content
    search, own = dict(content["search"]), {}
    names = [name for _, settings in mine.values() for name in settings]
    for key, (part, settings) in mine.items():
        for name in settings:
            if name in SearchSettings.model_fields or names.count(name) > 1:
                raise BadRequest(f"search.{key}: {part.text}: argument {name!r} has another meaning there (rename it)")
        fixed = [name for name in part.fixed if name not in SearchSettings.model_fields]
        given = {name: search.pop(name) for name in (*settings, *fixed) if name in search}
        own[key] = _checked(part, settings, given, "search")
    return content | {"search": search | {"own": own}}


def _checked(part: Part, settings: Mapping[str, Setting], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """All of a part's settings, as given or by default. BadRequest: a line `where.name: rule` for each wrong one."""
    for name in part.fixed.keys() & given.keys():
        raise BadRequest(f"{where}.{name}: not a setting: in {part.text}, {part.fixed[name]}")
    fields: dict[str, Any] = {
        name: (one.annotation | None if one.optional else one.annotation, ... if one.required else one.default)
        for name, one in settings.items()
    }
    model = create_model("Settings", __base__=Frozen, **fields)
    try:
        return model.model_validate(given).model_dump()
    except ValidationError as error:
        lines = explain(error, model, "").splitlines()
        raise BadRequest("\n".join(f"{where}.{line}" for line in lines)) from None


def _short_names(content: dict[str, Any], own: OwnCode) -> dict[str, Any]:
    """Settings under the one name that each has: `loss.gamma` is `gamma` where that is said of nothing else."""
    try:
        joined = Joined(own.parts, built_in(own.parts))
        long = joined.long_names()
    except ValueError as error:
        raise BadRequest(str(error)) from None
    names = {name: short for name, short in long.items() if name != short}
    if own.task is not None:  # with no other part, a keyword that is also the name of a column can be written as it is
        keywords = own.task.settings.keys() - TaskConfig.model_fields.keys()
        names |= {key: joined.name(own.task, key) for key in sorted(keywords) if joined.name(own.task, key) != key}
    tree: dict[str, Any] = {key: names for key in ("baseline", "hypotheses")} | {
        "factors": {**names, "*": {"when": names}},
        "arms": {"*": names},
        "confirm": {"factors": names},
    }
    try:
        found: dict[str, Any] = legacy.renamed(content, tree)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    return found
