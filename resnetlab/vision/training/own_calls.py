"""Losses and augmentations as plain functions; a user's are checked the first time: what they return, and its shape."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from resnetlab.errors import BadRequest
from resnetlab.experiment.own_parts import Bound, OwnParts
from resnetlab.study import catalog
from resnetlab.study.parts import PLUS
from resnetlab.study.trial_config import TrialConfig


class Checked:
    """A loss of (logits, labels), or an augmentation of (images, generator), called as a plain function."""

    def __init__(self, part: Bound):
        self._part, self._names = part, ("logits", "labels") if part.part.key == "loss" else ("images", "generator")
        self._seen = False

    def __call__(self, tensor: Tensor, other: Tensor | torch.Generator) -> Tensor:
        given = dict(zip(self._names, (tensor, other), strict=True))
        if self._seen:
            found: Tensor = self._part(**given)
            return found
        found = self._part.first(**given)
        self._seen = True
        if self._names[0] == "images" and (found.shape != tensor.shape or found.dtype != tensor.dtype):
            raise BadRequest(
                f"{self._part.reference}: returned images {tuple(found.shape)} {found.dtype} for {tuple(tensor.shape)} "
                f"{tensor.dtype} (allowed: the same shape and type)"
            )
        if self._names[0] == "logits" and not found.requires_grad:
            raise BadRequest(
                f"{self._part.reference}: the loss has no gradient (allowed: one computed from the logits)"
            )
        return found


def augmentations(config: TrialConfig, own: OwnParts) -> list[Callable[[Tensor, torch.Generator], Tensor]]:
    """Those that the trial names, in that order: of (images, generator), built-in ones and the user's own."""
    of_user = {part.part.text: Checked(part) for part in own.all("augment")}
    built_in = catalog.parts("augment")
    found: list[Callable[[Tensor, torch.Generator], Tensor]] = []
    for name in config.augment.split(PLUS):
        if name in of_user:
            found.append(of_user[name])
        elif name in built_in:
            found.append(built_in[name].bound(config))
    return found
