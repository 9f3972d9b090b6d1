"""Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998, UCI repository, doi:10.24432/C50P49): the 1,797
images that scikit-learn ships, as glyphs are: 20 × 20 grey pixels, dark on light."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data.source import Append, Contents

VERSION = 1  # raise it where the images change: what is in caches is then made again
LARGER, MARGIN = 2, 2  # 8 × 8 pixels become 16 × 16 with a light border of two


class Digits:
    """1,797 images (20, 20, 1) of ten digits from 43 people; splits are drawn. A small target for transfer."""

    labels: tuple[str, ...] = ("digit",)

    def __init__(self, config: DataConfig, cache: Path) -> None:
        self.label = config.label or self.labels[0]

    def check(self) -> None:
        """Nothing can be absent: scikit-learn is installed."""

    def fetch(self) -> None:
        """Nothing to get."""

    def fingerprint(self) -> Any:
        return [VERSION, version("scikit-learn")]

    def remarks(self, notes: Mapping[str, Any]) -> list[str]:
        """Nothing is passed over."""
        return []

    def write(self, append: Append) -> Contents:
        from sklearn.datasets import load_digits  # slow to import, and needed only to fill the cache

        found = load_digits()
        ink = found.images.repeat(LARGER, axis=1).repeat(LARGER, axis=2) / 16  # 0 … 1
        ink = np.pad(ink, [(0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)])
        append(np.rint(255 * (1 - ink)).astype(np.uint8)[..., None])
        return Contents({"digit": (found.target.astype(np.int64), tuple("0123456789"))})
