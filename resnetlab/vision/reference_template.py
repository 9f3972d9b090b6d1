"""A commented study for a network, or another part, of one's own: what `resnetlab new my_net.py:net` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter, ValidationError

from resnetlab.study.parts import NONE, Joined, Part, Setting
from resnetlab.study.trial_config import built_in
from resnetlab.study.yaml_io import quoted

BESIDE = {  # what a part is compared with where it has no setting of its own to compare
    "model": "cnn",
    "loss": "cross-entropy",
    "augment": NONE,
    "optimizer": "adamw",
    "schedule": "constant",
}
DESCRIBED = 60  # characters of a description that a comment has at most


def study_text(part: Part) -> str:
    """The study as commented YAML, with the settings of `part` in its baseline, and one of them as a factor."""
    joined = Joined((part,), built_in())
    settings = {joined.name(part, keyword): setting for keyword, setting in part.settings.items()}
    levels = {name: found for name, setting in settings.items() if len(found := _levels(setting)) > 1}
    factor = min(levels, key=lambda name: ("str", "bool", "int").index(settings[name].kind), default=part.key)
    chosen = levels.get(factor, [BESIDE[part.key], part.text])
    others = [f"  #   {name}: {_factor(found)}" for name, found in levels.items() if name != factor]
    more = "\n".join(["  # other settings that could be compared:", *others, ""] if others else [])
    baseline = "".join(f"  {name}: {_yaml(_value(setting))}{_comment(setting)}\n" for name, setting in settings.items())
    name = part.name.rpartition(".")[2]
    title = f"Does {factor} matter in {name}?" if factor in levels else f"Is {name} better than {BESIDE[part.key]}?"
    optimizer = "" if part.key == "optimizer" else "  optimizer: adamw\n"
    return f"""\
# A study of the {part.key} {part.text}. Check it: resnetlab sweep --study FILE --dry-run
name: {quoted(re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_")[:64] or "own")} # of the results folder
title: {quoted(title)}

dataset:
  name: digits # a stand-in that needs no download: 20 × 20 grey pixels, ten classes
  # Your own images: `name: folder` and `root: /path/to/images`, with train/<class>/<image> in it.

{part.key}: {_yaml(part.text)} # the code; a file's path is relative to this one
baseline: # what every trial starts from; `resnetlab sweep --settings --study FILE` lists all settings
{baseline}{optimizer}  lr: 0.003
  batch_size: 64

factors: # settings with levels are compared; ranges are tuned by the search
  {factor}: {_factor(chosen)}
{more}  lr: {{low: 0.0005, high: 0.02, log: true}}

# What you expect, declared before any run; every other comparison is reported as exploratory. For example:
# hypotheses:
#   - {factor} {_yaml(chosen[1])} > {factor} {_yaml(chosen[0])} by at least 1 point

search: # finds good settings of the ranges; its results prove nothing
  trials: 12
  epochs: 6 # full budget of one trial
  grace_period: 1 # epochs before a trial can be stopped
  reduction_factor: 3 # one in three goes on

confirm: # runs the levels again on fresh seeds, and looks at the test images
  design: one-factor # each change alone, around the best setting found; factorial: all combinations
  seeds: 5 # runs of each arm; more find smaller effects (the dry run says which)
  delta: 1 # percentage points: the smallest difference that would change your decision

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
