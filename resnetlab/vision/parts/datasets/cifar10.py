"""CIFAR-10 (Krizhevsky 2009): see `vision.data.cifar`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from resnetlab.builtin import Dataset
from resnetlab.vision.parts.shared_settings import Download, Root

if TYPE_CHECKING:
    from resnetlab.study import DataConfig
    from resnetlab.vision.data.source import Source


class Settings(BaseModel):
    root: Root = None
    download: Download = False


def cifar(config: DataConfig, cache: Path) -> Source:
    from resnetlab.vision.data.cifar import Cifar

    return Cifar(config, cache)


PARTS = (Dataset("cifar10", cifar, settings=Settings, places=("root", "download")),)
