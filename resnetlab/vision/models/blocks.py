"""The parts that networks are made of: residual block, squeeze-excitation, head, and the stages that hold them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnetlab.vision.sizes import SQUEEZE, SQUEEZE_LEAST

NECK = (nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity)  # parts of a head that learn nothing and draw nothing


class Staged(nn.Module):
    """A network as a row of stages and a head; the first `frozen` stages are not trained.

    Frozen means that the parameters have requires_grad False and that the stage stays in evaluation mode whatever
    `train()` says, so that batch norm neither uses nor updates batch statistics. `forward` is `suffix(prefix(x))`:
    the prefix is the frozen part, whose output depends on nothing that training changes. Where all stages are frozen,
    the pooling and flattening that the head begins with belong to it too.
    """

    def __init__(self, stages: Iterable[nn.Module], head: nn.Sequential, frozen: int = 0):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.head = head
        self.freeze(frozen)

    def freeze(self, frozen: int) -> Staged:
        """Train all but the first `frozen` stages, which were trained before. ValueError where it has fewer."""
        if not 0 <= frozen <= len(self.stages):
            raise ValueError(f"need 0 <= frozen <= {len(self.stages)} stages, got frozen={frozen}")
        self.frozen = frozen
        for stage in self.stages[:frozen]:
            stage.requires_grad_(False)
        neck = sum(1 for _ in takewhile(lambda part: isinstance(part, NECK), self.head))
        self._neck = neck if frozen == len(self.stages) else 0
        return self.train(self.training)

    def train(self, mode: bool = True) -> Staged:
        super().train(mode)
        for stage in self.stages[: self.frozen]:
            stage.eval()
        return self

    def prefix(self, x: Tensor) -> Tensor:
        for part in self.frozen_parts:
            x = part(x)
        return x

    def suffix(self, x: Tensor) -> Tensor:
        for part in (*list(self.stages)[self.frozen :], *list(self.head)[self._neck :]):
            x = part(x)
        return x

    @property
    def frozen_parts(self) -> list[nn.Module]:
        """What `prefix` runs through."""
        return [*list(self.stages)[: self.frozen], *list(self.head)[: self._neck]]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) float -> (B, classes) logits."""
        return self.suffix(self.prefix(x))


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate in (0, 1) that is computed from all channel means (Hu et al. 2018)."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = max(channels // SQUEEZE, SQUEEZE_LEAST)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.excite(F.relu(self.squeeze(x.mean((2, 3)))))
        return x * gate.sigmoid()[:, :, None, None]


class StridedPointwise(nn.Conv2d):
    """A 1x1 convolution with a stride, as one without on every stride-th pixel: the same function and parameters.

    Where a CPU lacks AVX-512, oneDNN's backward pass of the strided one writes beyond its memory, or gives other
    gradients and says nothing, in channels_last with fewer than 8 input channels.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, bias: bool = True):
        super().__init__(inputs, outputs, 1, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        down, across = self.stride
        return F.conv2d(x[:, :, ::down, ::across], self.weight, self.bias)


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, bias: bool = True
) -> nn.Conv2d:
    """A square convolution that every CPU computes correctly."""
    if kernel == 1 and stride > 1 and not padding:
        return StridedPointwise(inputs, outputs, stride, bias)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias)


class ResidualBlock(nn.Module):
    """conv-BN-ReLU-conv-BN (+ squeeze-excitation) (+ shortcut) - ReLU: the basic block of He et al. 2016.

    The shortcut is the identity where the block keeps the shape, else a 1x1 convolution and BN. Stride 2 takes a map of
    n pixels to ceil(n / 2), so none falls below 1x1. `padding` is by default what keeps the map; with less, each
    convolution shrinks it, and what the shortcut adds is the centre of its map. `bias` is that of all convolutions (the
    BN after each makes it superfluous).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        shortcut: bool = True,
        se: bool = False,
        padding: int | None = None,
        bias: bool = False,
    ):
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv1 = convolution(inputs, outputs, kernel, stride, padding, bias)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel, 1, padding, bias=bias)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.se = SqueezeExcitation(outputs) if se else None
        self.shortcut: nn.Module | None = None
        if shortcut and (stride != 1 or inputs != outputs):
            self.shortcut = nn.Sequential(convolution(inputs, outputs, 1, stride, bias=bias), nn.BatchNorm2d(outputs))
        elif shortcut:
            self.shortcut = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self.se is not None:
            y = self.se(y)
        if self.shortcut is not None:
            y = y + _centre(self.shortcut(x), y.shape[2], y.shape[3])
        return F.relu(y, inplace=True)


def _centre(x: Tensor, height: int, width: int) -> Tensor:
    """(B, C, H, W) -> (B, C, height, width)"""
    if x.shape[2:] == (height, width):
        return x
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]


def stem(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """conv-BN-ReLU that keeps the size of the map (odd kernel)."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def head(inputs: int, hidden: Iterable[int], classes: int, pool: nn.Module, dropout: float = 0.0) -> nn.Sequential:
    """Pool, flatten, then linear layers with ReLU between them and dropout before each."""
    layers: list[nn.Module] = [pool, nn.Flatten()]
    sizes = [inputs, *hidden, classes]
    for i in range(len(sizes) - 1):
        if i:
            layers.append(nn.ReLU(inplace=True))
        if dropout:
            layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(sizes[i], sizes[i + 1]))
    return nn.Sequential(*layers)


def conv_relu(inputs: int, outputs: int, kernel: int, padding: int) -> list[nn.Module]:
    """A convolution with biases, and ReLU."""
    return [nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.ReLU(inplace=True)]


def dropped(rate: float) -> list[nn.Module]:
    """Dropout, where there is any."""
    return [nn.Dropout(rate)] if rate else []


class Input(nn.Module):
    """(B, 1 or 3, H, W) -> (B, 3, size, size), enlarged without a copy of the data set anywhere.

    nearest with a size that is a multiple repeats each pixel, as Keras's UpSampling2D does; bilinear is torch's
    with align_corners=False, as in torchvision's Resize.
    """

    def __init__(self, size: int | None, mode: str | None):
        super().__init__()
        self.size = size
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        return x if self.size is None else F.interpolate(x, (self.size, self.size), mode=str(self.mode))


@torch.no_grad()
def he_by_fan_in(model: Staged) -> Staged:
    """He et al. 2015 by fan-in for every weight, biases 0."""
    for module in _learning(model):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(cast(nn.Parameter, module.bias))
    return model


@torch.no_grad()
def glorot(model: Staged) -> Staged:
    """Glorot & Bengio 2010, uniform, for every weight, biases 0."""
    for module in _learning(model):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(cast(nn.Parameter, module.bias))
    return model


def _learning(model: Staged) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


@torch.no_grad()
def he_initialise(model: Staged) -> Staged:
    """He et al. 2015: normal weights that keep the variance through ReLU (convolutions by fan-out, linear by fan-in).

    What ReLU does not follow, the logits and the gates of squeeze-excitation, has gain 1. Biases start at 0, batch norm
    at scale 1. Draws from torch's global generator, which the caller seeds.
    """
    *_, logits = (module for module in model.head.modules() if isinstance(module, nn.Linear))
    linear = {logits} | {module.excite for module in model.modules() if isinstance(module, SqueezeExcitation)}
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if module in linear else "relu")
            nn.init.zeros_(module.bias)
    return model
