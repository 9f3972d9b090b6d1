"""A small dataset of images in folders, `train/<class>/*.png`."""

from pathlib import Path

import numpy as np
from PIL import Image


def make(root: Path, seed: int, each: int = 60) -> Path:
    """`each` images of 24 × 24 pixels in each of three classes, which differ in where they are bright; `root`."""
    random = np.random.default_rng(seed)
    for label in range(3):
        folder = root / "train" / f"class-{label}"
        folder.mkdir(parents=True)
        for number in range(each):
            pixels = random.integers(0, 160, (24, 24, 3), np.uint8)
            pixels[8 * label : 8 * label + 8] += 60
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root
