"""The sizes of layers by arithmetic, from which built-in networks say what they cost, so that a dry run need not load
torch.

The files in `parts.models` count and build their network; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

SQUEEZE = 16  # squeeze-excitation: channels per hidden unit (Hu et al. 2018, arXiv:1709.01507) …
SQUEEZE_LEAST = 8  # … but never fewer hidden units than this, which narrow nets would otherwise be left with

Shape = tuple[int, int, int]  # height, width and channels of images
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


def shrunk(side: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Pixels that a convolution or pooling leaves of `side`."""
    return (side + 2 * padding - kernel) // stride + 1


def after(at: Map, kernel: int, stride: int = 1, padding: int = 0) -> Map:
    """The map that a convolution or pool leaves. Raises NoPixel."""
    height, width = (shrunk(side, kernel, stride, padding) for side in at)
    if min(height, width) < 1:
        raise NoPixel
    return height, width


def conv(inputs: int, outputs: int, kernel: int, left: Map, bias: bool = False, norm: bool = False) -> Size:
    """A convolution that leaves a map `left`, with batch norm where `norm`."""
    weights = inputs * outputs * kernel**2
    return Size(weights + outputs * bias + 2 * outputs * norm, weights * left[0] * left[1])


def linear(sizes: Iterable[int]) -> Size:
    """Linear layers one after the other."""
    weights = [(one * other, other) for one, other in pairwise(sizes)]
    return Size(sum(pair + bias for pair, bias in weights), sum(pair for pair, _ in weights))


def residual_block(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int,
    at: Map,
    padding: int,
    *,
    shortcut: bool,
    se: bool,
    bias: bool = False,
) -> tuple[Size, Map]:
    """`models.blocks.ResidualBlock`, and the map that it leaves."""
    first = after(at, kernel, stride, padding)
    last = after(first, kernel, 1, padding)
    size = conv(inputs, outputs, kernel, first, bias, norm=True) + conv(outputs, outputs, kernel, last, bias, norm=True)
    if se:
        hidden = max(outputs // SQUEEZE, SQUEEZE_LEAST)
        size += linear([outputs, hidden, outputs])
    if shortcut and (stride != 1 or inputs != outputs):
        size += conv(inputs, outputs, 1, after(at, 1, stride), bias, norm=True)
    return size, last


def last(sizes: tuple[int, ...], number: int) -> tuple[int, ...]:
    """The last `number` of them."""
    return sizes[len(sizes) - number :]
