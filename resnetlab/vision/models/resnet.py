"""Residual networks: the parametric family that an ablation varies, and the one of study 004."""

from __future__ import annotations

from torch import nn

from resnetlab.errors import BadRequest
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.architecture import FLAT_BLOCKS, FLAT_HIDDEN, halving_blocks, shrunk
from resnetlab.vision.models.blocks import ResidualBlock, Staged, he_initialise, head, stem


def resnet(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> Staged:
    """Stages: the stem, then one per block. shape: (H, W, C) of the images.

    A map of n pixels is halved to ceil(n / 2); one of a single pixel stays, and only the channels double.
    """
    height, width, inputs = shape
    channels = config.width
    stages: list[nn.Module] = [stem(inputs, channels)]
    halving = halving_blocks(config.blocks, config.downsample)
    for i in range(config.blocks):
        stride = 2 if i in halving else 1
        outputs = channels * stride
        stages.append(ResidualBlock(channels, outputs, config.kernel, stride, config.shortcut, config.se))
        channels, height, width = outputs, -(-height // stride), -(-width // stride)
    hidden = [config.head_width] * (config.head_depth - 1)
    if config.pool == "average":
        top = head(channels, hidden, classes, nn.AdaptiveAvgPool2d(1), config.dropout)
    else:
        top = head(channels * height * width, hidden, classes, nn.Identity(), config.dropout)
    return he_initialise(Staged(stages, top, config.frozen))


def flat_resnet(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> Staged:
    """7x7 stem, up to four blocks, the whole last map flattened into linear layers (study 004).

    Stages: the stem, then one per block. Text: the 7x7 stem, four blocks, two linear layers, and four parameter counts.
    Inferred from those counts, to which it rounds, but not the only network that does: stem of 16 channels with padding
    2 (32 pixels become 30), blocks of 16, 32, 32 and 64 channels, stride 2 in the last, hidden layers of 1208 and 608
    units. With 5x5 kernels the padding of the blocks stayed 1 by the same inference, so that the map, and the linear
    layers with it, shrink; padding=2 is the fair test of the kernel. Ours: PyTorch's initialisation.
    """
    height, width, inputs = shape
    height, width, channels = shrunk(height, 7, padding=2), shrunk(width, 7, padding=2), FLAT_BLOCKS[0][0]
    conv = nn.Conv2d(inputs, channels, 7, padding=2, bias=False)
    stages: list[nn.Module] = [nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))]
    kernel, padding = config.kernel, config.padding
    for outputs, stride in FLAT_BLOCKS[: config.blocks]:
        stages.append(ResidualBlock(channels, outputs, kernel, stride, config.shortcut, config.se, padding))
        height, width = (shrunk(shrunk(side, kernel, stride, padding), kernel, 1, padding) for side in (height, width))
        channels = outputs
        if min(height, width) < 1:
            raise BadRequest(
                f"blocks={config.blocks} with kernel={kernel}, padding={padding} leave no pixel of images of "
                f"{shape[0]}x{shape[1]} (allowed: padding={kernel // 2}, fewer blocks, or larger images)"
            )
    hidden = FLAT_HIDDEN[len(FLAT_HIDDEN) + 1 - config.head_depth :]
    return Staged(
        stages, head(channels * height * width, hidden, classes, nn.Identity(), config.dropout), config.frozen
    )
