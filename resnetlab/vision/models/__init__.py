"""Networks from a TrialConfig, and what they cost. Each built-in one is a file in `vision.parts.models`.

| model         | what it is                                                              | study | stages      |
|---------------|-------------------------------------------------------------------------|-------|-------------|
| `resnet`      | the parametric family: stem, blocks, head, all sizes free               |       | 1 + blocks  |
| `cnn`         | three convolutions, two pools, three linear layers                      | 000   | 3           |
| `cnn-resnet`  | the same with a residual block in place of each convolution             | 000   | 3           |
| `mlp`         | linear layers only                                                      | 001   | hidden ones |
| `conv2`       | two convolutions and one linear layer                                   | 001   | 2           |
| `scratch-cnn` | four convolutions, two pools, dropout, two linear layers                | 003   | 2           |
| `flat-resnet` | 7x7 stem, four blocks, flattened into linear layers                     | 004   | 1 + blocks  |
| `resnet18`    | torchvision's, as are `resnet34` and `resnet50`, with a new head        | 001–3 | 5           |
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from resnetlab.errors import BadRequest
from resnetlab.experiment.own_parts import OwnParts
from resnetlab.study import catalog
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.models import own_model
from resnetlab.vision.models.blocks import Staged
from resnetlab.vision.models.cost import facts

__all__ = ["Staged", "build", "facts"]


def build(config: TrialConfig, shape: tuple[int, int, int], classes: int, own: OwnParts | None = None) -> nn.Module:
    """The network of a trial for images of `shape` (H, W, C), initialised from torch's global generator.

    `config.weights` is not read here: `training.transfer` loads what a trial starts from. Under
    `torch.device("meta")` it takes no memory and no time, for a dry run. Raises BadRequest where the network cannot be
    trained on such images. own: the parts of the study's own, where it brings some.
    """
    if own is not None and (part := own.one("model")):
        return own_model.build(part, config, shape, classes)
    model: Staged = catalog.part("model", config.model).bound(config)(shape=shape, classes=classes)
    model.freeze(config.frozen)
    if config.batch_size == 1:
        _check_single(model, config, shape)
    return model


def _check_single(model: Staged, config: TrialConfig, shape: tuple[int, int, int]) -> None:
    """BadRequest where one image at a time leaves batch norm a single value per channel, and so no variance."""
    height, width, channels = shape
    try:
        copy.deepcopy(model).to("meta").train()(torch.zeros(1, channels, height, width, device="meta"))
    except ValueError:
        raise BadRequest(
            f"batch_size=1 with a last map of 1x1 leaves batch norm nothing to normalise by (images {height}x{width}, "
            f"model={config.model}; allowed: batch_size >= 2, or fewer halvings)"
        ) from None
