"""The sizes of the built-in networks by arithmetic, so that a dry run need not load torch.

`models` builds the networks that are counted here; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from resnetlab.study.records import ModelFacts
from resnetlab.study.trial_config import LIBRARY, TrialConfig

SQUEEZE = 16  # squeeze-excitation: channels per hidden unit (Hu et al. 2018, arXiv:1709.01507) …
SQUEEZE_LEAST = 8  # … but never fewer hidden units than this, which narrow nets would otherwise be left with
CNN_HIDDEN = (120, 84)  # hidden units of the head of cnn and cnn-resnet
FLAT_BLOCKS = ((16, 1), (32, 1), (32, 1), (64, 2))  # channels and stride of flat-resnet's blocks: the first `blocks`
FLAT_HIDDEN = (1208, 608)  # of its head: the last head_depth - 1 of these
LIBRARY_HIDDEN = (1024, 512)  # of the head of torchvision's networks, as in study 003: the last head_depth - 1 of these
LIBRARY_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}  # in each layer
EXPANSION = 4  # channels that a bottleneck block of resnet50 gives, over those inside it

Map = tuple[int, int]  # height and width


@dataclass(frozen=True)
class Size:
    """Of a layer or of several: parameters, and multiply-adds of one image."""

    parameters: int = 0
    multiply_adds: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.parameters + other.parameters, self.multiply_adds + other.multiply_adds)


class NoPixel(Exception):
    """A convolution or pool leaves nothing of its map."""


def facts(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> ModelFacts | None:
    """What `models.facts` counts in the network of `config` for images of `shape` (H, W, C).

    None where only building the network tells: whether it can be trained on such images at all.
    """
    if config.batch_size == 1:
        return None
    try:
        *stages, head = _parts(config, shape, classes)
    except NoPixel:
        return None
    whole = sum([*stages, head], Size())
    frozen = sum(stages[: config.frozen], Size())
    return ModelFacts(whole.parameters, whole.parameters - frozen.parameters, whole.multiply_adds)


def halving_blocks(blocks: int, downsample: int) -> frozenset[int]:
    """The blocks (0 is the first) that halve the map and double the channels.

    Those at floor(j·blocks / (downsample + 1)), j = 1 … downsample. They cut the network into downsample + 1 runs of
    blocks as equal as can be, each but the first beginning with a halving block, as in He et al. 2016: 9 blocks and 2
    halvings give the 3 + 3 + 3 of ResNet-20. With downsample == blocks every block halves.
    """
    return frozenset(j * blocks // (downsample + 1) for j in range(1, downsample + 1))


def shrunk(side: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Pixels that a convolution or pooling leaves of `side`."""
    return (side + 2 * padding - kernel) // stride + 1


