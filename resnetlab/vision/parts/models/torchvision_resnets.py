"""torchvision's ResNet-18, -34 and -50 with the head replaced, and images enlarged on the device."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from resnetlab.builtin import Network, Settings, need
from resnetlab.errors import BadRequest
from resnetlab.vision.parts.shared_settings import Dropout, HeadDepth
from resnetlab.vision.sizes import Map, NoPixel, Shape, Size, after, conv, last, linear

if TYPE_CHECKING:
    from torch import nn

    from resnetlab.vision.models.blocks import Staged

HIDDEN = (1024, 512)  # units of the head, as in study 003: the last head_depth - 1 of these
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}  # in each layer
EXPANSION = 4  # channels that a bottleneck block of resnet50 gives, over those inside it
LAYERS = ("layer1", "layer2", "layer3", "layer4")
STEM = ("conv1", "bn1", "relu", "maxpool")


def imagenet_resnet(
    name: str,
    shape: Shape,
    classes: int,
    *,
    head_depth: HeadDepth = 1,
    dropout: Dropout = 0.0,
    input_size: Annotated[
        int | None,
        Field(ge=8, le=1024, description="enlarge images to so many pixels a side on the device; none: as they are"),
    ] = None,
    resize: Annotated[Literal["nearest", "bilinear"] | None, Field(description="how input_size enlarges")] = None,
) -> Staged:
    """Five stages: the stem with its pooling (and the enlargement before it), then torchvision's four layers.

    Average pooling and a new head: one linear layer (studies 001 and 002), or 1024, 512 and the classes with ReLU
    between (003). Grey images become three equal channels. Raises BadRequest for other numbers of channels, and where
    `input_size` would shrink the images.
    """
    height, width, channels = shape
    if channels not in (1, 3):
        raise BadRequest(f"model={name} takes images of 1 or 3 channels, these have {channels}")
    if input_size is not None and input_size < max(height, width):
        raise BadRequest(
            f"input_size={input_size} is less than the images' {height}x{width} (allowed: {max(height, width)} or more)"
        )
    from torch import nn
    from torchvision import models  # takes a second to import, and only these networks need it

    from resnetlab.vision.models.blocks import Input, Staged, head

    net = getattr(models, name)(weights=None)
    stem: OrderedDict[str, nn.Module] = OrderedDict(input=Input(input_size, resize))
    stem.update((part, getattr(net, part)) for part in STEM)
    stages = [nn.Sequential(stem), *(getattr(net, layer) for layer in LAYERS)]
    top = head(net.fc.in_features, last(HIDDEN, head_depth - 1), classes, nn.AdaptiveAvgPool2d(1), dropout)
    return Staged(stages, top)


def sizes(
    name: str,
    shape: Shape,
    classes: int,
    *,
    head_depth: int,
    dropout: float,
    input_size: int | None,
    resize: str | None,
) -> list[Size]:
    height, width, channels = shape
    if channels not in (1, 3) or (input_size or max(height, width)) < max(height, width):
        raise NoPixel
    at = after((input_size or height, input_size or width), 7, 2, 3)
    parts, channels = [conv(3, 64, 7, at, norm=True)], 64
    at = after(at, 3, 2, 1)
    for number, blocks in enumerate(BLOCKS[name]):
        layer, inside = Size(), 64 * 2**number
        for i in range(blocks):
            stride = 2 if number and not i else 1
            block = _bottleneck if name == "resnet50" else _basic
            size, at, channels = block(channels, inside, stride, at)
            layer += size
        parts.append(layer)
    return [*parts, linear([channels, *last(HIDDEN, head_depth - 1), classes])]


def _basic(inputs: int, outputs: int, stride: int, at: Map) -> tuple[Size, Map, int]:
    left = after(at, 3, stride, 1)
    size = conv(inputs, outputs, 3, left, norm=True) + conv(outputs, outputs, 3, left, norm=True)
    if stride > 1 or inputs != outputs:
        size += conv(inputs, outputs, 1, left, norm=True)
    return size, left, outputs


def _bottleneck(inputs: int, inside: int, stride: int, at: Map) -> tuple[Size, Map, int]:
    left, outputs = after(at, 3, stride, 1), EXPANSION * inside
    size = conv(inputs, inside, 1, at, norm=True) + conv(inside, inside, 3, left, norm=True)
    size += conv(inside, outputs, 1, left, norm=True)
    if stride > 1 or inputs != outputs:
        size += conv(inputs, outputs, 1, left, norm=True)
    return size, left, outputs


def limits(name: str, settings: Settings) -> None:
    need(settings["head_depth"] <= 3, f"head_depth <= 3 where model={name}", settings, "head_depth")


def settle(settings: Settings) -> Settings:
    """Where nothing is enlarged, nothing says how."""
    return {"resize": (settings["resize"] or "bilinear") if settings["input_size"] is not None else None}


def ours(key: str) -> str | None:
    """The key in our networks of torchvision's `key`; None for the old head, which is not taken over."""
    name, _, rest = key.partition(".")
    if name in LAYERS:
        return f"stages.{LAYERS.index(name) + 1}.{rest}"
    if name in STEM:
        return f"stages.0.{key}"
    return None if name == "fc" else key


PARTS = tuple(
    Network(
        name,
        partial(imagenet_resnet, name),
        partial(limits, name),
        settle,
        stages=lambda settings: 5,
        sizes=partial(sizes, name),
        weights=True,
    )
    for name in BLOCKS
)
