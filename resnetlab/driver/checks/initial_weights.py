"""A file of initial weights that a user gives with --weights: which trials start from it, and whether it fits them."""

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

BY_NAME = re.compile(r"[A-Z][A-Z0-9_]*")  # names of torchvision's weights
MOST = 1000  # combinations of levels that are checked


def given(study: Study, path: Path | None) -> tuple[Study, Weights | None]:
    """The study with the file at `path` in place of torchvision's weights, and the weights in the file.

    Levels and hypotheses keep the names of the weights; the study is unchanged if `path` is None.
    Raises BadData for a file that cannot be used, BadRequest if nothing in the study starts from it.
    """
    if path is None:
        return study, None
    from resnetlab.vision.models.pretrained import read

    weights = read(path)
    mine = f"file:{weights.digest}"
    taken = study.model_copy(update={"given_weights": study.given_weights | dict.fromkeys(_names(study), mine)})
    if not any(config.weights == mine for _, config in _starting(taken)):
        raise BadRequest(
            f"--weights {path}: nothing in {study.name} starts from weights by name; to start from this file, say "
            f"weights: {mine} in its baseline, an arm or a factor"
        )
    return taken, weights


def resumed(study: Study, folder: ResultsFolder) -> Study:
    """The study as it continues in `folder`, with the weights files of earlier sessions if none is given now.

    A new file replaces a name as long as no trial has trained from the weights that the name stood for. If trials have,
    and the file holds the same weights, they keep the name (`contents` finds the file for them).
    Raises FolderRefused if it holds other weights, with which old and new trials would not compare.
    """
    recorded: Mapping[str, str] = (folder.read_json("study.json") or {}).get("given_weights") or {}
    now = study.given_weights
    taken = dict(recorded)
    changed = {name: file for name, file in now.items() if recorded.get(name) != file}
    rows = _rows(folder) if changed else []
    for name, file in changed.items():
        before = recorded.get(name, name)
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
    """Content hashes of torchvision's weights that the folder holds, by model and name.

    The folder holds them if a trial started from them and their file was given later. rows: of the trials table.
    """
    here = {name.removesuffix(".safetensors") for name in folder.names(WEIGHTS)}
    known = ((json.loads(row["config"]), row["weights_hash"]) for row in rows if row["weights_hash"] in here)
    return {
        by_name(config["model"], config["weights"]): digest
        for config, digest in known
        if BY_NAME.fullmatch(config["weights"])
    }


def _rows(folder: ResultsFolder) -> list[dict[str, Any]]:
    table = read_table(folder, "trials")
    return [] if table is None else list(table.to_pylist())


def check(study: Study, datasets: Mapping[str, Dataset], given: Weights | None, folder: ResultsFolder) -> None:
    """Check that each network of the study can start from its file: the one `given`, or one in the results folder.

    Raises BadData, naming what does not fit.
    """
    known = {} if given is None else {given.digest: given}
    for name, config in _starting(study):
        import torch

        from resnetlab.vision.models import build
        from resnetlab.vision.training.transfer import load_backbone

        digest = config.weights.removeprefix("file:")
        if digest not in known:
            known[digest] = kept(folder, digest)
        dataset = datasets[data_key(config)]
        with torch.device("meta"):  # shapes only, without memory
            model = build(config, dataset.shape, dataset.n_classes)
        try:
            load_backbone(model, known[digest])
        except BadData as error:
            raise BadData(f"{name} ({config.model}): {error}") from None


def _names(study: Study) -> set[str]:
    """Names of torchvision's weights in the settings of the study."""
    values = [study.baseline.get("weights"), *(arm.get("weights") for arm in study.arms.values())]
    if "weights" in study.space.names:
        values += [level for branch in study.space["weights"].branches for level in branch.levels or ()]
    return {value for value in values if isinstance(value, str) and BY_NAME.fullmatch(value)}


def _starting(study: Study) -> Iterator[tuple[str, TrialConfig]]:
    """Name and config of each network that starts from a file: of every arm, or of the combinations of levels."""
    networks: Iterable[tuple[str, RunConfig]]
    if study.arms:
        networks = ((f"arm {name}", study.arm_config(name, seed=0)) for name in study.arms)
    else:
        networks = _combinations(study)
    images = ((name, config) for name, config in networks if isinstance(config, TrialConfig))
    return ((name, config) for name, config in images if config.weights.startswith("file:"))


def _combinations(study: Study) -> Iterator[tuple[str, RunConfig]]:
    """Name and config of each feasible combination of the levels that a network depends on, at most `MOST`."""
    factors = [f for f in study.space.factors if f.compared and f.name in {"weights", "model", *MODEL_SETTINGS}]
    for levels in islice(product(*(factor.levels for factor in factors)), MOST):
        values = dict(zip((factor.name for factor in factors), levels, strict=True))
        try:
            config = study.config(study.space.active(study.baseline_values() | values), seed=0)
        except ValidationError:
            continue  # infeasible, so never run
        yield ", ".join(f"{name}={level}" for name, level in values.items()) or "baseline", config
