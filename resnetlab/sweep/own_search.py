"""A sampler and a stopping rule of the user's own, called in the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from resnetlab.errors import BadRequest, ResnetlabError
from resnetlab.experiment.messages import Ending
from resnetlab.experiment.own_parts import Bound
from resnetlab.experiment.protocol import is_optuna_sampler
from resnetlab.experiment.source import Source
from resnetlab.search.optuna_sampler import MakeSampler, Propose
from resnetlab.search.rule import Decision, Rule, Values
from resnetlab.study import Study, catalog


def rule(study: Study, place: Path | None) -> Rule:
    """The stopping rule of the study. place: where own code is unpacked."""
    search = study.search
    if (ask := _asked(study, "stopping", place)) is not None:
        return OwnRule(ask, search.epochs, study.searched.sign)
    found = catalog.part(catalog.STOPPING, search.rule)
    made: Rule = found.bound(search)(epochs=search.epochs, sign=study.searched.sign)
    return made


def sampler(study: Study, place: Path | None) -> Propose | None:
    """What proposes in place of Optuna, where the study brings that."""
    if optunas(study, place) is not None:
        return None
    ask = _asked(study, "sampler", place)
    return None if ask is None else lambda done, seed: ask(space=study.space, done=done, seed=seed)


def optunas(study: Study, place: Path | None) -> MakeSampler | None:
    """The class of Optuna's samplers that the study refers to, to be made with a seed; None where it refers to none.
    Its settings are passed where they are not as they are by default: Optuna warns of some when they are given."""
    bound = _bound(study, "sampler", place)
    if bound is None or not is_optuna_sampler(bound.target):
        return None
    given = bound.changed()
    return lambda seed: _called(bound, place, lambda: bound.target(seed=seed, **given))


def _asked(study: Study, name: str, place: Path | None) -> Callable[..., Any] | None:
    """The study's own part, ready to be called. BadRequest, with the user's own traceback, where it raises, or returns
    what it may not."""
    bound = _bound(study, name, place)
    return None if bound is None else lambda **given: _called(bound, place, lambda: bound.first(**given))


def _bound(study: Study, name: str, place: Path | None) -> Bound | None:
    part = next((part for part in study.own.parts if part.key == f"search.{name}"), None)
    if part is None:
        return None
    assert place is not None, "code of the study's own is unpacked before its sweep begins"
    return Bound(part, study.search.own.get(name, {}), Source(study.code, study.own.folder).unpack(place))


def _called(bound: Bound, place: Path | None, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ResnetlabError:
        raise
    except Exception as error:
        ending = Ending.of(error, place)
        raise BadRequest(f"{bound.reference}: {ending.reason}\n{ending.traceback}".rstrip()) from None


class OwnRule:
    """A user's function of (epoch, values, others), asked after every epoch but the last.

    It knows trials by their values up to now, higher being better.
    """

    def __init__(self, ask: Callable[..., Any], epochs: int, sign: int):
        self._ask, self._epochs, self._sign = ask, epochs, sign
        self._values: dict[str, list[float]] = {}

    def report(self, trial_id: str, epoch: int, value: float, exempt: bool = False) -> Decision | None:
        values = self._values.setdefault(trial_id, [])
        if epoch > len(values):
            values.append(self._sign * value)
        if epoch >= self._epochs:
            return None
        others = [list(other) for name, other in self._values.items() if name != trial_id]
        stop = bool(self._ask(epoch=epoch, values=list(values), others=others))
        decision = "continue" if not stop else "exempt" if exempt else "stop"
        return Decision(epoch - 1, epoch, float(value), None, len(others), decision)

    def replay(self, rows: Iterable[dict[str, Any]], values: Values) -> None:
        for trial_id, seen in values.items():
            self._values[trial_id] = [self._sign * value for _, value in sorted(seen)]
