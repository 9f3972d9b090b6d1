"""Adam (Kingma & Ba 2015, arXiv:1412.6980), with weight decay as an L2 term of the gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnetlab.builtin import BuiltIn
from resnetlab.vision.parts.shared_settings import Fraction

if TYPE_CHECKING:
    from torch.optim import Optimizer


def adam(params: Any, lr: float, weight_decay: float, capturable: bool, *, beta2: Fraction = 0.999) -> Optimizer:
    import torch

    return torch.optim.Adam(
        params, lr=lr, weight_decay=weight_decay, betas=(0.9, beta2), fused=True, capturable=capturable
    )


PARTS = (BuiltIn("adam", adam),)
