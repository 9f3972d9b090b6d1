"""The plain network of study 000: three convolutions, two pools, three linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnetlab.builtin import Network
from resnetlab.errors import BadRequest
from resnetlab.vision.parts.shared_settings import Dropout, Width
from resnetlab.vision.sizes import Map, Shape, Size, after, conv, linear

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from resnetlab.vision.models.blocks import Staged

HIDDEN = (120, 84)  # units of the head


def cnn(shape: Shape, classes: int, *, width: Width = 32, dropout: Dropout = 0.0) -> Staged:
    """Three convolutions, max-pooling after the first two, three linear layers (study 000).

    Three stages, each a convolution with its pooling. Linear layers of 120 and 84 units, then the classes. Text: three
    convolutions, two pools, three linear layers, ReLU except last. Ours: 3x3 with padding 1, channels (w, 2w, 2w) with
    w = 32, biases in all convolutions, PyTorch's initialisation.
    """
    from resnetlab.vision.models.blocks import conv_relu

    return pooled("cnn", shape, classes, width, dropout, lambda inputs, outputs: conv_relu(inputs, outputs, 3, 1))


def pooled(
    name: str,
    shape: Shape,
    classes: int,
    width: int,
    dropout: float,
    layers: Callable[[int, int], list[nn.Module]],
) -> Staged:
    """Three stages of `layers`, with a pool after the first two, and the head. BadRequest where no pixel is left."""
    from torch import nn

    from resnetlab.vision.models.blocks import Staged, head

    height, across, inputs = shape
    stages = []
    for i, outputs in enumerate((width, 2 * width, 2 * width)):
        made = layers(inputs, outputs)
        if i < 2:
            made.append(nn.MaxPool2d(2))
            height, across = height // 2, across // 2
        stages.append(nn.Sequential(*made))
        inputs = outputs
    need_pixels(name, shape, height, across)
    return Staged(stages, head(inputs * height * across, HIDDEN, classes, nn.Identity(), dropout))


def need_pixels(name: str, shape: Shape, height: int, width: int) -> None:
    """BadRequest where a map of `height` x `width` is none."""
    if min(height, width) < 1:
        raise BadRequest(f"model={name} leaves no pixel of images of {shape[0]}x{shape[1]} (use larger images)")


def sizes(shape: Shape, classes: int, *, width: int, dropout: float) -> list[Size]:
    return pooled_sizes(shape, classes, width, lambda inputs, outputs, at: conv(inputs, outputs, 3, at, bias=True))


def pooled_sizes(shape: Shape, classes: int, width: int, layer: Callable[[int, int, Map], Size]) -> list[Size]:
    """Of what `pooled` builds."""
    at, channels = (shape[0], shape[1]), shape[2]
    parts = []
    for i, outputs in enumerate((width, 2 * width, 2 * width)):
        parts.append(layer(channels, outputs, at))
        at = after(at, 2, 2) if i < 2 else at
        channels = outputs
    return [*parts, linear([channels * at[0] * at[1], *HIDDEN, classes])]


PARTS = (Network("cnn", cnn, stages=lambda settings: 3, sizes=sizes),)
