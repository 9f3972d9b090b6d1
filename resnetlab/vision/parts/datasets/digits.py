"""The handwritten digits that scikit-learn ships: see `vision.data.digits`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from resnetlab.builtin import Dataset
from resnetlab.vision.parts.shared_settings import Label

if TYPE_CHECKING:
    from resnetlab.study import DataConfig
    from resnetlab.vision.data.source import Source


class Settings(BaseModel):
    label: Label = None


def digits(config: DataConfig, cache: Path) -> Source:
    from resnetlab.vision.data.digits import Digits

    return Digits(config, cache)


PARTS = (Dataset("digits", digits, settings=Settings, drawn=True),)
