"""Two convolutions and one linear layer: the "three-layer" network of study 001."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnetlab.builtin import Network
from resnetlab.vision.parts.shared_settings import Dropout
from resnetlab.vision.sizes import Shape, Size, conv, linear

if TYPE_CHECKING:
    from resnetlab.vision.models.blocks import Staged


def conv2(shape: Shape, classes: int, *, dropout: Dropout = 0.0) -> Staged:
    """conv32 5x5, conv16 3x3, both keeping the map, and one linear layer. A stage each.

    Ours: the sizes and initialisation, as in `mlp`.
    """
    from torch import nn

    from resnetlab.vision.models.blocks import Staged, conv_relu, he_by_fan_in, head

    height, width, inputs = shape
    stages = [nn.Sequential(*conv_relu(inputs, 32, 5, 2)), nn.Sequential(*conv_relu(32, 16, 3, 1))]
    return he_by_fan_in(Staged(stages, head(16 * height * width, (), classes, nn.Identity(), dropout)))


def sizes(shape: Shape, classes: int, *, dropout: float) -> list[Size]:
    height, width, channels = shape
    return [
        conv(channels, 32, 5, (height, width), bias=True),
        conv(32, 16, 3, (height, width), bias=True),
        linear([16 * height * width, classes]),
    ]


PARTS = (Network("conv2", conv2, stages=lambda settings: 2, sizes=sizes),)
