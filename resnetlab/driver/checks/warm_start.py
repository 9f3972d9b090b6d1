"""Trials of other results folders that the sampler is told of (`search.from`): of the same space and data alone.

What was told is kept in the study's own folder, from where a continued sweep takes it: the others may change, or go.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from resnetlab.errors import BadRequest
from resnetlab.search.optuna_sampler import WarmTrial
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table
from resnetlab.study import Study, build_study, differences
from resnetlab.study.records import Phase, Status

FILE = "warm_start.json"


def read(study: Study, folder: ResultsFolder, data: Collection[str]) -> dict[str, Any]:
    """The explore trials that have ended in the folders that the study names; what `keep` keeps.

    data: content hashes of the study's dataset. BadRequest for a folder that is none, or has results of another space,
    budget, objective or dataset; FolderRefused where one is damaged.
    """
    if not study.search.warm_starts:
        return {}
    if (held := folder.read_json(FILE)) is not None:
        return held
    return {"trials": [trial for place in study.search.warm_starts for trial in _of(place, study, folder, data)]}


def keep(folder: ResultsFolder, found: dict[str, Any]) -> None:
    """In the study's own folder, before its first trial."""
    if found:
        folder.write_json(FILE, found)


def trials(found: Mapping[str, Any]) -> list[WarmTrial]:
    """As a sweep takes them."""
    return [(trial["row"], [(epoch, value) for epoch, value in trial["epochs"]]) for trial in found.get("trials", ())]


def _of(place: str, study: Study, folder: ResultsFolder, data: Collection[str]) -> list[dict[str, Any]]:
    where = f"search.from: {place}"
    other = ResultsFolder.at(place, "search.from")
    if other.url == folder.url:
        raise BadRequest(f"{where}: is the folder of this study (allowed: results of others)")
    content = other.read_json("study.json")
    if content is None:
        raise BadRequest(f"{where}: no results folder is there (allowed: a folder that holds study.json)")
    theirs = build_study(content, f"{where}: study.json")
    if changed := differences(_asked(theirs), _asked(study), words="{} there, {} here"):
        raise BadRequest(f"{where}: is another space (allowed: results of the same):\n  " + "\n  ".join(changed))
    table = read_table(other, "trials")
    rows = [] if table is None else [row for row in table.to_pylist() if Phase(row["phase"]).searched]
    rows = [row for row in rows if Status(row["status"]).ended and row["status"] != Status.REPLACED]
    if not rows:
        raise BadRequest(f"{where}: no explore trial has ended there (allowed: a folder where some have)")
    hashes = {row["data_hash"] for row in rows}
    if any(data) and hashes - set(data):
        raise BadRequest(
            f"{where}: its trials read other data: data hash {', '.join(sorted(map(str, hashes)))} there, "
            f"{', '.join(sorted(data))} here (allowed: results on the same data)"
        )
    values = _values(other, study.searched.name)
    second = study.search.second_objective
    names = ["trial_id", "number", "status", *study.space.names, *([second] if second else [])]
    return [
        {"from": other.url, "row": {name: row[name] for name in names}, "epochs": values.get(row["trial_id"], [])}
        for row in rows
    ]


def _values(folder: ResultsFolder, column: str) -> dict[str, list[tuple[int, float]]]:
    """The values of a metric by trial."""
    epochs = read_table(folder, "epochs")
    found: dict[str, list[tuple[int, float]]] = {}
    if epochs is not None:
        columns = (epochs[name].to_pylist() for name in ("trial_id", "epoch", column))
        for trial_id, epoch, value in zip(*columns, strict=True):
            found.setdefault(trial_id, []).append((epoch, value))
    return found


def _asked(study: Study) -> dict[str, Any]:
    """What makes values comparable: the space, what all trials have, the budget and what is searched for."""
    identity = study.identity()
    keys = ("factors", "baseline", "experiment", "dataset", "precision")
    found = {key: identity[key] for key in keys if key in identity}
    search = {"epochs": study.search.epochs, "second_objective": study.search.second_objective}
    parts = [part for part in study.own.parts if not part.key.startswith("search.")]
    code = {"parts": [part.text for part in parts], "source": study.own.source if parts else ""}
    return found | {"search": search, "objective": study.searched.name, "own": code}
