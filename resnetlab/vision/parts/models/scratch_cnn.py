"""The network that study 003 trains from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnetlab.builtin import Network, Settings, need
from resnetlab.vision.parts.models.cnn import need_pixels
from resnetlab.vision.parts.shared_settings import Dropout
from resnetlab.vision.sizes import Shape, Size, after, conv, linear, shrunk

if TYPE_CHECKING:
    from resnetlab.vision.models.blocks import Staged


def scratch_cnn(shape: Shape, classes: int, *, dropout: Dropout = 0.25) -> Staged:
    """Two stages of conv "same", conv "valid", max-pool, dropout (32, then 64 channels); 512 hidden units (study 003).

    Text: all layers and sizes, by its table. Ours: dropout .25, .25 and .5 (the rate, the rate, and twice the rate),
    Glorot initialisation, which is Keras's.
    """
    from torch import nn

    from resnetlab.vision.models.blocks import Staged, conv_relu, dropped, glorot

    height, width, inputs = shape
    stages = []
    for outputs in (32, 64):
        layers = [*conv_relu(inputs, outputs, 3, 1), *conv_relu(outputs, outputs, 3, 0), nn.MaxPool2d(2)]
        stages.append(nn.Sequential(*layers, *dropped(dropout)))
        height, width = (shrunk(shrunk(side, 3), 2, 2) for side in (height, width))
        inputs = outputs
    need_pixels("scratch-cnn", shape, height, width)
    hidden = [nn.Linear(64 * height * width, 512), nn.ReLU(inplace=True)]
    top = nn.Sequential(nn.Flatten(), *hidden, *dropped(2 * dropout), nn.Linear(512, classes))
    return glorot(Staged(stages, top))


def sizes(shape: Shape, classes: int, *, dropout: float) -> list[Size]:
    at, channels = (shape[0], shape[1]), shape[2]
    parts = []
    for outputs in (32, 64):
        inside = after(at, 3)
        parts.append(conv(channels, outputs, 3, at, bias=True) + conv(outputs, outputs, 3, inside, bias=True))
        at, channels = after(inside, 2, 2), outputs
    return [*parts, linear([channels * at[0] * at[1], 512, classes])]


def limits(settings: Settings) -> None:
    rule = "dropout < 0.5 where model=scratch-cnn (the head has twice that)"
    need(settings["dropout"] < 0.5, rule, settings, "dropout")


PARTS = (Network("scratch-cnn", scratch_cnn, limits, stages=lambda settings: 2, sizes=sizes),)
