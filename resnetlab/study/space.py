"""Factors and their levels: which trials a study can contain.

A factor has one or more branches. A branch gives levels (a list) or a range (low, high), and may hold only under a
condition on other factors: `when: {optimizer: [sgd]}`. A factor with no branch that holds is inactive: the baseline's
value applies, and tables show null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from resnetlab.study.frozen import Frozen
from resnetlab.study.yaml_io import explain
from resnetlab.wording import level_text

Level = bool | int | float | str


class Branch(Frozen):
    """Levels or a range, and the condition under which they hold."""

    levels: tuple[Level, ...] | None = Field(None, description="a list of at least two different values")
    low: float | int | None = None
    high: float | int | None = None
    log: bool = Field(False, description="draw the logarithm evenly")
    when: dict[str, tuple[Level, ...]] = Field(default_factory=dict, description="other factor: value or list")

    @field_validator("levels", mode="before")
    @classmethod
    def _no_null(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and any(level is None for level in value):
            raise ValueError(
                "null cannot be a level: in the tables it says that nothing reads the factor (allowed: a value that "
                "stands for it, e.g. 0 or none)"
            )
        return value

    @field_validator("when", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: levels if isinstance(levels, list | tuple) else [levels] for name, levels in value.items()}

    @model_validator(mode="after")
    def _levels_or_range(self) -> Branch:
        if (self.levels is None) == (self.low is None and self.high is None):
            raise ValueError("need either levels, or low and high")
        if self.levels is not None:
            if len(self.levels) < 2 or len({repr(level) for level in self.levels}) < len(self.levels):
                raise ValueError(f"need at least two different levels, got levels={list(self.levels)}")
            if self.log:
                raise ValueError("log belongs to a range, not to levels")
        else:
            if self.low is None or self.high is None or not self.low < self.high:
                raise ValueError(f"need low < high, got low={self.low}, high={self.high}")
            if self.log and self.low <= 0:
                raise ValueError(f"need 0 < low < high where log is true, got low={self.low}, high={self.high}")
        return self

    @property
    def integer(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def holds(self, values: Mapping[str, Any]) -> bool:
        return all(values.get(name) in levels for name, levels in self.when.items())

    def contains(self, value: Any) -> bool:
        if self.levels is not None:
            return any(value == level and isinstance(value, bool) == isinstance(level, bool) for level in self.levels)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and bool(self.low <= value <= self.high)

    def end(self, choose: Callable[..., Any]) -> Any:
        """The lowest or the highest value, as `choose` is min or max; of levels that are no numbers the first or the
        last."""
        ends = self.levels or (self.low, self.high)
        return choose(ends) if all(isinstance(end, int | float) for end in ends) else ends[0 if choose is min else -1]

    def position(self, value: Any) -> float:
        """Where `value` lies in the branch, from 0 to 1: of a log range on the logarithm, of levels by their order."""
        if self.levels is not None:
            return self.levels.index(value) / (len(self.levels) - 1)
        low, high = float(self.low), float(self.high)  # type: ignore[arg-type]
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return float(min(max((value - low) / (high - low), 0.0), 1.0))

    def at(self, unit: float) -> Any:
        """The value at `unit` in [0, 1): the reverse of drawing one evenly, of a log range on the logarithm."""
        if self.levels is not None:
            return self.levels[int(unit * len(self.levels))]
        low, high = float(self.low), float(self.high)  # type: ignore[arg-type]
        if self.integer:
            high += 1
        value = low * (high / low) ** unit if self.log else low + (high - low) * unit
        return int(value) if self.integer else value

    def describe(self) -> str:
        if self.levels is not None:
            text = ", ".join(map(level_text, self.levels))
        else:
            text = f"{self.low} … {self.high}" + (" (log)" if self.log else "")
        where = " and ".join(f"{name} is {' or '.join(map(level_text, levels))}" for name, levels in self.when.items())
        return f"{text} when {where}" if where else text


class Factor(Frozen):
    """One thing that a study varies."""

    name: str
    branches: tuple[Branch, ...]

    def branch(self, values: Mapping[str, Any]) -> int | None:
        """The index of the first branch that holds under `values`, None where the factor is inactive."""
        return next((i for i, branch in enumerate(self.branches) if branch.holds(values)), None)

    @property
    def compared(self) -> bool:
        """True where the factor has levels that can be compared; a range is tuned, not compared."""
        return all(branch.levels is not None for branch in self.branches)

    @property
    def levels(self) -> tuple[Level, ...]:
        """All levels of all branches, in the order in which the study names them."""
        found: list[Level] = []
        for branch in self.branches:
            found += [level for level in branch.levels or () if not any(_same(level, other) for other in found)]
        return tuple(found)


class Space(Frozen):
    """A study's factors, parents before the factors whose conditions name them."""

    factors: tuple[Factor, ...]

    @classmethod
    def of(cls, factors: Mapping[str, Any]) -> Space:
        """From a mapping of names to a branch, or to a list of branches."""
        built = {name: _factor(name, branches) for name, branches in factors.items()}
        parents = {
            name: {parent for branch in factor.branches for parent in branch.when} for name, factor in built.items()
        }
        for name, wanted in parents.items():
            for parent in sorted(wanted - set(built)):
                allowed = ", ".join(sorted(set(built) - {name})) or "none"
                raise ValueError(f"factors.{name}.when: {parent!r} is not a factor of this study (allowed: {allowed})")
        try:
            order = list(TopologicalSorter(parents).static_order())
        except CycleError as error:
            raise ValueError(f"factors: conditions go round in a circle: {' -> '.join(error.args[1])}") from None
        position = {name: i for i, name in enumerate(built)}
        depth: dict[str, int] = {}
        for name in order:
            depth[name] = 1 + max((depth[parent] for parent in parents[name]), default=-1)
        names = sorted(built, key=lambda name: (depth[name], position[name]))
        return cls(factors=tuple(built[name] for name in names))

    def __getitem__(self, name: str) -> Factor:
        return next(factor for factor in self.factors if factor.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(factor.name for factor in self.factors)

    def active(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The part of `values` whose factors are active under it."""
        kept: dict[str, Any] = {}
        for factor in self.factors:
            if factor.branch(kept) is not None and factor.name in values:
                kept[factor.name] = values[factor.name]
        return kept

    def ends(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The points where all factors are lowest, and where they are highest, each with its name."""
        for word, choose in (("smallest", min), ("largest", max)):
            values: dict[str, Any] = {}
            for factor in self.factors:
                if (index := factor.branch(values)) is not None:
                    values[factor.name] = factor.branches[index].end(choose)
            yield f"the {word} point", values

    def problem(self, values: Mapping[str, Any]) -> str | None:
        """Why `values` is not a point of this space, or None."""
        kept: dict[str, Any] = {}
        for factor in self.factors:
            index = factor.branch(kept)
            if index is None:
                continue
            if factor.name not in values:
                return f"{factor.name} is missing (allowed: {factor.branches[index].describe()})"
            value = values[factor.name]
            if value is None:
                allowed = factor.branches[index].describe()
                return (
                    f"{factor.name} is read by nothing here, or is null (allowed: {allowed}; or take the factor out, "
                    "or say `when` it matters)"
                )
            if not factor.branches[index].contains(value):
                return f"{factor.name}={value} is not allowed (allowed: {factor.branches[index].describe()})"
            kept[factor.name] = value
        return None


def _factor(name: str, branches: Any) -> Factor:
    """One factor from what a study file gives; ValueError that names the factor (and the branch, of several)."""
    if not isinstance(branches, list | tuple):
        branches = [branches]
    built = []
    for number, branch in enumerate(branches, start=1):
        where = f"factors.{name}" + (f", branch {number}" if len(branches) > 1 else "")
        try:
            built.append(Branch.model_validate(branch))
        except ValidationError as error:
            raise ValueError(explain(error, Branch, where)) from None
    if not built:
        raise ValueError(f"factors.{name}: need levels, or low and high")
    return Factor(name=name, branches=tuple(built))


def _same(one: Level, other: Level) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)
