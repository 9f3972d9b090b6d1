"""The parametric residual network that an ablation varies: stem, blocks and head, all sizes free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from resnetlab.builtin import Network, Settings, need
from resnetlab.vision.parts.shared_settings import (
    Blocks,
    Dropout,
    HeadDepth,
    HeadWidth,
    Kernel,
    Shortcut,
    SqueezeExcite,
    Width,
)
from resnetlab.vision.sizes import Shape, Size, conv, linear, residual_block

if TYPE_CHECKING:
    from torch import nn

    from resnetlab.vision.models.blocks import Staged

HEAD_WIDTH = 128


def resnet(
    shape: Shape,
    classes: int,
    *,
    blocks: Blocks = 3,
    kernel: Kernel = 3,
    width: Width = 16,
    downsample: Annotated[int, Field(ge=0, le=6, description="blocks that halve the map and double the channels")] = 2,
    shortcut: Shortcut = True,
    se: SqueezeExcite = False,
    pool: Annotated[
        Literal["average", "flatten"], Field(description="from the last map to the head's input")
    ] = "average",
    head_depth: HeadDepth = 1,
    head_width: HeadWidth = HEAD_WIDTH,
    dropout: Dropout = 0.0,
) -> Staged:
    """Stages: the stem, then one per block. shape: (H, W, C) of the images.

    A map of n pixels is halved to ceil(n / 2); one of a single pixel stays, and only the channels double.
    """
    from torch import nn

    from resnetlab.vision.models.blocks import ResidualBlock, Staged, he_initialise, head, stem

    height, across, inputs = shape
    channels = width
    stages: list[nn.Module] = [stem(inputs, channels)]
    halving = halving_blocks(blocks, downsample)
    for i in range(blocks):
        stride = 2 if i in halving else 1
        outputs = channels * stride
        stages.append(ResidualBlock(channels, outputs, kernel, stride, shortcut, se))
        channels, height, across = outputs, -(-height // stride), -(-across // stride)
    hidden = [head_width] * (head_depth - 1)
    if pool == "average":
        top = head(channels, hidden, classes, nn.AdaptiveAvgPool2d(1), dropout)
    else:
        top = head(channels * height * across, hidden, classes, nn.Identity(), dropout)
    return he_initialise(Staged(stages, top))


def sizes(
    shape: Shape,
    classes: int,
    *,
    blocks: int,
    kernel: int,
    width: int,
    downsample: int,
    shortcut: bool,
    se: bool,
    pool: str,
    head_depth: int,
    head_width: int,
    dropout: float,
) -> list[Size]:
    at, inputs = (shape[0], shape[1]), shape[2]
    parts, channels = [conv(inputs, width, 3, at, norm=True)], width
    halving = halving_blocks(blocks, downsample)
    for i in range(blocks):
        stride = 2 if i in halving else 1
        size, at = residual_block(
            channels, channels * stride, kernel, stride, at, kernel // 2, shortcut=shortcut, se=se
        )
        parts.append(size)
        channels *= stride
    features = channels * (at[0] * at[1] if pool == "flatten" else 1)
    return [*parts, linear([features, *[head_width] * (head_depth - 1), classes])]


def halving_blocks(blocks: int, downsample: int) -> frozenset[int]:
    """The blocks (0 is the first) that halve the map and double the channels.

    Those at floor(j·blocks / (downsample + 1)), j = 1 … downsample. They cut the network into downsample + 1 runs of
    blocks as equal as can be, each but the first beginning with a halving block, as in He et al. 2016: 9 blocks and 2
    halvings give the 3 + 3 + 3 of ResNet-20. With downsample == blocks every block halves.
    """
    return frozenset(j * blocks // (downsample + 1) for j in range(1, downsample + 1))


def limits(settings: Settings) -> None:
    need(settings["downsample"] <= settings["blocks"], "downsample <= blocks", settings, "downsample", "blocks")


def settle(settings: Settings) -> Settings:
    """A single linear layer has no hidden units."""
    return {"head_width": HEAD_WIDTH} if settings["head_depth"] == 1 else {}


PARTS = (Network("resnet", resnet, limits, settle, stages=lambda settings: settings["blocks"] + 1, sizes=sizes),)
