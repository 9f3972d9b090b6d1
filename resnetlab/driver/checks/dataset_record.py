"""Record in data.json which data a results folder is based on, and compare it before a sweep continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from resnetlab.errors import BadData
from resnetlab.experiment.scores import guessed
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.schema import schema
from resnetlab.study import Study
from resnetlab.study.data_config import DataConfig
from resnetlab.study.records import bad_rows_said
from resnetlab.study.seeding import stream
from resnetlab.study.space import Factor
from resnetlab.study.trial_config import TrialConfig
from resnetlab.sweep.task import data_key
from resnetlab.vision.data import Dataset, doubted, named, said
from resnetlab.vision.data.dataset import changes
from resnetlab.vision.data.split import SPLITS

_doubts: dict[tuple[str, DataConfig, int], list[str]] = {}


def starts(study: Study) -> dict[str, TrialConfig]:
    """Configs that together name every dataset of the study: by name of a named arm, or that of the baseline under ``.

    Empty for a study's own task.
    """
    names = tuple(study.arms) or ("",)
    configs = {name: study.arm_config(name, seed=0) if name else study.baseline_config(seed=0) for name in names}
    return {name: config for name, config in configs.items() if isinstance(config, TrialConfig)}


def known(datasets: Mapping[str, Dataset]) -> dict[str, tuple[str, Sequence[str]]]:
    """Content hash and classes of each dataset, by key; both empty for a study's own task, which has its own data."""
    return {key: (dataset.hash, dataset.classes) for key, dataset in datasets.items()} or {"": ("", ())}


def guessing(study: Study, datasets: Mapping[str, Dataset]) -> dict[str, float]:
    """The most that a run which learnt nothing is likely to reach, by name of a named arm, or under ``; for the plan.

    Empty if unknown: for a study's own task or metric.
    """
    levels = {}
    for name, config in starts(study).items():
        data = datasets[data_key(config)]
        tested = np.bincount(data.labels[data.split("test", config.split_seed)], minlength=data.n_classes)
        if (level := guessed(study.confirmed_score, tested)) is not None:
            levels[name] = level
    return levels


def test_images(study: Study, datasets: Mapping[str, Dataset]) -> int:
    """How many images confirm runs are tested on: of named arms the fewest that any has; 0 for a task's own data."""
    found = [datasets[data_key(config)].split("test", config.split_seed) for config in starts(study).values()]
    return min(map(len, found), default=0)


def compared(folder: ResultsFolder, study: Study, datasets: Mapping[str, Dataset]) -> dict[str, Any]:
    """The content of data.json: facts on the study's dataset and, under `others`, on further ones of arms, by key.

    Raises BadData, naming the classes that came and went, if the data has changed since the folder's rows.
    """
    if study.experiment:
        return {}
    configs = {data_key(config): config for config in starts(study).values()}
    first, *others = configs
    content = _facts(study, configs[first], datasets[first])
    if others:
        content["others"] = {key: _facts(study, configs[key], datasets[key]) for key in others}
    held = folder.read_json("data.json") or {}
    _compare(folder, held, content)
    for key, now in content.get("others", {}).items():
        _compare(folder, held.get("others", {}).get(key, {}), now)
    return content


def notes(study: Study, config: TrialConfig, dataset: Dataset) -> list[str]:
    """What people should know of the data that `config` reads, in the trials that the study may hold."""
    levels = [level for factor in study.space.factors if factor.name == "data_fraction" for level in _ends(factor)]
    fractions = [one.data_fraction for one in starts(study).values() if data_key(one) == data_key(config)]
    return [*said(config.data, dataset, config.split_seed, [*fractions, *levels]), *doubts(config, dataset)]


def doubts(config: TrialConfig, dataset: Dataset) -> list[str]:
    """Of the notes, those that let test accuracy say less than it seems to."""
    key = (dataset.hash, config.data, config.split_seed)
    if key not in _doubts:
        _doubts[key] = doubted(config.data, dataset, config.split_seed)
    return _doubts[key]


def counts(config: TrialConfig, dataset: Dataset) -> dict[str, list[int]]:
    """Images of each class, by its number, in each split."""
    return {
        split: np.bincount(
            dataset.labels[dataset.split(split, config.split_seed)], minlength=dataset.n_classes
        ).tolist()
        for split in SPLITS
    }


def image_table(study: Study, datasets: Mapping[str, Dataset]) -> pa.Table:
    """The table `images`: where each image of the study's datasets lies, its split and its group. Without those of
    sources that have neither files nor groups."""
    parts = []
    for config in {data_key(config): config for config in starts(study).values()}.values():
        dataset = datasets[data_key(config)]
        paths, groups = named(config.data, dataset)
        if not paths:
            continue
        split = np.full(len(paths), None, object)
        for name in SPLITS:
            split[dataset.split(name, config.split_seed)] = name
        columns = {
            "data_hash": [dataset.hash] * len(paths),
            "image": np.arange(len(paths)),
            "file": _texts(paths),
            "split": split.tolist(),
            "label": dataset.labels,
            "group": [None] * len(paths) if groups is None else _texts(groups),
        }
        parts.append(pa.table(columns, schema("images")))
    return pa.concat_tables(parts) if parts else schema("images").empty_table()


def _texts(names: Sequence[str]) -> list[str]:
    """Names of files as text, whatever bytes they are."""
    return [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in names]


def _ends(factor: Factor) -> list[float]:
    """The levels of a factor, and the low ends of its ranges."""
    return [float(level) for branch in factor.branches for level in branch.levels or (branch.low,) if level is not None]


def noted(content: Mapping[str, Any]) -> list[str]:
    """All notes in what data.json has to say, each once, and the rows that were left out."""
    parts = [content, *content.get("others", {}).values()]
    lines = dict.fromkeys(line for part in parts for line in part.get("notes", ()))
    return [*lines, *([bad_rows_said(content["bad_rows"])] if "bad_rows" in content else [])]


def _compare(folder: ResultsFolder, held: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if not held or held.get("hash") == now["hash"]:
        return
    label = f" ({now['label']})" if now.get("label") else ""
    what = changes(held.get("classes") or [], now["classes"])
    raise BadData(
        f"{folder.url}: was run on {held.get('name')}{label} with data hash {held.get('hash')}, which is now "
        f"{now['hash']}{f' ({what})' if what else ''}: restore the data, or begin under another name"
        + (" (a function that returns a dataset has to return the same each time)" if ":" in now["name"] else "")
    )


def _facts(study: Study, config: TrialConfig, dataset: Dataset) -> dict[str, Any]:
    seed = stream(study.seed, "split")
    return {
        "name": config.data.name,
        "hash": dataset.hash,
        **({"label": config.data.label} if config.data.label else {}),
        "classes": list(dataset.classes),
        "shape": list(dataset.shape),
        **{name: len(dataset.split(name, seed)) for name in ("train", "val", "test")},
        "counts": counts(config, dataset),
        **({"notes": lines} if (lines := notes(study, config, dataset)) else {}),
        **({"doubts": lines} if (lines := doubts(config, dataset)) else {}),
        **({"skipped": dataset.notes["skipped"]} if "skipped" in dataset.notes else {}),
        **({"bad_rows": dataset.notes["bad rows"]} if "bad rows" in dataset.notes else {}),
    }
