"""Linear layers alone (study 001)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from resnetlab.builtin import Network, Settings
from resnetlab.vision.parts.shared_settings import Dropout, HeadDepth, HeadWidth
from resnetlab.vision.sizes import Shape, Size, linear

if TYPE_CHECKING:
    from resnetlab.vision.models.blocks import Staged

HEAD_WIDTH = 4000


def mlp(
    shape: Shape,
    classes: int,
    *,
    head_depth: HeadDepth = 2,
    head_width: HeadWidth = HEAD_WIDTH,
    dropout: Dropout = 0.0,
) -> Staged:
    """Linear layers with ReLU between them (study 001: two layers, 4000 hidden units); a stage per hidden layer.

    Ours: the sizes, He initialisation, zero biases: those of the course notebook that the text's function names are of.
    """
    from torch import nn

    from resnetlab.vision.models.blocks import Staged, dropped, he_by_fan_in

    sizes = [shape[0] * shape[1] * shape[2], *[head_width] * (head_depth - 1)]
    stages = [
        nn.Sequential(nn.Flatten(), *dropped(dropout), nn.Linear(one, other), nn.ReLU(inplace=True))
        for one, other in pairwise(sizes)
    ]
    top = nn.Sequential(nn.Flatten(), *dropped(dropout), nn.Linear(sizes[-1], classes))
    return he_by_fan_in(Staged(stages, top))


def sizes(shape: Shape, classes: int, *, head_depth: int, head_width: int, dropout: float) -> list[Size]:
    widths = [shape[0] * shape[1] * shape[2], *[head_width] * (head_depth - 1), classes]
    return [linear(pair) for pair in pairwise(widths)]


def settle(settings: Settings) -> Settings:
    """A single linear layer has no hidden units."""
    return {"head_width": HEAD_WIDTH} if settings["head_depth"] == 1 else {}


PARTS = (Network("mlp", mlp, settle=settle, stages=lambda settings: settings["head_depth"] - 1, sizes=sizes),)
