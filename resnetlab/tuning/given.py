"""A file of weights that a person gives a sweep: who starts from it, whether it fits, where it is kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from resnetlab.config import MODEL_SETTINGS, TrialConfig
from resnetlab.data import Dataset
from resnetlab.errors import BadData, BadRequest
from resnetlab.study import Study, build_study
from resnetlab.tables.folder import Folder
from resnetlab.tuning.task import WEIGHTS, data_key

if TYPE_CHECKING:
    from resnetlab.models.pretrained import Weights

BY_NAME = re.compile(r"[A-Z][A-Z0-9_]*")  # torchvision's, as a study says them
MOST = 1000  # combinations of levels that are looked at


def asked(study: Study, path: Path | None) -> tuple[Study, Weights | None]:
    """The study whose trials start from the file at `path` where it said torchvision's weights by name, and the
    weights; the study as it is where `path` is None.

    Raises BadData for a file that cannot be taken, BadRequest where nothing in the study starts from it.
    """
    if path is None:
        return study, None
    from resnetlab.models.pretrained import read

    found = read(path)
    mine = f"file:{found.digest}"
    content = study.model_dump(mode="json")
    for settings in (content["baseline"], content["factors"], *content["arms"].values()):
        if "weights" in settings:
            settings["weights"] = _replaced(settings["weights"], mine)
    content["hypotheses"] = [re.sub(r"(?<=weights )[A-Z][A-Z0-9_]*", mine, line) for line in content["hypotheses"]]
    taken = build_study(content, f"{study.name} with --weights {path}")
    if not any(config.weights == mine for _, config in _starting(taken)):
        raise BadRequest(
            f"--weights {path}: nothing in {study.name} starts from weights by name; to start from this file, say "
            f"weights: {mine} in its baseline, an arm or a factor"
        )
    return taken, found


def check(study: Study, datasets: Mapping[str, Dataset], given: Weights | None, folder: Folder) -> None:
    """BadData, naming what does not fit, unless each network of the study can start from the file that it asks for:
    the one given, or one that an earlier session left in the results folder."""
    known = {} if given is None else {given.digest: given}
    for name, config in _starting(study):
        import torch

        from resnetlab.models import build
        from resnetlab.training.transfer import load_backbone

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


def kept(folder: Folder, digest: str) -> Weights:
    """Weights that were given to this sweep. BadData where they are not there, or are not what they were."""
    from resnetlab.models.pretrained import Weights

    name = f"{WEIGHTS}/{digest}.safetensors"
    raw = folder.read(name)
    if raw is None:
        raise BadData(f"weights=file:{digest}: not in {folder.url}/{WEIGHTS}: give the file with --weights")
    found = Weights.unpack(raw, f"{folder.url}/{name}")
    if found.digest != digest:
        raise BadData(f"{folder.url}/{name}: altered: its content is {found.digest}; give the file with --weights")
    return found


def keep(folder: Folder, given: Weights | None) -> None:
    """Leave the given weights where every worker finds them."""
    if given is None:
        return
    name, raw = f"{WEIGHTS}/{given.digest}.safetensors", given.pack()
    if folder.read(name) != raw:
        folder.write(name, raw)


def _replaced(value: Any, mine: str) -> Any:
    """`value` of a setting, level or list of levels with torchvision's names replaced."""
    if isinstance(value, dict):
        return {key: _replaced(item, mine) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, mine) for item in value]
    return mine if isinstance(value, str) and BY_NAME.fullmatch(value) else value


def _starting(study: Study) -> Iterator[tuple[str, TrialConfig]]:
    """Name and config of every network that starts from a file: the arms', or all combinations of the levels that a
    network depends on."""
    found: Iterable[tuple[str, TrialConfig]]
    if study.arms:
        found = ((f"arm {name}", study.arm_config(name, seed=0)) for name in study.arms)
    else:
        found = _combinations(study)
    return ((name, config) for name, config in found if config.weights.startswith("file:"))


def _combinations(study: Study) -> Iterator[tuple[str, TrialConfig]]:
    factors = [f for f in study.space.factors if f.compared and f.name in {"weights", "model", *MODEL_SETTINGS}]
    for levels in islice(product(*(factor.levels for factor in factors)), MOST):
        values = dict(zip((factor.name for factor in factors), levels, strict=True))
        try:
            config = study.config(study.space.active(study.baseline_values() | values), seed=0)
        except ValidationError:
            continue  # never run
        yield ", ".join(f"{name}={level}" for name, level in values.items()) or "baseline", config
