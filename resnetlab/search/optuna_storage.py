"""Optuna's storages: opened by the name of a file or a URL, and read as a table of trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from resnetlab.errors import BadData, BadRequest
from resnetlab.paths import user_path
from resnetlab.provenance import without_secrets

SQLITE, JOURNAL = (".db", ".sqlite", ".sqlite3"), (".log", ".journal")
MOST_LEVELS = 1000  # values of a parameter that are listed; of more, it is a range
MARKS = {"NSGAIISampler": "NSGAIISampler", "NSGAIIISampler": "NSGAIIISampler", "cma": "CmaEsSampler"}  # of trials


def open_storage(where: str, option: str = "--optuna", read: bool = False) -> BaseStorage:
    """The storage in a file (`.db` is SQLite, `.log` or `.journal` Optuna's journal), or at a URL that Optuna takes.

    read: it must be there, and no table is made in it. BadRequest, naming the `option` that it was given for.
    """
    if "://" in where:
        return RDBStorage(where, skip_table_creation=read)
    path = user_path(where, option)
    if not path.parent.is_dir():
        raise BadRequest(f"{option} {where}: no such folder {path.parent}")
    if read and not path.is_file():
        raise BadRequest(f"{option} {where}: no such file")
    if path.suffix in SQLITE:
        return RDBStorage(f"sqlite:///{path}", skip_table_creation=read)
    if path.suffix in JOURNAL:
        return JournalStorage(JournalFileBackend(str(path)))
    raise BadRequest(f"{option} {where}: need a file .db (SQLite), .log or .journal, or a URL")


def is_storage(where: str) -> bool:
    """Whether the name says that it is one."""
    return "://" in where or where.lower().endswith((*SQLITE, *JOURNAL))


@dataclass(frozen=True)
class StoredTrials:
    """An Optuna study as a table. columns: parameters, user attributes, objectives, `state` and `last_step` (of the
    values that a trial reported), None where a trial has none. better: `higher` or `lower`, of each objective. domains:
    all values that each parameter could take, None for a range. designed: all trials came from a grid, or were enqueued
    with all their parameters. sampler: one that left its mark in a trial, empty where none did."""

    study: str
    columns: Mapping[str, Sequence[Any]]
    better: Mapping[str, str]
    domains: Mapping[str, Sequence[Any] | None]
    designed: bool
    sampler: str


def read_trials(where: str, study: str | None = None) -> StoredTrials:
    """The trials of a study; the only one of the storage, where none is named.

    BadRequest where there is no such storage or study, or a parameter and an attribute share a name; BadData where
    what is there is no storage of this version of Optuna.
    """
    shown = without_secrets(where)
    try:
        storage = open_storage(where, "RUNS", read=True)
        names = optuna.get_all_study_names(storage)
        if not names or (study is None and len(names) > 1) or (study is not None and study not in names):
            said = f"--study {study}: {shown}" if study else f"RUNS {shown}"
            if names and study is None:
                said += f" has {len(names)} studies: name one with --study"
            else:
                said += " has no such study" if names else " has no study"
            raise BadRequest(said + (f" (allowed: {', '.join(sorted(names))})" if names else ""))
        held = optuna.load_study(study_name=study or names[0], storage=storage)
        trials, objectives = held.trials, held.metric_names or _objectives(len(held.directions))
        directions = held.directions
    except (BadRequest, BadData):
        raise
    except Exception as error:  # of the storage: SQLAlchemy's, the file system's, the journal's
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise BadData(f"RUNS {shown}: cannot be read as an Optuna storage: {without_secrets(reason)}") from None
    better = {
        name: "lower" if direction is StudyDirection.MINIMIZE else "higher"
        for name, direction in zip(objectives, directions, strict=True)
    }
    return StoredTrials(
        held.study_name,
        _columns(shown, trials, objectives),
        better,
        _domains(trials),
        all(map(_designed, trials)),
        next((name for trial in trials if (name := _mark(trial))), ""),
    )


def _objectives(number: int) -> list[str]:
    return ["value"] if number == 1 else [f"values_{i}" for i in range(number)]


def _columns(place: str, trials: Sequence[FrozenTrial], objectives: Sequence[str]) -> dict[str, list[Any]]:
    parameters = dict.fromkeys(name for trial in trials for name in trial.params)
    attributes = dict.fromkeys(name for trial in trials for name in trial.user_attrs)
    for name in attributes:
        if name in parameters or name in objectives:
            raise BadRequest(f"RUNS {place}: {name!r} names a user attribute and a parameter or objective: rename one")
    columns: dict[str, list[Any]] = {name: [trial.params.get(name) for trial in trials] for name in parameters}
    columns |= {name: [_plain(trial.user_attrs.get(name)) for trial in trials] for name in attributes}
    for i, name in enumerate(objectives):
        columns[name] = [trial.values[i] if trial.values else None for trial in trials]
    columns["state"] = [trial.state.name.lower() for trial in trials]
    if any(trial.intermediate_values for trial in trials):
        columns["last_step"] = [trial.last_step for trial in trials]
    return columns


def _plain(value: Any) -> Any:
    """A user attribute may be any JSON: lists and mappings are text here."""
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _domains(trials: Sequence[FrozenTrial]) -> dict[str, list[Any] | None]:
    """Of each parameter the values that any trial's distribution allowed."""
    found: dict[str, list[Any] | None] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            values, before = _values(distribution), found.get(name, [])
            together = None if values is None or before is None else [*before, *(x for x in values if x not in before)]
            found[name] = together
    return found


def _values(distribution: BaseDistribution) -> list[Any] | None:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        values = range(distribution.low, distribution.high + 1, distribution.step)
        return list(values) if len(values) <= MOST_LEVELS else None
    if isinstance(distribution, FloatDistribution) and distribution.single():
        return [distribution.low]
    return None


def _designed(trial: FrozenTrial) -> bool:
    marks = trial.system_attrs
    return "grid_id" in marks or set(trial.params) <= set(marks.get("fixed_params", ()))


def _mark(trial: FrozenTrial) -> str:
    return next((MARKS[start] for key in trial.system_attrs if (start := key.partition(":")[0]) in MARKS), "")
