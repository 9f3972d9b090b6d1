"""RMSprop, which torch has no fused kernel for, with weight decay as an L2 term of the gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnetlab.builtin import BuiltIn
from resnetlab.vision.parts.shared_settings import Fraction

if TYPE_CHECKING:
    from torch.optim import Optimizer


def rmsprop(params: Any, lr: float, weight_decay: float, capturable: bool, *, momentum: Fraction = 0.9) -> Optimizer:
    import torch

    return torch.optim.RMSprop(params, lr=lr, weight_decay=weight_decay, momentum=momentum, capturable=capturable)


PARTS = (BuiltIn("rmsprop", rmsprop),)
