"""What a trial starts from: the stages of another network, with a new head on them.

Weights come by name (torchvision's), from a file, or from a source task: a trial whose stages are handed on. The caller
keeps the bytes of files and sources (`Weights.pack`, under `Weights.digest`) and hands them to `Training`; by name they
are fetched here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from resnetlab.errors import BadData, BadRequest
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.data.dataset import changes, some
from resnetlab.vision.models.pretrained import Weights, named
from resnetlab.vision.parts.models.torchvision_resnets import ours

if TYPE_CHECKING:
    from resnetlab.vision.data import Dataset


def starting_weights(config: TrialConfig, given: Weights | None = None) -> Weights | None:
    """What `config.weights` asks for: `given`, checked, or torchvision's; None where it asks for none.

    Raises BadRequest where a file's or source's weights are not given, BadData where others are given, or torchvision's
    cannot be had. Cheap where nothing has to be read: a sweep can call it before anything runs.
    """
    kind, _, wanted = config.weights.partition(":")
    if config.weights == "none":
        return None
    if not wanted:
        return given or named(config.model, config.weights)
    if given is None:
        raise BadRequest(f"weights={config.weights}: these weights are not here; the sweep that asks for them has them")
    found = given.digest if kind == "file" else given.about.get("trial_id")
    if found != wanted:
        raise BadData(f"{given.source}: need weights {config.weights}, these are {kind}:{found}")
    return given


def backbone(state: dict[str, Any], config: TrialConfig, dataset: Dataset) -> Weights:
    """The stages of a trial as it stands in `state` (of `Training.state()`), for a target task to start from.

    `about` says what they were trained on, for `check_source`.
    """
    tensors = {key: tensor.contiguous() for key, tensor in state["model"].items() if key.startswith("stages.")}
    about = {
        "trial_id": config.trial_id,
        "model": config.model,
        "epochs": len(state["history"]),
        "data": dataset.hash,
        "shape": list(dataset.shape),
        "label": config.data.label,
        "classes": list(dataset.classes),
    }
    return Weights(tensors, f"trial {config.trial_id}", about)


def check_source(weights: Weights, dataset: Dataset) -> None:
    """BadData where the source task's data (`dataset`, as it is now) is no longer what the weights were trained on."""
    then = weights.about.get("classes", [])
    if what := changes(then, dataset.classes):
        raise BadData(
            f"{weights.source}: trained on {len(then)} classes, but its data now has {len(dataset.classes)} ({what}): "
            "train the source again"
        )
    if weights.about.get("data") != dataset.hash:
        raise BadData(
            f"{weights.source}: trained on data {weights.about.get('data')}, but that data is now {dataset.hash}: "
            "train the source again"
        )


def load_backbone(model: nn.Module, weights: Weights) -> None:
    """Put `weights` into the stages of `model`, whose head stays as it is; the weights' own head is not looked at.

    Keys are ours (`stages.0.…`), or torchvision's for its networks. Raises BadData that names what does not fit; the
    model is then as it was.
    """
    wanted = {key: value for key, value in model.state_dict().items() if key.startswith("stages.")}
    given = {}
    for key, value in weights.tensors.items():
        name = key if key.startswith(("stages.", "head.")) else ours(key)
        if name is not None and not name.startswith("head."):
            given[name] = (key, value)
    counted = "num_batches_tracked"  # absent from files of before torch 0.4; nothing here reads it
    missing = [key for key in wanted if key not in given and not key.endswith(counted)]
    unknown = [key for name, (key, _) in given.items() if name not in wanted]
    shapes = [
        f"{key} {tuple(value.shape)} where the network has {tuple(wanted[name].shape)}"
        for name, (key, value) in given.items()
        if name in wanted and value.shape != wanted[name].shape
    ]
    problems = [
        f"{len(keys)} {what}: {some(sorted(keys))}"
        for keys, what in ((missing, "missing"), (unknown, "not known"), (shapes, "of another shape"))
        if keys
    ]
    if problems:
        raise BadData(f"{weights.source}: these weights are of another network; {'; '.join(problems)}")
    with torch.no_grad():
        for name, (_, value) in given.items():
            wanted[name].copy_(value)
