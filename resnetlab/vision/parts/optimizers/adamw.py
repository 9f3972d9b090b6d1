"""AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101): Adam with weight decay apart from the gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnetlab.builtin import BuiltIn
from resnetlab.vision.parts.shared_settings import Fraction

if TYPE_CHECKING:
    from torch.optim import Optimizer


def adamw(params: Any, lr: float, weight_decay: float, capturable: bool, *, beta2: Fraction = 0.999) -> Optimizer:
    import torch

    return torch.optim.AdamW(
        params, lr=lr, weight_decay=weight_decay, betas=(0.9, beta2), fused=True, capturable=capturable
    )


PARTS = (BuiltIn("adamw", adamw),)
