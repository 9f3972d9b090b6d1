"""Characters rendered from the fonts of this machine: see `vision.data.glyphs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from resnetlab.builtin import Dataset
from resnetlab.vision.parts.shared_settings import Label

if TYPE_CHECKING:
    from resnetlab.study import DataConfig
    from resnetlab.vision.data.source import Source


class Settings(BaseModel):
    label: Label = None
    font_dir: str | None = Field(None, description="glyphs: further fonts, besides those that matplotlib ships")
    variants: int = Field(24, ge=1, le=1000, description="glyphs: images per font and character")


def glyphs(config: DataConfig, cache: Path) -> Source:
    from resnetlab.vision.data.glyphs import Glyphs

    return Glyphs(config, cache)


PARTS = (Dataset("glyphs", glyphs, settings=Settings, places=("font_dir",), drawn=True),)
