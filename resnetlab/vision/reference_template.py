"""A commented study for a network, or another part, of one's own: what `resnetlab new my_net.py:net` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from resnetlab.errors import BadRequest
from resnetlab.experiment.recognise import Recognised
from resnetlab.study.numbers import TEST, Number
from resnetlab.study.own_config import built_in
from resnetlab.study.parts import NONE, Joined, Part, Setting
from resnetlab.study.yaml_io import quoted

BESIDE = {  # what a part is compared with where it has no setting of its own to compare
    "model": "cnn",
    "loss": "cross-entropy",
    "augment": NONE,
    "optimizer": "adamw",
    "schedule": "constant",
}
DESCRIBED = 60  # characters of a description that a comment has at most


STAND_IN = """\
dataset:
  name: digits # a stand-in that needs no download: 20 × 20 grey pixels, ten classes
  # Your own images: `name: folder` and `root: /path/to/images`, with train/<class>/<image> in it.

"""
CNN = "  model: cnn\n  width: 8\n  optimizer: adamw\n  lr: 0.003\n  batch_size: 16\n"
LR = "  lr: {low: 0.0005, high: 0.02, log: true}\n"
RUNGS = """\
  grace_period: 1 # epochs before a trial can be stopped
  reduction_factor: 3 # one in three goes on
