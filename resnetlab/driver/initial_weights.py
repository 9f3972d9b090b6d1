"""A file of weights that a person gives a sweep: who starts from it, whether it fits, where it is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from resnetlab.errors import BadData, BadRequest, FolderRefused
from resnetlab.storage.layout import WEIGHTS
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table
from resnetlab.study import Study
from resnetlab.study.trial_config import MODEL_SETTINGS, RunConfig, TrialConfig
from resnetlab.sweep.task import data_key
from resnetlab.vision.data import Dataset
from resnetlab.vision.training.kept_weights import by_name, kept
from resnetlab.wording import plural

if TYPE_CHECKING:
    from resnetlab.vision.models.pretrained import Weights

BY_NAME = re.compile(r"[A-Z][A-Z0-9_]*")  # torchvision's, as a study says them
MOST = 1000  # combinations of levels that are looked at


def asked(study: Study, path: Path | None) -> tuple[Study, Weights | None]:
    """The study whose trials start from the file at `path` where it says torchvision's weights by name, and the
    weights; the study as it is where `path` is None. Its levels and hypotheses keep the names.

    Raises BadData for a file that cannot be taken, BadRequest where nothing in the study starts from it.
    """
    if path is None:
        return study, None
    from resnetlab.vision.models.pretrained import read

    found = read(path)
    mine = f"file:{found.digest}"
    taken = study.model_copy(update={"given_weights": study.given_weights | dict.fromkeys(_names(study), mine)})
    if not any(config.weights == mine for _, config in _starting(taken)):
        raise BadRequest(
            f"--weights {path}: nothing in {study.name} starts from weights by name; to start from this file, say "
            f"weights: {mine} in its baseline, an arm or a factor"
        )
    return taken, found


def settled(study: Study, folder: ResultsFolder) -> Study:
    """The study as it goes on in `folder`: with the files that were given before for names, where none is given now.

    A file is taken for a name as long as no trial has trained from what the name meant until then; where trials have,
    and the file holds the very same weights, the trials keep the name (`contents` finds the file for them).
    FolderRefused where it holds others: those trials would not compare.
    """
    held: Mapping[str, str] = (folder.read_json("study.json") or {}).get("given_weights") or {}
    now = study.given_weights
    taken = dict(held)
    changed = {name: file for name, file in now.items() if held.get(name) != file}
    rows = _rows(folder) if changed else []
    for name, file in changed.items():
        before = held.get(name, name)
        trained = [row for row in rows if row["epochs_run"] and json.loads(row["config"])["weights"] == before]
        others = sorted({str(row["weights_hash"]) for row in trained} - {file.removeprefix("file:")})
        if others:
            raise FolderRefused(
                f"{folder.url}: {plural(len(trained), 'trial')} started from weights {name} with "
                f"content {', '.join(others)}, and the file given with --weights has "
                f"{file.removeprefix('file:')}: trials from different weights do not compare; "
                "give the file with that content, or use another --name"
            )
        if not trained:
            taken[name] = file
    return study.model_copy(update={"given_weights": taken})


def contents(folder: ResultsFolder, rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Content hash by `model name` of torchvision's weights that the folder holds, because trials there have started
    from them and their file was given since."""
    here = {name.removesuffix(".safetensors") for name in folder.names(WEIGHTS)}
    known = ((json.loads(row["config"]), row["weights_hash"]) for row in rows if row["weights_hash"] in here)
    return {
        by_name(config["model"], config["weights"]): found
        for config, found in known
        if BY_NAME.fullmatch(config["weights"])
    }


def _rows(folder: ResultsFolder) -> list[dict[str, Any]]:
    table = read_table(folder, "trials")
    return [] if table is None else list(table.to_pylist())


def check(study: Study, datasets: Mapping[str, Dataset], given: Weights | None, folder: ResultsFolder) -> None:
    """BadData, naming what does not fit, unless each network of the study can start from the file that it asks for:
    the one given, or one that an earlier session left in the results folder."""
    known = {} if given is None else {given.digest: given}
    for name, config in _starting(study):
        import torch

        from resnetlab.vision.models import build
        from resnetlab.vision.training.transfer import load_backbone

        wanted = config.weights.removeprefix("file:")
        if wanted not in known:
            known[wanted] = kept(folder, wanted)
        dataset = datasets[data_key(config)]
        with torch.device("meta"):  # shapes alone: nothing is copied
            model = build(config, dataset.shape, dataset.n_classes)
        try:
            load_backbone(model, known[wanted])
        except BadData as error:
            raise BadData(f"{name} ({config.model}): {error}") from None


def _names(study: Study) -> set[str]:
    """Torchvision's names in the settings of the study."""
    found = [study.baseline.get("weights"), *(arm.get("weights") for arm in study.arms.values())]
    if "weights" in study.space.names:
        found += [level for branch in study.space["weights"].branches for level in branch.levels or ()]
    return {value for value in found if isinstance(value, str) and BY_NAME.fullmatch(value)}


def _starting(study: Study) -> Iterator[tuple[str, TrialConfig]]:
    """Name and config of every network that starts from a file: the arms', or all combinations of the levels that a
    network depends on."""
    found: Iterable[tuple[str, RunConfig]]
    if study.arms:
        found = ((f"arm {name}", study.arm_config(name, seed=0)) for name in study.arms)
    else:
        found = _combinations(study)
    images = ((name, config) for name, config in found if isinstance(config, TrialConfig))
    return ((name, config) for name, config in images if config.weights.startswith("file:"))


def _combinations(study: Study) -> Iterator[tuple[str, RunConfig]]:
    factors = [f for f in study.space.factors if f.compared and f.name in {"weights", "model", *MODEL_SETTINGS}]
    for levels in islice(product(*(factor.levels for factor in factors)), MOST):
        values = dict(zip((factor.name for factor in factors), levels, strict=True))
        try:
            config = study.config(study.space.active(study.baseline_values() | values), seed=0)
        except ValidationError:
            continue  # never run
        yield ", ".join(f"{name}={level}" for name, level in values.items()) or "baseline", config
