"""Stochastic gradient descent, with weight decay as an L2 term of the gradient, as torch has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnetlab.builtin import BuiltIn, Settings, need
from resnetlab.vision.parts.shared_settings import Fraction

if TYPE_CHECKING:
    from torch.optim import Optimizer


def sgd(params: Any, lr: float, weight_decay: float, *, momentum: Fraction = 0.9, nesterov: bool = False) -> Optimizer:
    import torch

    return torch.optim.SGD(params, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov, fused=True)


def limits(settings: Settings) -> None:
    allowed = not settings["nesterov"] or settings["momentum"] > 0
    need(allowed, "momentum > 0 where nesterov is true", settings, "momentum")


PARTS = (BuiltIn("sgd", sgd, limits),)
