"""Crop, flips and rotation, which every trial has: in one gather, see `vision.data.augment`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from resnetlab.builtin import BuiltIn

if TYPE_CHECKING:
    from resnetlab.vision.data.augment import Augment


def moves(
    frame: dict[str, Any],
    *,
    crop: Annotated[int, Field(ge=0, le=64, description="pad by so many pixels and crop at random")] = 0,
    flip: Annotated[bool, Field(description="mirror half of the images left to right")] = False,
    flip_vertical: Annotated[bool, Field(description="mirror half of the images top to bottom")] = False,
    rotation: Annotated[float, Field(ge=0.0, le=180.0, description="rotate by up to so many degrees either way")] = 0.0,
) -> Augment:
    """frame: arguments of `Augment` that are no settings: shape, mean, std, device and layout."""
    from resnetlab.vision.data.augment import Augment

    return Augment(**frame, crop=crop, flip=flip, flip_vertical=flip_vertical, rotation=rotation)


PARTS = (BuiltIn("moves", moves, always=True),)
