"""Rows of a results folder whose study is extended, and what is written down before the extended study runs.

Whatever is written can be written twice: a process that is killed in between leaves a folder of the study before, which
can be continued or extended again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from resnetlab.errors import FolderRefused
from resnetlab.storage import versions
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store
from resnetlab.study import Study
from resnetlab.study.extension import Extension
from resnetlab.study.records import Phase, Status
from resnetlab.sweep.plan_store import set_aside

Row = dict[str, Any]  # of the trials table


def write_study(store: Store, study: Study, extension: Extension | None) -> int:
    """Write study.json, and before it all that changes where `extension` says what `study` asks beyond the one before;
    the version of the study. FolderRefused as of `changes`, before anything is written."""
    folder = store.folder
    versions.settle(folder)
    if extension is not None:
        for changed in changes(study, store.trials.values(), folder):
            store.add("trials", changed)
        store.publish()
        if extension.explores:
            set_aside(folder)
        versions.keep(folder)
    folder.write_json("study.json", study.recorded())
    versions.settle(folder)
    return versions.number(folder)


def changes(study: Study, rows: Iterable[Mapping[str, Any]], folder: ResultsFolder) -> list[dict[str, Any]]:
    """What differs in the trials table once its study is `study`: for each row trial_id and the columns that change.

    Further factors get the level at which the trial ran; runs of another budget are replaced, as they are run again;
    numbers of trials that were not proposed leave room for those that will be. FolderRefused, naming `folder`, for an
    explore trial that is no point of the study's space.
    """
    held = [dict(row) for row in rows]
    found: dict[str, dict[str, Any]] = {row["trial_id"]: {} for row in held}
    for row in held:
        if missing := [name for name in study.columns if name not in row]:
            found[row["trial_id"]] |= _levels(study, row, missing)
        if _of_another_budget(study, row):
            found[row["trial_id"]] |= _replaced(study, row)
        elif _proposed(row):
            _check_point(study, row | found[row["trial_id"]], folder)
    for trial_id, number in _numbers(study, [row | found[row["trial_id"]] for row in held]).items():
        found[trial_id]["number"] = number
    return [{"trial_id": trial_id, **changed} for trial_id, changed in found.items() if changed]


def _proposed(row: Row) -> bool:
    """Whether the number of a trial is that of its proposal."""
    return Phase(row["phase"]).searched and row["status"] != Status.REPLACED


def _levels(study: Study, row: Row, missing: list[str]) -> dict[str, Any]:
    """The levels of factors that had no column, as the trial's config has them; None where they are inactive."""
    config = study.trial_type.model_validate_json(row["config"])
    values = {name: getattr(config, name) for name in study.columns}
    active = values if study.arms else study.space.active(values)
    return {name: active.get(name) for name in missing}


def _check_point(study: Study, row: Row, folder: ResultsFolder) -> None:
    values = {name: row[name] for name in study.space.names if row[name] is not None}
    if problem := study.space.problem(values):
        raise FolderRefused(
            f"{folder.url}: --extend: trial {row['number']} is no point of the study that is asked for: {problem}"
        )


def _of_another_budget(study: Study, row: Row) -> bool:
    phase = Phase(row["phase"])
    if row["status"] == Status.REPLACED or phase is Phase.CONFIRM:
        return False
    budget = study.search.epochs if phase.searched else study.baseline_config(seed=0).epochs
    return bool(row["epochs_allowed"] != budget)


def _replaced(study: Study, row: Row) -> dict[str, Any]:
    reason = f"replaced by a run of {study.search.epochs} epochs, after a budget of {row['epochs_allowed']}"
    return {"status": str(Status.REPLACED), "reason": "; ".join(part for part in (reason, row["reason"]) if part)}


def _numbers(study: Study, rows: list[Row]) -> dict[str, int]:
    """New numbers of trials that were not proposed, by trial_id: behind all that are proposed, in the old order."""
    proposed = {row["number"] for row in rows if _proposed(row)}
    others = sorted((row for row in rows if not _proposed(row)), key=lambda row: row["number"])
    first = max([study.explore_trials - 1, *proposed]) + 1
    if not others or (others[0]["number"] >= first and len({row["number"] for row in others}) == len(others)):
        return {}
    return {row["trial_id"]: number for number, row in enumerate(others, first) if row["number"] != number}
