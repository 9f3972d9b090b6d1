"""The hand-made networks of the published studies.

Where a text leaves something open the choice is ours and the docstring says so. Initialisation is always ours: that
of the framework or notebook that the text names.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import nn

from resnetlab.errors import BadRequest
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.architecture import CNN_HIDDEN, shrunk
from resnetlab.vision.models.blocks import ResidualBlock, Staged, head

Shape = tuple[int, int, int]


def cnn(config: TrialConfig, shape: Shape, classes: int) -> Staged:
    """Three convolutions or residual blocks, max-pooling after the first two, three linear layers (study 000).

    Three stages, each a convolution or block with its pooling. Linear layers of 120 and 84 units, then the classes.
    Text: three convolutions, two pools, three linear layers, ReLU except last; in the ResNet each convolution becomes
    conv-BN-conv-BN and a shortcut. Ours: 3x3 with padding 1, channels (w, 2w, 2w) with w = 32, biases in all
    convolutions, ReLU inside and after the block, PyTorch's initialisation.
    """
    height, width, inputs = shape
    first = config.width
    stages = []
    for i, outputs in enumerate((first, 2 * first, 2 * first)):
        if config.model == "cnn-resnet":
            layers: list[nn.Module] = [
                ResidualBlock(inputs, outputs, 3, shortcut=config.shortcut, se=config.se, bias=True)
            ]
        else:
            layers = _conv(inputs, outputs, 3, 1)
        if i < 2:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        stages.append(nn.Sequential(*layers))
        inputs = outputs
    _need_pixels(config, shape, height, width)
    return Staged(
        stages, head(inputs * height * width, CNN_HIDDEN, classes, nn.Identity(), config.dropout), config.frozen
    )


def mlp(config: TrialConfig, shape: Shape, classes: int) -> Staged:
    """Linear layers with ReLU between them (study 001: two layers, 4000 hidden units); a stage per hidden layer.

    Ours: the sizes, He initialisation, zero biases: those of the course notebook that the text's function names are of.
    """
    sizes = [shape[0] * shape[1] * shape[2], *[config.head_width] * (config.head_depth - 1)]
    stages = [
        nn.Sequential(nn.Flatten(), *_dropout(config), nn.Linear(one, other), nn.ReLU(inplace=True))
        for one, other in pairwise(sizes)
    ]
    top = nn.Sequential(nn.Flatten(), *_dropout(config), nn.Linear(sizes[-1], classes))
    return _he(Staged(stages, top, config.frozen))


def conv2(config: TrialConfig, shape: Shape, classes: int) -> Staged:
    """conv32 5x5, conv16 3x3, both keeping the map, and one linear layer: 001's "three-layer" net. A stage each.

    Ours: the sizes and initialisation, as in `mlp`.
    """
    height, width, inputs = shape
    stages = [nn.Sequential(*_conv(inputs, 32, 5, 2)), nn.Sequential(*_conv(32, 16, 3, 1))]
    return _he(Staged(stages, head(16 * height * width, (), classes, nn.Identity(), config.dropout), config.frozen))


def scratch_cnn(config: TrialConfig, shape: Shape, classes: int) -> Staged:
    """Two stages of conv "same", conv "valid", max-pool, dropout (32, then 64 channels); 512 hidden units (study 003).

    Text: all layers and sizes, by its table. Ours: dropout .25, .25 and .5 (the rate, the rate, and twice the rate),
    Glorot initialisation, which is Keras's.
    """
    height, width, inputs = shape
    stages = []
    for outputs in (32, 64):
        layers = [*_conv(inputs, outputs, 3, 1), *_conv(outputs, outputs, 3, 0), nn.MaxPool2d(2), *_dropout(config)]
        stages.append(nn.Sequential(*layers))
        height, width = (shrunk(shrunk(side, 3), 2, 2) for side in (height, width))
        inputs = outputs
    _need_pixels(config, shape, height, width)
    hidden = [nn.Linear(64 * height * width, 512), nn.ReLU(inplace=True)]
    last = [*([nn.Dropout(2 * config.dropout)] if config.dropout else []), nn.Linear(512, classes)]
    return _glorot(Staged(stages, nn.Sequential(nn.Flatten(), *hidden, *last), config.frozen))


def _conv(inputs: int, outputs: int, kernel: int, padding: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.ReLU(inplace=True)]


def _dropout(config: TrialConfig) -> list[nn.Module]:
    return [nn.Dropout(config.dropout)] if config.dropout else []


def _need_pixels(config: TrialConfig, shape: Shape, height: int, width: int) -> None:
    if min(height, width) < 1:
        raise BadRequest(f"model={config.model} leaves no pixel of images of {shape[0]}x{shape[1]} (use larger images)")


@torch.no_grad()
def _he(model: Staged) -> Staged:
    """He et al. 2015 by fan-in for every weight, biases 0."""
    for module in _learning(model):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(cast(nn.Parameter, module.bias))
    return model


@torch.no_grad()
def _glorot(model: Staged) -> Staged:
    """Glorot & Bengio 2010, uniform, for every weight, biases 0."""
    for module in _learning(model):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(cast(nn.Parameter, module.bias))
    return model


def _learning(model: Staged) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
