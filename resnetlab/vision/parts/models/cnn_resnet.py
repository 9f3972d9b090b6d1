"""The network of study 000 with a residual block in place of each convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnetlab.builtin import Network
from resnetlab.vision.parts.models.cnn import pooled, pooled_sizes
from resnetlab.vision.parts.shared_settings import Dropout, Shortcut, SqueezeExcite, Width
from resnetlab.vision.sizes import Shape, Size, residual_block

if TYPE_CHECKING:
    from resnetlab.vision.models.blocks import Staged


def cnn_resnet(
    shape: Shape,
    classes: int,
    *,
    width: Width = 32,
    shortcut: Shortcut = True,
    se: SqueezeExcite = False,
    dropout: Dropout = 0.0,
) -> Staged:
    """As `cnn`, each convolution become conv-BN-conv-BN and a shortcut. Ours: ReLU inside and after the block."""
    from resnetlab.vision.models.blocks import ResidualBlock

    return pooled(
        "cnn-resnet",
        shape,
        classes,
        width,
        dropout,
        lambda inputs, outputs: [ResidualBlock(inputs, outputs, 3, shortcut=shortcut, se=se, bias=True)],
    )


def sizes(shape: Shape, classes: int, *, width: int, shortcut: bool, se: bool, dropout: float) -> list[Size]:
    return pooled_sizes(
        shape,
        classes,
        width,
        lambda inputs, outputs, at: residual_block(inputs, outputs, 3, 1, at, 1, shortcut=shortcut, se=se, bias=True)[
            0
        ],
    )


PARTS = (Network("cnn-resnet", cnn_resnet, stages=lambda settings: 3, sizes=sizes),)
