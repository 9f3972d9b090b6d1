"""Which kind of part a function or class is, told by what it takes: for `resnetlab new`, which writes a study of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_type_hints

from resnetlab.errors import BadRequest
from resnetlab.experiment.own import SAMPLER, STOPPING, described, number_of, numbers_of, part_of
from resnetlab.experiment.own_parts import DATA
from resnetlab.experiment.protocol import KINDS, OF_KEY, Kind, is_optuna_sampler
from resnetlab.experiment.references import Reference, probe, refer
from resnetlab.experiment.source import read_text
from resnetlab.study.numbers import Number
from resnetlab.study.parts import Part, Setting


@dataclass(frozen=True)
class Recognised:
    """A part, told by its arguments, for which a study can be written. numbers: that METRICS beside it declares.

    epochs: of a task, whether its code reads `trial.epochs`, or has an `epoch` to be called.
    """

    part: Part
    numbers: Mapping[str, Number]
    epochs: bool


def registered(name: str) -> list[Kind]:
    """The kinds of part for which an installed package registers this short name."""
    return [kind for kind in KINDS.values() if entry_points(group=kind.group, name=name)]


def recognise(text: str, folder: Path) -> Recognised:
    """What a reference leads to: which kind of part, told by the arguments that it takes or by the kind for which a
    package registers it, and its settings.

    folder: where files are looked for. BadRequest where it leads nowhere.
    """
    kinds = registered(text)
    if len(kinds) > 1:
        names = " and as ".join(kind.name for kind in kinds)
        raise BadRequest(f"{text}: is registered as {names} (allowed: package.module:name)")
    reference = refer(kinds[0].key, text, folder, {}, kinds[0].group) if kinds else refer("SOURCE", text, folder, {})
    ((key, about),) = probe([reference], look=f"{__name__}:recognised")
    part, numbers = part_of(replace(reference, key=key), about, folder), {}
    if key == "metrics":
        numbers = number_of(part, about["metrics"], None)
    if key == "experiment":
        numbers = numbers_of(text, about["metrics"], {})
    if key in (DATA, SAMPLER, STOPPING):
        settings = {name: Setting(**setting) for name, setting in about["settings"].items()}
        part = part.model_copy(update={"settings": settings})
    return Recognised(part, {name: Number(**said) for name, said in numbers.items()}, about["epochs"])


def recognised(reference: Reference, target: Callable[..., Any]) -> tuple[str, dict[str, Any]]:
    """In the process of `probe`: the key of the reference, or where that is of no kind, of the part that takes these
    arguments, of a dataset where none has to be given and of a model else; what `described` says of it, and whether it
    goes by epochs."""
    key = reference.key if reference.key in OF_KEY else _kind_of(target)
    code = "" if key != "experiment" else read_text(Path(inspect.getsourcefile(target) or ""))
    return key, described(replace(reference, key=key), target) | {
        "epochs": hasattr(target, "epoch") or ".epochs" in code
    }


def _kind_of(target: Callable[..., Any]) -> str:
    """The key of the kind of part that `target` seems to be."""
    if is_optuna_sampler(target):
        return SAMPLER
    try:
        takes = inspect.signature(target).parameters
    except (ValueError, TypeError):
        takes = {}  # type: ignore[assignment]
    kinds = sorted(OF_KEY.values(), key=lambda kind: -len(kind.given))
    fits = (kind.key for kind in kinds if kind.given and set(takes).issuperset(kind.given))
    made = target if isinstance(target, type) else _returned(target)
    module = any(base.__module__.startswith("torch.nn.") for base in getattr(made, "__mro__", ()))
    places = [one for one in takes.values() if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    given = [one for one in places if one.default is one.empty and one.name not in KINDS["dataset"].offered]
    return next(fits, "model" if given or module else DATA)


def _returned(target: Callable[..., Any]) -> Any:
    """What a function is annotated to return; None where that cannot be told."""
    try:
        return get_type_hints(target).get("return")
    except Exception:  # annotations are expressions, and may do anything
        return None