"""
POINT = "1 # percentage points: the smallest difference that would change your decision"


@dataclass(frozen=True)
class Draft:
    """What differs between the studies of two kinds of part. Texts are lines of YAML, each with its end.

    subject: that names the part. factor: of which the first two `levels` are compared. tuned: further factors.
    """

    title: str
    subject: str
    baseline: str
    factor: str
    levels: list[Any]
    tuned: str = LR
    epochs: int = 6
    delta: str = POINT
    margin: str = "1 point"
    than: str = ">"  # how a better level compares with another
    metric: str = ""  # of `confirm`
    search: str = RUNGS


def study_text(found: Recognised) -> str:
    """The study as commented YAML, which compares the levels of one factor. BadRequest where there is nothing to
    compare, or nothing that is measured."""
    part = found.part
    settings = {Joined((part,), built_in()).name(part, keyword): one for keyword, one in part.settings.items()}
    if part.key == "experiment":
        return _text(part, _of_task(found, settings))
    if part.key == "metrics":
        return _text(part, _of_metric(found))
    if part.key.startswith("search."):
        return _text(part, _of_search(part))
    return _text(part, _of_dataset(part) if part.key == "dataset.name" else _of_part(part, settings))


def _of_part(part: Part, settings: Mapping[str, Setting]) -> Draft:
    """A model, loss, augmentation, optimizer or schedule: one of its settings, or it beside a built-in one."""
    factor, levels, more = _compared(settings)
    reference = f"{part.key}: {_yaml(part.text)} # the code; a file's path is relative to this one\n"
    optimizer = "" if part.key == "optimizer" else "  optimizer: adamw\n"
    return Draft(
        title=f"Does {factor} matter in {part.short}?"
        if factor
        else f"Is {part.short} better than {BESIDE[part.key]}?",
        subject=STAND_IN + reference,
        baseline=f"{_lines(settings)}{optimizer}  lr: 0.003\n  batch_size: 64\n",
        factor=factor or part.key,
        levels=levels or [BESIDE[part.key], part.text],
        tuned=more + LR,
    )


def _of_dataset(part: Part) -> Draft:
    """What a dataset makes of a small network: two widths of it. Its settings stand below `dataset`."""
    name = f"dataset:\n  name: {_yaml(part.text)} # the code; a file's path is relative to this one\n"
    return Draft(f"Does width matter on {part.short}?", name + _lines(part.settings), CNN, "width", [8, 16])


def _of_search(part: Part) -> Draft:
    """A sampler or a stopping rule searches on the stand-in. Its settings stand beside it, below `search`."""
    key = part.key.removeprefix("search.")
    mine = f"  {key}: {_yaml(part.text)} # the code; a file's path is relative to this one\n{_lines(part.settings)}"
    title = f"Does width matter, with {part.short} as the {'sampler' if key == 'sampler' else 'stopping rule'}?"
    return Draft(title, STAND_IN, CNN, "width", [8, 16], search=mine + (RUNGS if key == "sampler" else ""))


def _of_metric(found: Recognised) -> Draft:
    """A metric is measured, searched for and confirmed, on the stand-in."""
    part = found.part
    number = found.numbers.get(part.short)
    metrics = f"metrics: [{_yaml(part.text)}] # the code; a file's path is relative to this one\n"
    if number is not None and not number.direction:
        note = "# It has no direction, so it is measured alone: accuracy is searched for and confirmed.\n"
        return Draft(f"What does {part.short} say of width?", STAND_IN + metrics + note, CNN, "width", [8, 16])
    objective = f"objective: {part.short} # what is searched for, and confirmed on the test split\n"
    delta, margin = _difference("%" if number is None else number.unit, part.short)
    return Draft(
        title=f"Does width change {part.short}?",
        subject=STAND_IN + metrics + objective,
        baseline=CNN,
        factor="width",
        levels=[8, 16],
        delta=delta,
        margin=margin,
        than=_better(number),
    )


def _of_task(found: Recognised, settings: Mapping[str, Setting]) -> Draft:
    """A task: one of its settings is compared, another one tuned where it is a positive number."""
    part, numbers = found.part, found.numbers
    directed = [name for name, number in numbers.items() if number.direction]
    tests = [name for name in directed if name.startswith(TEST)]
    pairs = [name for name in directed if TEST + name.removeprefix("val_") in tests]
    objective = next(iter([*pairs, *(name for name in directed if name not in tests)]), "")
    if not objective or not tests:
        what = "that each epoch yields" if not objective else f"of the test split, which begins with {TEST}"
        raise BadRequest(
            f"{part.text}: METRICS has no number with a direction {what} (allowed: {{'val_loss': 'min', "
            "'test_loss': 'min'})"
        )
    factor, levels, more = _compared(settings)
    ranges = {name: ends for name, one in settings.items() if (ends := _range(one))}
    if not factor and ranges:
        factor, (low, high) = next(iter(ranges.items()))
        middle = _value(settings[factor])
        levels = [middle, high if high > middle else low]
    if not factor:
        raise BadRequest(
            f"{part.text}: has no setting to compare (allowed: a keyword argument, such as `depth: int = 2`)"
        )
    tuned = [
        f"  {name}: {{low: {low}, high: {high}, log: true}} # check this range\n"
        for name, (low, high) in ranges.items()
        if name != factor
    ]
    confirmed = TEST + objective.removeprefix("val_") if objective in pairs else tests[0]
    delta, margin = _difference(numbers[confirmed].unit, confirmed)
    return Draft(
        title=f"Does {factor} matter in {part.short}?",
        subject=f"experiment: {_yaml(part.text)} # the code; a file's path is relative to this one\n"
        f"objective: {objective} # what is searched for: {'low' if numbers[objective].direction == 'min' else 'high'} "
        "is better\n",
        baseline=_lines(settings),
        factor=factor,
        levels=levels,
        tuned=more + "".join(tuned[:1]),
        epochs=6 if found.epochs else 1,
        metric="" if objective in pairs else f"  metric: {confirmed}\n",
        delta=delta,
        margin=margin,
        than=_better(numbers[confirmed]),
    )


def _better(number: Number | None) -> str:
    return "<" if number is not None and number.direction == "min" else ">"


def _difference(unit: str, name: str) -> tuple[str, str]:
    """`delta` and the margin of a hypothesis about a number in this unit."""
    if unit == "%":
        return POINT, "1 point"
    said = f"in {unit}" if unit else f"in the unit of {name}"
    decides = f"0.1 # check this: {said}, the smallest difference that would change your decision"
    return decides, f"0.1 {unit}".rstrip()


def _compared(settings: Mapping[str, Setting]) -> tuple[str, list[Any], str]:
    """The setting that is compared, with its levels; and lines of comments on others. Empty where none has two."""
    levels = {name: found for name, setting in settings.items() if len(found := _levels(setting)) > 1}
    factor = min(levels, key=lambda name: ("str", "bool", "int").index(settings[name].kind), default="")
    others = [f"  #   {name}: {_factor(found)}\n" for name, found in levels.items() if name != factor]
    more = "".join(["  # other settings that could be compared:\n", *others] if others else [])
    return factor, levels.get(factor, []), more


def _range(setting: Setting) -> tuple[float, float] | None:
    """A range around a positive default that is no whole number, within what the setting takes."""
    middle = _value(setting)
    if setting.kind != "float" or setting.choices or middle is None or middle <= 0:
        return None
    low, high = (float(f"{middle * factor:.2g}") for factor in (1 / 3, 3))
    low, high = (end if _takes(setting, end) else middle for end in (low, high))
    return (low, high) if low < high else None


def _lines(settings: Mapping[str, Setting]) -> str:
    return "".join(f"  {name}: {_yaml(_value(setting))}{_comment(setting)}\n" for name, setting in settings.items())


def _text(part: Part, draft: Draft) -> str:
    first, other = map(_yaml, draft.levels[:2])
    baseline = f"""\
