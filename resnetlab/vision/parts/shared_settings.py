"""Settings that several built-in parts have, each with its limits and its description."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"must be odd (allowed: 1, 3, 5, 7, 9, 11), got {value}")
    return value


# Of networks
Blocks = Annotated[int, Field(ge=1, le=64, description="residual blocks")]
Kernel = Annotated[int, Field(ge=1, le=11, description="of the blocks' convolutions, odd"), AfterValidator(_odd)]
Width = Annotated[int, Field(ge=1, le=2048, description="channels of the stem or first convolution")]
Shortcut = Annotated[bool, Field(description="add each block's input to its output")]
SqueezeExcite = Annotated[bool, Field(description="squeeze-excitation in each block")]
HeadDepth = Annotated[int, Field(ge=1, le=8, description="linear layers of the head")]
HeadWidth = Annotated[int, Field(ge=1, le=16384, description="hidden units of the head, where head_depth > 1")]
Dropout = Annotated[
    float,
    Field(
        ge=0.0,
        lt=1.0,
        description="before each linear layer of the head (scratch-cnn: after each pool; twice that in the head)",
    ),
]

# Of optimizers and schedules
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]

# Of datasets
Root = Annotated[str | None, Field(description="folder or archive of the data, where it is read from files")]
Label = Annotated[
    str | None,
    Field(description="glyphs, character-fonts: `character` or `font`; cifar100: `fine` or `coarse`"),
]
Download = Annotated[bool, Field(description="cifar: fetch the archive if it is absent")]
