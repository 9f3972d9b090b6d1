"""A study's own parts in the workers: found in the unpacked code, and called with a trial's settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from resnetlab.experiment.protocol import OF_KEY
from resnetlab.experiment.references import Reference
from resnetlab.experiment.scores import BUILT_IN as SCORES
from resnetlab.experiment.scores import Score, own_score
from resnetlab.study.part_settings import PartSettings
from resnetlab.study.parts import Part
from resnetlab.study.trial_config import RunConfig

DATA = "dataset.name"  # the key of a part that is a dataset


@dataclass(frozen=True)
class Bound:
    """A part with its settings, ready to be called with what its kind is given. folder: of the study's files."""

    part: Part
    values: Mapping[str, Any]
    folder: Path

    @cached_property
    def reference(self) -> Reference:
        part = self.part
        folder = str(self.folder) if part.file else ""
        return Reference(part.key, part.text, part.name, part.module, part.file, folder)

    @cached_property
    def target(self) -> Callable[..., Any]:
        """The function or class itself."""
        found: Callable[..., Any] = self.reference.load()
        return found

    @cached_property
    def _settings(self) -> PartSettings:
        kind = OF_KEY[self.part.key]
        return PartSettings.of(self.target, str(self.reference), kind.given_to(self.target), kind.offered)

    def by_default(self) -> Bound:
        """The same with its defaults for all settings."""
        return replace(self, values={name: setting.default for name, setting in self._settings.settings.items()})

    def changed(self) -> dict[str, Any]:
        """The settings that are not as they are by default."""
        settings = self._settings.settings
        return {name: value for name, value in self.values.items() if value != settings[name].default}

    def __call__(self, **given: Any) -> Any:
        """What the part returns. given: by the names of its kind, e.g. `logits` and `labels`."""
        return self._settings.call(self.target, self.values, **given)

    def of_scores(self, labels: Any, scores: Any) -> Any:
        """What a metric returns. It gets copies: other metrics see the same arrays."""
        return self(labels=labels.copy(), scores=scores.copy())

    def first(self, **given: Any) -> Any:
        """The same, with BadRequest where that is not what such a part returns."""
        found = self(**given)
        OF_KEY[self.part.key].check(found, str(self.reference))
        return found


class OwnParts:
    """The own parts that one trial uses. folder: of the study's files, as `Source.unpack` returns it."""

    def __init__(self, config: RunConfig, folder: Path | None):
        self._bound = [
            Bound(part, config.own.keywords(part, config), folder or Path())
            for part in config.own.chosen(config.__dict__)
        ]

    def one(self, key: str) -> Bound | None:
        """The model, loss, optimizer or schedule; None where that is a built-in one."""
        return next(self.all(key), None)

    def all(self, key: str) -> Iterator[Bound]:
        """In the order of the study's parts."""
        return (bound for bound in self._bound if bound.part.key == key)


def scores(metrics: Iterable[str | Part], folder: Path | None) -> list[Score]:
    """The metrics of `Study.scored`, ready to be computed. folder: of the study's files."""
    found = []
    for metric in metrics:
        if isinstance(metric, str):
            found.append(SCORES[metric])
            continue
        found.append(own_score(metric.short, Bound(metric, {}, folder or Path()).by_default().of_scores))
    return found
