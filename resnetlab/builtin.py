"""What a file of a built-in part declares: `PARTS`, of the classes below. `study.catalog` finds the files.

A built-in part is a function whose keyword arguments, with their annotations and defaults, are its settings, as those
of a user's own function are. Its file is imported wherever a study is read, also where torch is not installed: what is
slow to import, it imports inside its functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Settings = Mapping[str, Any]


def _no_limits(settings: Settings) -> None:
    pass


def _as_they_are(settings: Settings) -> Settings:
    return {}


@dataclass(frozen=True)
class BuiltIn:
    """One part.

    Args:
        name: that a study gives it.
        make: takes what its kind is given (`study.catalog.KINDS`), then its settings as keywords.
        limits: raises ValueError where settings, each good in itself, do not go together.
        settle: gives those settings another value that have no effect beside the others, so that two trials that train
            alike are one trial.
        always: true of an augmentation that every trial has, whatever it names.
    """

    name: str
    make: Callable[..., Any]
    limits: Callable[[Settings], None] = _no_limits
    settle: Callable[[Settings], Settings] = _as_they_are
    always: bool = False


@dataclass(frozen=True, kw_only=True)
class Network(BuiltIn):
    """A network. `make(shape, classes, …)` takes the (H, W, C) of the images and returns a `models.blocks.Staged`.

    Args:
        stages: how many it has before the head: the most that can be frozen.
        sizes: takes what `make` takes; the `vision.sizes.Size` of each stage and of the head by arithmetic, or None
            where only building it tells. It raises NoPixel where a map would vanish.
        weights: true where torchvision has weights for it.
    """

    stages: Callable[[Settings], int]
    sizes: Callable[..., Any] | None = None
    weights: bool = False


@dataclass(frozen=True, kw_only=True)
class Schedule(BuiltIn):
    """A learning rate schedule. `make(done, …)` takes the part in [0, 1) of the run that is over.

    Args:
        depends_on_budget: false of one that does not change with the length of the run: a trial that has had its epochs
            can then be given further ones, and is what it would have been with all from the start.
    """

    depends_on_budget: bool = True


@dataclass(frozen=True, kw_only=True)
class StoppingRule(BuiltIn):
    """A rule that stops trials of the explore stage. `make(epochs, sign, …)` takes the full budget and 1 or -1, where
    higher or lower values are better, and returns a `search.rule.Rule`.

    Args:
        decides: the epochs at which it does, from its settings and `epochs`.
        words: what it is, in a sentence's beginning, from its settings.
        keeps: the share of trials that go on at each of those epochs, where it is fixed: for a forecast of costs.
    """

    decides: Callable[[Settings], list[int]]
    words: Callable[[Settings], str]
    keeps: Callable[[Settings], float] | None = None


@dataclass(frozen=True, kw_only=True)
class Dataset(BuiltIn):
    """A dataset. `make(config, cache)` takes all settings of the study's `dataset` and the folder of the cache, and
    returns a `vision.data.source.Source`.

    Args:
        settings: a pydantic model of those that this dataset reads, besides the ones that all do.
        places: those of them that say only where the bytes lie, which is not recorded.
        defaults: other defaults for settings that all datasets have.
        drawn: whether images of one thing are alike without being copies, as those of one character are.
    """

    settings: Any = None
    places: tuple[str, ...] = ()
    defaults: Settings = field(default_factory=dict)
    drawn: bool = False


def need(allowed: bool, rule: str, settings: Settings, *names: str) -> None:
    """ValueError where not `allowed`: the rule, and the values of the settings `names`."""
    if not allowed:
        got = ", ".join(f"{name}={settings[name]}" for name in names)
        raise ValueError(f"need {rule}, got {got}")