baseline: # what every trial starts from; `resnetlab sweep --settings --study FILE` lists all settings
{draft.baseline}"""
    return f"""\
# A study of the {part.key} {part.text}. Check it: resnetlab sweep --study FILE --dry-run
name: {quoted(re.sub(r"[^A-Za-z0-9_-]+", "-", part.short).strip("-_")[:64] or "own")} # of the results folder
title: {quoted(draft.title)}

{draft.subject}{baseline if draft.baseline else ""}
factors: # settings with levels are compared; ranges are tuned by the search
  {draft.factor}: {_factor(draft.levels)}
{draft.tuned}
# What you expect, declared before any run; every other comparison is reported as exploratory. For example:
# hypotheses:
#   - {draft.factor} {other} {draft.than} {draft.factor} {first} by at least {draft.margin}

search: # finds good settings of the ranges; its results prove nothing
  trials: 12
  epochs: {draft.epochs} # full budget of one trial
{draft.search}
confirm: # runs the levels again on fresh seeds, and looks at the test split
  design: one-factor # each change alone, around the best setting found; factorial: all combinations
  seeds: 5 # runs of each arm; more find smaller effects (the dry run says which)
  delta: {draft.delta}
{draft.metric}
resources: {{cpus: 1}} # of one trial
"""


def _value(setting: Setting) -> Any:
    """The default; of a setting that has none, something that it takes."""
    if not setting.required:
        return setting.default
    if setting.choices or setting.kind == "bool":
        return (*setting.choices, False)[0]
    numbers = [*setting.bounds.values(), 1, 0, 2, 0.5]
    return "" if setting.kind == "str" else next((n for n in numbers if _takes(setting, n)), 1)


def _levels(setting: Setting) -> list[Any]:
    """Values that could be compared, beginning with the default."""
    first = _value(setting)
    if setting.choices:
        return [first, *(choice for choice in setting.choices if choice != first)][:3]
    if setting.kind == "bool":
        return [first, not first]
    if setting.kind != "int" or first is None:
        return [first]
    other = next((n for n in (2 * first, first + 1, first - 1) if n != first and _takes(setting, n)), first)
    return list(dict.fromkeys([first, other]))


def _takes(setting: Setting, value: Any) -> bool:
    try:
        TypeAdapter(setting.annotation).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _comment(setting: Setting) -> str:
    return "".join(f"{'; ' if number else ' # '}{said}" for number, said in enumerate(_said(setting)))


def _said(setting: Setting) -> Iterator[str]:
    if setting.required:
        yield "it has no default: check this value"
    if setting.description:
        yield " ".join(setting.description.split())[:DESCRIBED]
    if setting.choices:
        yield f"allowed: {', '.join(map(_yaml, setting.choices))}"


def _factor(levels: list[Any]) -> str:
    return f"{{levels: [{', '.join(map(_yaml, levels))}]}}"


def _yaml(value: Any) -> str:
    """A value as it can stand in a list of YAML: text in quotes where it is more than a plain word."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_.][\w./+-]*(:[A-Za-z_][\w.]*)?", value)
    reserved = isinstance(value, str) and value.lower() in ("true", "false", "null", ".inf", ".nan")
    return str(value) if plain and not reserved else json.dumps(value, ensure_ascii=False)
