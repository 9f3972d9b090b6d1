"""Networks from a TrialConfig, and what they cost."""

from __future__ import annotations

from collections.abc import Callable

from resnetlab.config import TrialConfig
from resnetlab.models.blocks import Staged
from resnetlab.models.count import facts
from resnetlab.models.resnet import resnet

__all__ = ["Staged", "build", "facts"]

FAMILIES: dict[str, Callable[[TrialConfig, tuple[int, int, int], int], Staged]] = {"resnet": resnet}


def build(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> Staged:
    """The network of a trial for images of `shape` (H, W, C), initialised from torch's global generator.

    Under `torch.device("meta")` it takes no memory and no time, for a dry run. Raises BadRequest where the network
    cannot be trained on such images.
    """
    return FAMILIES[config.model](config, shape, classes)
