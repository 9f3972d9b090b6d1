"""The residual network of study 004: its last map is flattened into linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from resnetlab.builtin import Network, Settings, need
from resnetlab.errors import BadRequest
from resnetlab.vision.parts.shared_settings import Blocks, Dropout, HeadDepth, Kernel, Shortcut, SqueezeExcite
from resnetlab.vision.sizes import Shape, Size, after, conv, last, linear, residual_block, shrunk

if TYPE_CHECKING:
    from torch import nn

    from resnetlab.vision.models.blocks import Staged

BLOCKS = ((16, 1), (32, 1), (32, 1), (64, 2))  # channels and stride: the first `blocks` of them
HIDDEN = (1208, 608)  # of the head: the last head_depth - 1 of these


def flat_resnet(
    shape: Shape,
    classes: int,
    *,
    blocks: Blocks = 4,
    kernel: Kernel = 3,
    padding: Annotated[
        int,
        Field(ge=0, le=5, description="of the blocks' convolutions; below kernel // 2 each of them shrinks the map"),
    ] = 1,
    shortcut: Shortcut = True,
    se: SqueezeExcite = False,
    head_depth: HeadDepth = 2,
    dropout: Dropout = 0.0,
) -> Staged:
    """7x7 stem, up to four blocks, the whole last map flattened into linear layers (study 004).

    Stages: the stem, then one per block. Text: the 7x7 stem, four blocks, two linear layers, and four parameter counts.
    Inferred from those counts, to which it rounds, but not the only network that does: stem of 16 channels with padding
    2 (32 pixels become 30), blocks of 16, 32, 32 and 64 channels, stride 2 in the last, hidden layers of 1208 and 608
    units. With 5x5 kernels the padding of the blocks stayed 1 by the same inference, so that the map, and the linear
    layers with it, shrink; padding=2 is the fair test of the kernel. Ours: PyTorch's initialisation.
    """
    from torch import nn

    from resnetlab.vision.models.blocks import ResidualBlock, Staged, head

    height, width, inputs = shape
    height, width, channels = shrunk(height, 7, padding=2), shrunk(width, 7, padding=2), BLOCKS[0][0]
    first = nn.Conv2d(inputs, channels, 7, padding=2, bias=False)
    stages: list[nn.Module] = [nn.Sequential(first, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))]
    for outputs, stride in BLOCKS[:blocks]:
        stages.append(ResidualBlock(channels, outputs, kernel, stride, shortcut, se, padding))
        height, width = (shrunk(shrunk(side, kernel, stride, padding), kernel, 1, padding) for side in (height, width))
        channels = outputs
        if min(height, width) < 1:
            raise BadRequest(
                f"blocks={blocks} with kernel={kernel}, padding={padding} leave no pixel of images of "
                f"{shape[0]}x{shape[1]} (allowed: padding={kernel // 2}, fewer blocks, or larger images)"
            )
    hidden = last(HIDDEN, head_depth - 1)
    return Staged(stages, head(channels * height * width, hidden, classes, nn.Identity(), dropout))


def sizes(
    shape: Shape,
    classes: int,
    *,
    blocks: int,
    kernel: int,
    padding: int,
    shortcut: bool,
    se: bool,
    head_depth: int,
    dropout: float,
) -> list[Size]:
    at, outputs = after((shape[0], shape[1]), 7, padding=2), BLOCKS[0][0]
    parts = [conv(shape[2], outputs, 7, at, norm=True)]
    channels = outputs
    for outputs, stride in BLOCKS[:blocks]:
        size, at = residual_block(channels, outputs, kernel, stride, at, padding, shortcut=shortcut, se=se)
        parts.append(size)
        channels = outputs
    return [*parts, linear([channels * at[0] * at[1], *last(HIDDEN, head_depth - 1), classes])]


def limits(settings: Settings) -> None:
    need(settings["blocks"] <= 4, "blocks <= 4 where model=flat-resnet", settings, "blocks")
    need(settings["padding"] <= settings["kernel"] // 2, "padding <= kernel // 2", settings, "padding", "kernel")
    need(settings["head_depth"] <= 3, "head_depth <= 3 where model=flat-resnet", settings, "head_depth")


PARTS = (Network("flat-resnet", flat_resnet, limits, stages=lambda settings: settings["blocks"] + 1, sizes=sizes),)