def _parts(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> list[Size]:
    """The stages, then the head."""
    height, width, channels = shape
    if config.model in LIBRARY:
        return _library(config, shape, classes)
    match config.model:
        case "resnet":
            return _resnet(config, (height, width), channels, classes)
        case "flat-resnet":
            return _flat_resnet(config, (height, width), channels, classes)
        case "cnn" | "cnn-resnet":
            return _cnn(config, (height, width), channels, classes)
        case "scratch-cnn":
            return _scratch_cnn((height, width), channels, classes)
        case "conv2":
            return [
                _conv(channels, 32, 5, (height, width), bias=True),
                _conv(32, 16, 3, (height, width), bias=True),
                _linear([16 * height * width, classes]),
            ]
        case "mlp":
            sizes = [height * width * channels, *[config.head_width] * (config.head_depth - 1), classes]
            return [_linear([*pair]) for pair in pairwise(sizes)]
    raise ValueError(f"model={config.model} is not known")


def _resnet(config: TrialConfig, at: Map, channels: int, classes: int) -> list[Size]:
    parts = [_conv(channels, config.width, 3, at, norm=True)]
    channels = config.width
    halving = halving_blocks(config.blocks, config.downsample)
    for i in range(config.blocks):
        stride = 2 if i in halving else 1
        size, at = _block(config, channels, channels * stride, config.kernel, stride, at, config.kernel // 2)
        parts.append(size)
        channels *= stride
    features = channels * (at[0] * at[1] if config.pool == "flatten" else 1)
    return [*parts, _linear([features, *[config.head_width] * (config.head_depth - 1), classes])]


def _flat_resnet(config: TrialConfig, at: Map, channels: int, classes: int) -> list[Size]:
    at, outputs = _after(at, 7, padding=2), FLAT_BLOCKS[0][0]
    parts = [_conv(channels, outputs, 7, at, norm=True)]
    channels = outputs
    for outputs, stride in FLAT_BLOCKS[: config.blocks]:
        size, at = _block(config, channels, outputs, config.kernel, stride, at, config.padding)
        parts.append(size)
        channels = outputs
    return [*parts, _linear([channels * at[0] * at[1], *_last(FLAT_HIDDEN, config.head_depth - 1), classes])]


def _cnn(config: TrialConfig, at: Map, channels: int, classes: int) -> list[Size]:
    parts, first = [], config.width
    for i, outputs in enumerate((first, 2 * first, 2 * first)):
        if config.model == "cnn-resnet":
            parts.append(_block(config, channels, outputs, 3, 1, at, 1, bias=True)[0])
        else:
            parts.append(_conv(channels, outputs, 3, at, bias=True))
        at = _after(at, 2, 2) if i < 2 else at
        channels = outputs
    return [*parts, _linear([channels * at[0] * at[1], *CNN_HIDDEN, classes])]


def _scratch_cnn(at: Map, channels: int, classes: int) -> list[Size]:
    parts = []
    for outputs in (32, 64):
        inside = _after(at, 3)
        parts.append(_conv(channels, outputs, 3, at, bias=True) + _conv(outputs, outputs, 3, inside, bias=True))
        at, channels = _after(inside, 2, 2), outputs
    return [*parts, _linear([channels * at[0] * at[1], 512, classes])]


def _library(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> list[Size]:
    height, width, channels = shape
    if channels not in (1, 3) or (config.input_size or max(height, width)) < max(height, width):
        raise NoPixel
    at = _after((config.input_size or height, config.input_size or width), 7, 2, 3)
    parts, channels = [_conv(3, 64, 7, at, norm=True)], 64
    at = _after(at, 3, 2, 1)
    for number, blocks in enumerate(LIBRARY_BLOCKS[config.model]):
        layer, inside = Size(), 64 * 2**number
        for i in range(blocks):
            stride = 2 if number and not i else 1
            block = _bottleneck if config.model == "resnet50" else _basic
            size, at, channels = block(channels, inside, stride, at)
            layer += size
        parts.append(layer)
    return [*parts, _linear([channels, *_last(LIBRARY_HIDDEN, config.head_depth - 1), classes])]


def _basic(inputs: int, outputs: int, stride: int, at: Map) -> tuple[Size, Map, int]:
    after = _after(at, 3, stride, 1)
    size = _conv(inputs, outputs, 3, after, norm=True) + _conv(outputs, outputs, 3, after, norm=True)
    if stride > 1 or inputs != outputs:
        size += _conv(inputs, outputs, 1, after, norm=True)
    return size, after, outputs


def _bottleneck(inputs: int, inside: int, stride: int, at: Map) -> tuple[Size, Map, int]:
    after, outputs = _after(at, 3, stride, 1), EXPANSION * inside
    size = _conv(inputs, inside, 1, at, norm=True) + _conv(inside, inside, 3, after, norm=True)
    size += _conv(inside, outputs, 1, after, norm=True)
    if stride > 1 or inputs != outputs:
        size += _conv(inputs, outputs, 1, after, norm=True)
    return size, after, outputs


def _block(
    config: TrialConfig, inputs: int, outputs: int, kernel: int, stride: int, at: Map, padding: int, bias: bool = False
) -> tuple[Size, Map]:
    """`models.blocks.ResidualBlock`, and the map that it leaves."""
    first = _after(at, kernel, stride, padding)
    last = _after(first, kernel, 1, padding)
    size = _conv(inputs, outputs, kernel, first, bias, norm=True) + _conv(outputs, outputs, kernel, last, bias, True)
    if config.se:
        hidden = max(outputs // SQUEEZE, SQUEEZE_LEAST)
        size += _linear([outputs, hidden, outputs])
    if config.shortcut and (stride != 1 or inputs != outputs):
        size += _conv(inputs, outputs, 1, _after(at, 1, stride), bias, norm=True)
    return size, last


def _conv(inputs: int, outputs: int, kernel: int, after: Map, bias: bool = False, norm: bool = False) -> Size:
    """A convolution that leaves a map `after`, with batch norm where `norm`."""
    weights = inputs * outputs * kernel**2
    return Size(weights + outputs * bias + 2 * outputs * norm, weights * after[0] * after[1])


def _linear(sizes: Iterable[int]) -> Size:
    """Linear layers one after the other."""
    weights = [(one * other, other) for one, other in pairwise(sizes)]
    return Size(sum(pair + bias for pair, bias in weights), sum(pair for pair, _ in weights))


def _after(at: Map, kernel: int, stride: int = 1, padding: int = 0) -> Map:
    """The map that a convolution or pool leaves. Raises NoPixel."""
    height, width = (shrunk(side, kernel, stride, padding) for side in at)
    if min(height, width) < 1:
        raise NoPixel
    return height, width


def _last(sizes: tuple[int, ...], number: int) -> tuple[int, ...]:
    return sizes[len(sizes) - number :]
