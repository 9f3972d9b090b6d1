"""A folder of the user's images: see `vision.data.image_folder`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from resnetlab.builtin import Dataset
from resnetlab.vision.parts.shared_settings import Root

if TYPE_CHECKING:
    from resnetlab.study import DataConfig
    from resnetlab.vision.data.source import Source


class Settings(BaseModel):
    root: Root = None
    size: int | None = Field(None, ge=4, le=1024, description="folder: resize to size x size pixels")
    mode: Literal["rgb", "grey"] | None = Field(None, description="folder: convert all images to this mode")


def folder(config: DataConfig, cache: Path) -> Source:
    from resnetlab.vision.data.image_folder import ImageFolder

    return ImageFolder(config, cache)


PARTS = (Dataset("folder", folder, settings=Settings, places=("root",)),)
