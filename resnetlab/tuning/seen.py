"""Which data a results folder rests on: said in its data.json, and compared before a sweep goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnetlab.config import TrialConfig
from resnetlab.data import Dataset
from resnetlab.data.dataset import changes
from resnetlab.errors import BadData
from resnetlab.seeding import stream
from resnetlab.study import Study
from resnetlab.tables.folder import Folder
from resnetlab.tuning.task import data_key


def starts(study: Study) -> dict[str, TrialConfig]:
    """Configs that between them name every dataset of the study: of each named arm, or of the baseline as ``."""
    names = tuple(study.arms) or ("",)
    return {name: study.arm_config(name, seed=0) if name else study.baseline_config(seed=0) for name in names}


def compared(folder: Folder, study: Study, datasets: Mapping[str, Dataset]) -> dict[str, Any]:
    """What data.json has to say: the dataset of the study, and under `others` what arms read besides, by `data_key`.

    Raises BadData where the folder's rows are of data that has changed since, naming the classes that came and went.
    """
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


def _compare(folder: Folder, held: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if not held or held.get("hash") == now["hash"]:
        return
    label = f" ({now['label']})" if now.get("label") else ""
    what = changes(held.get("classes") or [], now["classes"])
    raise BadData(
        f"{folder.url}: was run on {held.get('name')}{label} with data hash {held.get('hash')}, which is now "
        f"{now['hash']}{f' ({what})' if what else ''}: restore the data, or begin under another name"
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
        **({"bad_rows": dataset.notes["bad rows"]} if "bad rows" in dataset.notes else {}),
    }
