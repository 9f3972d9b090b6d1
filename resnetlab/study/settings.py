"""Values of trial settings in the type that each setting has, however a study file spells them.

A range `{low: 0, high: 1}` of `weight_decay` has real numbers because weight decay is one, `{low: 1.0, high: 3.0}` of
`blocks` whole ones. What does not fit a setting is left as it is, for validation to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from resnetlab.study.frozen import as_truth
from resnetlab.study.trial_config import RunConfig, TrialConfig
from resnetlab.study.yaml_io import broken_rule


def typed(name: str, value: Any, kind: type[RunConfig] = TrialConfig) -> Any:
    """`value` as the setting `name` has it: 0 as 0.0 for a real number, 3.0 as 3 for a whole one, `on` as true.

    kind: of the trials' configs.
    """
    kinds = kind.kinds(name)
    if kinds == {bool}:
        return as_truth(value)
    if float in kinds and type(value) is int and abs(value) < 2**53:
        return float(value)
    if kinds == {int} and type(value) is float and value.is_integer():
        return int(value)
    return value


def typed_settings(settings: Mapping[str, Any], kind: type[RunConfig] = TrialConfig) -> dict[str, Any]:
    """Settings by name, each in its type."""
    return {name: typed(name, value, kind) for name, value in settings.items()}


def typed_factors(factors: Mapping[str, Any], kind: type[RunConfig] = TrialConfig) -> dict[str, Any]:
    """Factors as a study gives them: a branch or a list of branches by name, their levels, bounds and conditions in
    the settings' types."""
    return {
        name: [_branch(name, branch, kind) for branch in given]
        if isinstance(given, list | tuple)
        else _branch(name, given, kind)
        for name, given in factors.items()
    }


def _branch(name: str, branch: Any, kind: type[RunConfig]) -> Any:
    if not isinstance(branch, dict):
        return branch
    found = dict(branch)
    for key in found.keys() & {"levels", "low", "high"}:
        found[key] = _each(name, found[key], kind)
    if isinstance(found.get("when"), dict):
        found["when"] = {parent: _each(parent, levels, kind) for parent, levels in found["when"].items()}
    return found


def _each(name: str, value: Any, kind: type[RunConfig]) -> Any:
    several = isinstance(value, list | tuple)
    return [typed(name, item, kind) for item in value] if several else typed(name, value, kind)


def check_level(name: str, value: Any, kind: type[RunConfig] = TrialConfig) -> None:
    """ValueError where `value`, on its own, cannot be a level of the factor `name`."""
    try:
        kind.check_level(name, value)
    except ValidationError as error:
        raise ValueError(f"factors.{name}: level {value!r}: {broken_rule(error)}") from None
    except ValueError as error:
        raise ValueError(f"factors.{name}: level {value!r}: {error}") from None
