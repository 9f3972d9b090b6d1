"""Refuse studies with duplicate runs: two arms with the same config, or a factor that no trial reads.

A trial is identified by the hash of its config, so two plan entries with the same config would share one run. Such a
study is refused before anything runs, with the setting that makes no difference.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from pydantic import ValidationError

from resnetlab.errors import BadRequest
from resnetlab.study import Study
from resnetlab.study.data_config import PLACES, DataConfig
from resnetlab.study.frozen import digest
from resnetlab.study.space import Factor
from resnetlab.study.trial_config import SETTINGS, RunConfig, TrialConfig, of_images
from resnetlab.sweep.task import data_key
from resnetlab.vision.data import label_of

DECIDE = frozenset(
    {"model", "optimizer", "schedule", "head_depth", "input_size", "frozen", "blocks", "loss", "augment"}
)  # settings that decide which other settings are read
MOST = 500  # combinations of their levels that are checked


def check(study: Study) -> None:
    """Raise BadRequest if two arms train alike, or if a factor has no effect at any levels of the others."""
    if study.arms:
        _check_arms(study)
        if not study.experiment:
            _check_places(study)
    else:
        for factor in study.space.factors:
            _check_factor(study, factor)


def _check_arms(study: Study) -> None:
    seen: dict[str, str] = {}
    for name in study.arms:
        config = study.arm_config(name, seed=0)
        first = seen.setdefault(_key(config), name)
        if first != name:
            why = "; ".join(_differences(study, first, name)) or "nothing differs"
            raise BadRequest(f"{study.name}: arms: {first} and {name} train the same network on the same data: {why}")


def _check_places(study: Study) -> None:
    """Raise BadRequest if two arms read the same data from two places: its identity is its settings and its bytes."""
    seen: dict[str, tuple[str, DataConfig]] = {}
    for name in study.arms:
        config = of_images(study.arm_config(name, seed=0))
        first, data = seen.setdefault(data_key(config), (name, config.data))
        for key in ("root", "font_dir"):
            here, there = getattr(config.data, key), getattr(data, key)
            if here != there:
                raise BadRequest(
                    f"{study.name}: arms.{name}.data.{key}: {here}, but arm {first} reads the same {data.name} from "
                    f"{there} (allowed: one place for the same data, or arms whose data differs in another setting)"
                )


def _key(config: RunConfig) -> str:
    """Hash of what a trial trains: its config, with the label of the dataset even if it is the default."""
    if not isinstance(config, TrialConfig):
        return config.trial_id
    return digest(config.identity() | {"data": config.data.identity() | {"label": label_of(config.data)}})


def _differences(study: Study, first: str, second: str) -> Iterator[str]:
    """Each setting that two equivalent arms write differently, and why it makes no difference."""
    arms = [study.baseline | study.arms[name] for name in (first, second)]
    config = study.arm_config(second, seed=0)
    for key in dict.fromkeys([*arms[0], *arms[1]]):
        if arms[0].get(key) == arms[1].get(key):
            continue
        if key == "source":
            yield f"their sources ({', '.join(str(arm.get(key)) for arm in arms)}) train alike"
        elif key == "data":
            yield from _data_differences(*(arm.get(key, {}) for arm in arms))
        else:
            value = next(arm[key] for arm in reversed(arms) if key in arm)
            yield f"{key}={value} has no effect ({_reason(config, key, value)})"


def _data_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys([*first, *second]):
        if first.get(key) != second.get(key):
            why = "it only says where the data is" if key in PLACES else "it has that value anyway"
            yield f"data.{key}={second.get(key, first.get(key))} has no effect ({why})"


def _reason(config: RunConfig, name: str, value: Any) -> str:
    """Why `value` of a setting makes no difference to `config`."""
    if not isinstance(config, TrialConfig):
        return "it has that value anyway" if getattr(config, name) == value else "nothing reads it here"
    if name in config.own.names and name not in config.own.read(config.__dict__) and name not in config.reads:
        return "no part of it that is used reads it"
    if name in SETTINGS and name not in config.reads:
        parent = SETTINGS[name].readers[0].key
        return f"{parent}={getattr(config, parent)} does not read it"
    if name == "head_width" and config.head_depth == 1:
        return "head_depth=1 has no hidden units"
    if name == "resize" and config.input_size is None:
        return "without input_size nothing is resized"
    if name == "backbone_lr_ratio" and config.frozen == config.stages:
        return "every stage is frozen"
    return "it has that value anyway" if getattr(config, name) == value else "nothing reads it here"


def _check_factor(study: Study, factor: Factor) -> None:
    """Raise BadRequest if all values of the factor train alike wherever they can be compared."""
    alike: list[RunConfig] = []
    for values in _surroundings(study, factor):
        index = factor.branch(values)
        if index is None:
            continue
        branch = factor.branches[index]
        tried = list(_configs(study, values, factor.name, branch.levels or (branch.low, branch.high)))
        if len({_key(config) for config in tried}) > 1:
            return
        if len(tried) > 1:
            alike.append(tried[0])
    if alike:
        first = factor.branches[0]
        why = _reason(alike[0], factor.name, first.levels[-1] if first.levels else first.high)
        raise BadRequest(
            f"{study.name}: factors.{factor.name} has no effect: {first.describe()} train the same network ({why}); "
            "take it out, or vary what makes it matter"
        )


def _surroundings(study: Study, factor: Factor) -> Iterator[dict[str, Any]]:
    """Values of the other factors at which this one may matter: the baseline's, then combinations of levels."""
    baseline = study.baseline_values()
    yield {name: value for name, value in baseline.items() if name != factor.name}
    others = [other for other in study.space.factors if other.name in DECIDE and other.name != factor.name]
    choices = [
        tuple(dict.fromkeys(v for branch in other.branches for v in branch.levels or (branch.low, branch.high)))
        for other in others
    ]
    rows = list(product(*choices)) if math.prod(map(len, choices)) <= MOST else _drawn(choices)
    for row in rows:
        values = baseline | dict(zip((other.name for other in others), row, strict=True))
        yield {name: value for name, value in study.space.active(values).items() if name != factor.name}


def _drawn(choices: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    rng = random.Random(0)
    return [tuple(rng.choice(levels) for levels in choices) for _ in range(MOST)]


def _configs(study: Study, values: Mapping[str, Any], name: str, levels: Sequence[Any]) -> Iterator[RunConfig]:
    for level in levels:
        try:
            yield study.config(study.space.active({**values, name: level}), seed=0)
        except ValidationError:
            continue  # infeasible, so never run
