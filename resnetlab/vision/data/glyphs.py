"""Grey 20×20 images of characters, rendered from the fonts that matplotlib ships: a dataset without a download.

Like the Character Font Images set, every image has two labels: which character and which font. The 47 characters are
those of EMNIST Balanced (Cohen et al. 2017, arXiv:1702.05373): lower-case letters that differ from their capitals by
size alone are left out. Each image is what a crop from a line of print shows: the character at a size and place of its
own, slightly turned, slanted and stretched, blurred, on a shaded ground with noise, often with parts of its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image, ImageDraw, ImageFont, features

from resnetlab.errors import BadData
from resnetlab.paths import user_path
from resnetlab.study.data_config import DataConfig
from resnetlab.study.seeding import stream
from resnetlab.vision.data.dataset import some
from resnetlab.vision.data.fonts import ALPHABET, EM, SUFFIXES, Fonts, font_files, opened, usable
from resnetlab.vision.data.source import Append, Contents

VERSION = 1  # raise it where rendering changes: what is in caches is then made again

SIDE = 20  # pixels of an image
FINER = 3  # rendered so many times larger, then averaged
LINE = (256, 128)  # pixels of the line that is drawn and cropped from
SIZE = (15.0, 20.0)  # pixels of the em square
TURN = np.deg2rad(12.0)  # either way
SLANT = 0.15  # shear, either way
STRETCH = 0.15  # logarithm of width against height, either way
SHIFT = 2.0  # pixels, either way
NEIGHBOUR = 0.4  # probability, on each side
GAP = (-0.02, 0.25)  # em squares to a neighbour
BLUR = (0.3, 0.9)  # pixels, standard deviation
CONTRAST = (80.0, 230.0)  # grey levels
SHADE = 30.0  # grey levels from edge to edge, either way
NOISE = (4.0, 20.0)  # grey levels, standard deviation
LAYOUT, PRINT = 11, 6  # uniform numbers an image


class Glyphs:
    """`variants` images (20, 20, 1) of each character in each usable font.

    An image depends on its font, its character and its number only: more fonts or more variants add images and change
    none. Arithmetic is in double precision, so that the rounded pixels are the same on every machine with the same
    FreeType and Pillow.
    """

    labels: tuple[str, ...] = ("character", "font")

    def __init__(self, config: DataConfig, cache: Path) -> None:
        self.label = config.label or "character"
        self.variants = config.variants
        self.font_dir = user_path(config.font_dir, "dataset.font_dir") if config.font_dir else None

    def check(self) -> None:
        if self.font_dir is None:
            return
        if not self.font_dir.is_dir():
            raise BadData(f"dataset.font_dir: {self.font_dir} is not a folder")
        if not self._own_files():
            raise BadData(f"dataset.font_dir: {self.font_dir} has no fonts ({', '.join(sorted(SUFFIXES))})")

    def fetch(self) -> None:
        """Nothing to get: matplotlib is installed."""

    def fingerprint(self) -> Any:
        stats = [(path, path.stat()) for path in font_files(self.font_dir)]
        files = [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats]
        return [VERSION, PIL.__version__, features.version("freetype2"), self.variants, files]

    def remarks(self, notes: Mapping[str, Any]) -> list[str]:
        """What in the font folder is not drawn from."""
        if self.font_dir is None:
            return []
        own, left = self._own_files(), notes.get("fonts left out") or {}
        unused = [f"{path.name} ({why})" for path in own if (why := left.get(str(path)) or left.get(path.stem))]
        lines = [f"font_dir: {len(unused):,} of {len(own):,} fonts are left out: {some(unused)}"] if unused else []
        passed = sorted(
            str(path.relative_to(self.font_dir)) + "/" * path.is_dir()
            for path in self.font_dir.rglob("*")
            if path not in own and (path.is_symlink() or not path.is_dir())
        )
        if passed:
            kinds = " ".join(sorted(SUFFIXES))
            lines.append(f"passed over in font_dir: {len(passed):,} that are no fonts ({kinds}): {some(passed)}")
        return lines

    def write(self, append: Append) -> Contents:
        fonts = usable(font_files(self.font_dir))
        self._need_own(fonts)
        for name, path in fonts.paths.items():
            append(render(name, path, self.variants)[..., None])
        per_font = np.repeat(np.arange(len(ALPHABET)), self.variants)
        labels = {
            "character": (np.tile(per_font, len(fonts.paths)), tuple(ALPHABET)),
            "font": (np.repeat(np.arange(len(fonts.paths)), len(per_font)), tuple(fonts.paths)),
        }
        return Contents(labels, notes={"fonts left out": fonts.left_out})

    def _own_files(self) -> list[Path]:
        return [path for path in font_files(self.font_dir) if self.font_dir in path.parents]

    def _need_own(self, fonts: Fonts) -> None:
        """BadData where a font folder was given and nothing in it can be used."""
        own = self._own_files()
        if own and not set(own) & set(fonts.paths.values()):
            reasons = [f"{path.name}: {fonts.left_out.get(path.stem) or fonts.left_out[str(path)]}" for path in own[:5]]
            raise BadData(f"dataset.font_dir: none of {len(own)} fonts can be used; {'; '.join(reasons)}")


def render(name: str, path: Path, variants: int) -> np.ndarray:
    """All images of one font: (47 × variants, 20, 20) uint8, ordered by character, then variant."""
    font = opened(path)
    draws = [
        np.random.default_rng(stream(0, "glyphs", name, char)).random((variants, LAYOUT + PRINT)) for char in ALPHABET
    ]
    noise = [
        np.random.default_rng(stream(0, "glyphs", name, char, "noise")).standard_normal((variants, SIDE, SIDE))
        for char in ALPHABET
    ]
    typesetter = _Typesetter(font)
    ink = np.stack([typesetter.crop(char, row) for char, rows in zip(ALPHABET, draws, strict=True) for row in rows])
    return _printed(ink, np.concatenate(draws)[:, LAYOUT:], np.concatenate(noise))


class _Typesetter:
    """Draws crops from lines of print in one font."""

    def __init__(self, font: ImageFont.FreeTypeFont) -> None:
        self.font = font
        self.advance = {char: font.getlength(char) for char in ALPHABET}
        self.half_height = -font.getbbox("H", anchor="ls")[1] / 2

    def crop(self, char: str, draw: np.ndarray) -> np.ndarray:
        """(20, 20) uint8 ink, 255 where there is most, by the first LAYOUT of `draw`'s uniform numbers."""
        size, turn, slant, stretch, right, down, before, after, gap, one, other = draw[:LAYOUT]
        line = Image.new("L", LINE)
        pen = ImageDraw.Draw(line)
        middle = np.array([LINE[0] / 2, LINE[1] / 2])
        base = middle[1] + self.half_height
        start = middle[0] - self.advance[char] / 2
        gap = _between(gap, *GAP) * EM
        pen.text((start, base), char, 255, self.font, anchor="ls")
        if before < NEIGHBOUR:
            neighbour = ALPHABET[int(one * len(ALPHABET))]
            pen.text((start - gap - self.advance[neighbour], base), neighbour, 255, self.font, anchor="ls")
        if after < NEIGHBOUR:
            neighbour = ALPHABET[int(other * len(ALPHABET))]
            pen.text((start + self.advance[char] + gap, base), neighbour, 255, self.font, anchor="ls")

        angle = _between(turn, -TURN, TURN)
        wide = np.exp(_between(stretch, -STRETCH, STRETCH))
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shape = np.array([[wide, _between(slant, -SLANT, SLANT)], [0.0, 1 / wide]])
        matrix = rotation @ shape * (EM / _between(size, *SIZE) / FINER)  # from image to line
        centre = np.array([SIDE / 2 + _between(right, -SHIFT, SHIFT), SIDE / 2 + _between(down, -SHIFT, SHIFT)])
        offset = middle - matrix @ (centre * FINER)
        coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
        fine = line.transform(
            (SIDE * FINER, SIDE * FINER), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )
        return np.asarray(fine.reduce(FINER))


def _printed(ink: np.ndarray, draws: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Blur, contrast, shade and noise: (n, 20, 20) uint8. ink: alike; draws: (n, PRINT) uniform; noise: (n, 20, 20)."""
    blur, contrast, ground, across, along, grain = draws.T[:, :, None, None]
    place = np.arange(SIDE)
    kernel = np.exp(-((place[:, None] - place) ** 2) / (2 * _between(blur, *BLUR) ** 2))
    kernel /= kernel.sum(axis=2, keepdims=True)
    ink = kernel @ (ink / 255.0) @ kernel.transpose(0, 2, 1)
    contrast = _between(contrast, *CONTRAST)
    ramp = (place + 0.5) / SIDE - 0.5
    image = 255.0 - ground * (255.0 - contrast) - contrast * ink
    image += _between(across, -SHADE, SHADE) * ramp + _between(along, -SHADE, SHADE) * ramp[:, None]
    image += noise * _between(grain, *NOISE)
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)


def _between(uniform: Any, low: float, high: float) -> Any:
    return low + uniform * (high - low)
