"""The Character Font Images set, split 70/15/15 as in the published study: see `vision.data.character_fonts`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from resnetlab.builtin import Dataset
from resnetlab.vision.parts.shared_settings import Label, Root

if TYPE_CHECKING:
    from resnetlab.study import DataConfig
    from resnetlab.vision.data.source import Source


class Settings(BaseModel):
    root: Root = None
    label: Label = None


def character_fonts(config: DataConfig, cache: Path) -> Source:
    from resnetlab.vision.data.character_fonts import CharacterFonts

    return CharacterFonts(config, cache)


PARTS = (
    Dataset(
        "character-fonts",
        character_fonts,
        settings=Settings,
        places=("root",),
        defaults={"val_fraction": 3 / 17},
        drawn=True,
    ),
)
