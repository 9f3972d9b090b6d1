"""Image files to uint8 arrays of one shape."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from resnetlab.errors import BadData

PIXELS = 50_000_000  # of one image: a file of a few kilobytes can claim any number
NAMED = 5  # files that a message names at most
DEEP = {"I;16", "I;16L", "I;16B", "I;16N"}
GREY = {"1", "L", "LA"} | DEEP
COLOUR = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
Mode = Literal["rgb", "grey"]
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # PIXELS is the lower limit


class Decoder:
    """Decodes files to (H, W, C) uint8, C = 3 for rgb and 1 for grey.

    size: every image is resized to size × size; None: all must have the size of the file `reference`.
    mode: every image is converted; None: all must be colour, or all grey, as `reference` is.
    """

    def __init__(self, size: int | None, mode: Mode | None, reference: str) -> None:
        self.size = size
        self.mode = mode
        self.reference = reference

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        try:
            return decode(self.reference, self.size, self.mode).shape
        except Undecodable as error:
            raise BadData(f"{self.reference}: {error}") from None

    def many(self, paths: Sequence[str]) -> np.ndarray:
        """(n, H, W, C). BadData names the files that are damaged, are no images, or differ from the reference."""
        images, broken = [], []
        for path in paths:
            try:
                images.append(decode(path, self.size, self.mode))
            except Undecodable as error:
                broken.append(f"{path}: {error}")
        if broken:
            raise BadData(_listed(broken))
        odd = [(path, image.shape) for path, image in zip(paths, images, strict=True) if image.shape != self.shape]
        if odd:
            raise BadData(self._difference(odd))
        return np.stack(images)

    def _difference(self, odd: list[tuple[str, tuple[int, ...]]]) -> str:
        height, width, channels = self.shape
        kind = {1: "grey", 3: "colour"}
        if mixed := [f"{path} is {kind[shape[2]]}" for path, shape in odd if shape[2] != channels]:
            rule = f"grey and colour are mixed: {self.reference} is {kind[channels]}"
            return f"dataset.mode: {rule}, {_listed(mixed, ', ')} (set it to rgb or grey)"
        sizes = [f"{path} is {shape[1]}×{shape[0]}" for path, shape in odd]
        rule = f"sizes differ: {self.reference} is {width}×{height}"
        return f"dataset.size: {rule}, {_listed(sizes, ', ')} pixels (set the size that all shall have)"


class Undecodable(Exception):
    """Why a file is no image that can be used."""


def decode(path: str, size: int | None, mode: Mode | None) -> np.ndarray:
    """One file, wholly decoded, as (H, W, C) uint8.

    Transparent parts become white, 16-bit grey loses its low byte, the rotation that a camera noted is applied. Resized
    with an antialiased bilinear filter; large JPEG files are decoded at a fraction of their size, twice `size` or more.
    """
    try:
        with Image.open(path) as file:
            if file.width * file.height > PIXELS:
                raise Undecodable(f"too large: {file.width}×{file.height} pixels (allowed: {PIXELS:,} in all)")
            if size is not None:
                file.draft(None, (2 * size, 2 * size))
            file.load()
            image = ImageOps.exif_transpose(file) if "exif" in file.info else file
            image = _converted(image, mode or ("grey" if image.mode in GREY else "rgb"))
            if size is not None and image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
    except Undecodable:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError, struct.error) as error:
        raise Undecodable(_reason(error)) from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise Undecodable(f"too large: {error}") from error
    return pixels.reshape(*pixels.shape[:2], -1)


def _converted(image: Image.Image, mode: Mode) -> Image.Image:
    if image.mode not in GREY | COLOUR:
        raise Undecodable(f"pixels of kind {image.mode} are not supported (save it with 8 bits a channel)")
    if image.mode in DEEP:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    wanted = "L" if mode == "grey" else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"damaged: {error}"


def _listed(items: Sequence[str], between: str = "\n") -> str:
    more = [f"and {len(items) - NAMED} more"] if len(items) > NAMED else []
    return between.join([*items[:NAMED], *more])
