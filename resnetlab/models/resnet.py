"""The parametric family that an ablation varies: one stem, residual blocks, a head."""

from __future__ import annotations

from torch import nn

from resnetlab.config import TrialConfig
from resnetlab.errors import BadRequest
from resnetlab.models.blocks import ResidualBlock, Staged, he_initialise, head, stem


def halving_blocks(blocks: int, downsample: int) -> frozenset[int]:
    """The blocks (0 is the first) that halve the map and double the channels.

    Those at floor(j·blocks / (downsample + 1)), j = 1 … downsample. They cut the network into downsample + 1 runs of
    blocks as equal as can be, each but the first beginning with a halving block, as in He et al. 2016: 9 blocks and 2
    halvings give the 3 + 3 + 3 of ResNet-20. With downsample == blocks every block halves.
    """
    return frozenset(j * blocks // (downsample + 1) for j in range(1, downsample + 1))


def resnet(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> Staged:
    """Stages: the stem, then one per block. shape: (H, W, C) of the images.

    A map of n pixels is halved to ceil(n / 2); one of a single pixel stays, and only the channels double. Raises
    BadRequest where batch=1 meets a last map of 1x1: batch norm then has one value per channel and no variance.
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
    if config.batch == 1 and height * width == 1 and config.frozen <= config.blocks:
        raise BadRequest(
            f"batch=1 with a last map of 1x1 leaves batch norm nothing to normalise by (images {shape[0]}x{shape[1]}, "
            f"downsample={config.downsample}; allowed: batch >= 2, or fewer halvings)"
        )
    hidden = [config.head_width] * (config.head_depth - 1)
    if config.pool == "average":
        top = head(channels, hidden, classes, nn.AdaptiveAvgPool2d(1), config.dropout)
    else:
        top = head(channels * height * width, hidden, classes, nn.Identity(), config.dropout)
    return he_initialise(Staged(stages, top, config.frozen))
