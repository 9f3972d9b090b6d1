"""Cross entropy, the mean over the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnetlab.builtin import BuiltIn

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float, class_weights: Tensor | None) -> Tensor:
    """class_weights: (classes,), or None where all count the same."""
    from torch.nn import functional as F

    return F.cross_entropy(logits, labels, weight=class_weights, label_smoothing=label_smoothing)


PARTS = (BuiltIn("cross-entropy", cross_entropy),)
