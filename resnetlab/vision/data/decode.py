"""Image files to uint8 arrays of one shape."""

from __future__ import annotations

import os
import re
import struct
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from resnetlab.errors import BadData
from resnetlab.vision.data.folder.faults import Fault, Faulty
from resnetlab.vision.data.folder.listing import special

PIXELS = 50_000_000  # of one image: a file of a few kilobytes can claim any number
TEXT = 2**26  # bytes of text beside an image's pixels, unpacked: they are skipped, but Pillow unpacks them
DEEP = {"I;16", "I;16L", "I;16B", "I;16N"}
GREY = {"1", "L", "LA"} | DEEP
COLOUR = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
PROGRAMS = {"EPS"}  # formats that Pillow has drawn by another program
KINDS = {"I": "32-bit integers", "F": "floating point"}
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation
SIGNATURES = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n"}
FULL = 128  # a high byte that 16-bit colour must reach somewhere for its low bytes to be dropped
DEEP_COLOUR = "16 bits a channel: the low byte is dropped"
FAULTS = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError, struct.error)
Mode = Literal["rgb", "grey"]
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # PIXELS is the lower limit
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of odd metadata, naming no file
PngImagePlugin.MAX_TEXT_CHUNK = TEXT  # Pillow's own, 1 MB, refuses whole images for what an editor wrote beside them


class Decoder:
    """Decodes files to (H, W, C) uint8, C = 3 for rgb and 1 for grey.

    size: every image is resized to size × size; None: all must have the size of the file `reference`, or, where that is
    damaged, of the first of `paths` that is not.
    mode: every image is converted; None: all must be colour, or all grey, as `reference` is.
    paths: all files of the set: 16-bit grey is brought to 8 bits by the largest value among them.
    changes: how many of the images decoded so far are not as they lie in their files, by what was done to them.
    """

    def __init__(self, size: int | None, mode: Mode | None, reference: str, paths: Sequence[str] = ()) -> None:
        self.size = size
        self.mode = mode
        self.reference = reference
        self.changes: Counter[str] = Counter()
        self._paths = paths or [reference]
        self._depth = Depth(self._paths)
        self._lock = threading.Lock()
        self._highest = 0  # high byte in 16-bit colour
        self._deep_colour = ""  # the first such file

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Of the first file that can be decoded. Faulty where none can."""
        faults: list[Fault] = []
        for path in dict.fromkeys([self.reference, *self._paths]):
            try:
                height, width, channels = decode(path, self.size, self.mode, lambda: 16).pixels.shape
            except Undecodable as error:
                faults.append(_fault(path, error))
                continue
            self.reference = path
            return height, width, channels
        raise Faulty(faults, len(faults))

    def read(self, paths: Sequence[str]) -> tuple[np.ndarray, list[Fault]]:
        """Those that can be used (n, H, W, C), in order, and what is wrong with each of the others: damaged, no image,
        or of another size or mode than the reference."""
        found: list[Decoded] = []
        kept, faults = [], []
        for path in paths:
            try:
                one = decode(path, self.size, self.mode, self._depth)
            except Undecodable as error:
                faults.append(_fault(path, error))
                continue
            if one.pixels.shape != self.shape:
                faults.append(self._difference(path, one.pixels.shape))
                continue
            kept.append(path)
            found.append(one)
        self._count(kept, found)
        images = np.stack([one.pixels for one in found]) if found else np.empty((0, 1, 1, 1), np.uint8)
        return images, faults

    def many(self, paths: Sequence[str]) -> np.ndarray:
        """(n, H, W, C). Faulty names the files that are damaged, are no images, or differ from the reference."""
        images, faults = self.read(paths)
        if faults:
            raise Faulty(faults, len(paths))
        return images

    def finish(self) -> None:
        """All files are decoded. BadData where 16-bit colour used so few bits that little is left of it in 8."""
        if self._deep_colour and self._highest < FULL:
            raise BadData(
                f"{self._deep_colour}: colour with 16 bits a channel, none of which uses the highest bit: only the "
                "high byte can be read, which would leave the images dark (scale the images to 8 bits a channel)"
            )

    def _count(self, paths: Sequence[str], found: Sequence[Decoded]) -> None:
        with self._lock:
            for path, one in zip(paths, found, strict=True):
                self.changes.update(one.changes)
                if DEEP_COLOUR in one.changes:
                    self._deep_colour = min(self._deep_colour or path, path)
                    self._highest = max(self._highest, one.highest)

    def _difference(self, path: str, shape: tuple[int, ...]) -> Fault:
        height, width, channels = self.shape
        modes = {1: "grey", 3: "colour"}
        if shape[2] != channels:
            ours, other = modes[channels], modes[shape[2]]
            rule = f"grey and colour are mixed: {self.reference} is {ours}, {path} is {other}"
            kind = f"{other}, and the first image is {ours}"
            return Fault(path, kind, f"dataset.mode: {rule} (set it to rgb or grey)", "set dataset.mode to rgb or grey")
        size = f"{shape[1]}×{shape[0]}"
        rule = f"sizes differ: {self.reference} is {width}×{height}, {path} is {size} pixels"
        kind = f"another size than the first image, {width}×{height} pixels"
        return Fault(
            path, kind, f"dataset.size: {rule} (set the size that all shall have)",
            "set dataset.size to the size that all shall have",
        )  # fmt: skip


def _fault(path: str, error: Undecodable) -> Fault:
    """Numbers and what is in parentheses tell files of one kind apart, not kinds."""
    text = str(error)
    kind = re.sub(r"\s*\(.*\)|\s*0x[0-9a-f]+|(?<![A-Za-z])\d[\d,]*(?:[×x]\d+)?", "", text).strip(" :")
    return Fault(path, kind if "too large" not in text else "too large", f"{path}: {text}")


class Undecodable(Exception):
    """Why a file is no image that can be used."""


class Depth:
    """How many bits the 16-bit grey images of a set use, 8 or more. They are all read when it is first asked for."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._bits = 0
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            if not self._bits:
                with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                    chunks = [self._paths[i : i + 128] for i in range(0, len(self._paths), 128)]
                    self._bits = max(8, *pool.map(lambda chunk: max(map(_bits_used, chunk)), chunks))
        return self._bits


def _bits_used(path: str) -> int:
    """Bits of the largest value of a 16-bit grey image, 0 for any other file; what is broken is decoding's to name."""
    try:
        if special(Path(path).stat().st_mode):
            return 0
        with Image.open(path) as file:
            if file.mode not in DEEP or file.width * file.height > PIXELS:
                return 0
            return int(np.asarray(file).max()).bit_length()
    except Exception:
        return 0


@dataclass(frozen=True)
class Decoded:
    """pixels: (H, W, C) uint8. changes: in what they are not what the file holds. highest: value before them."""

    pixels: np.ndarray
    changes: tuple[str, ...]
    highest: int = 255


def decode(path: str, size: int | None, mode: Mode | None, depth: Callable[[], int]) -> Decoded:
    """One file, wholly decoded.

    Transparent parts become white, the rotation that a camera noted is applied, of several frames the first is read.
    16-bit grey keeps the upper 8 of the `depth()` bits that its set uses. Resized with an antialiased bilinear filter;
    large JPEG files are decoded at a fraction of their size, twice `size` or more. Metadata that cannot be read is
    passed over. Raises Undecodable.
    """
    changes: list[str] = []
    stage = "its header or metadata cannot be read"
    try:
        if kind := special(Path(path).stat().st_mode):
            raise Undecodable(f"{kind}, not an image file")
        with Image.open(path) as file:
            if file.format in PROGRAMS:
                raise Undecodable(f"{file.format} is a page to be drawn, not pixels (save it as PNG)")
            if file.width * file.height > PIXELS:
                raise Undecodable(f"too large: {file.width}×{file.height} pixels (allowed: {PIXELS:,} in all)")
            if size is not None:
                file.draft(None, (2 * size, 2 * size))
            if getattr(file, "is_animated", False):
                changes.append("several frames: the first is read")
            if file.mode not in DEEP and _sixteen(file):
                changes.append(DEEP_COLOUR)
            stage = "damaged"
            file.load()
            highest = _highest(file) if DEEP_COLOUR in changes else 255
            image = _upright(file, changes)
            image = _converted(image, mode or ("grey" if image.mode in GREY else "rgb"), depth, changes)
            if size is not None and image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
    except Undecodable:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        raise Undecodable(f"too large: {error}") from error
    except FAULTS as error:
        raise Undecodable(_reason(error, path, stage)) from error
    except Exception as error:  # decoders of rare formats raise anything; the file must be named
        reason = f"Pillow {PIL.__version__} fails on it ({type(error).__name__}: {error}); save it anew"
        raise Undecodable(reason) from error
    return Decoded(pixels.reshape(*pixels.shape[:2], -1), tuple(changes), highest)


def _sixteen(file: Image.Image) -> bool:
    """True where the file has more than 8 bits a channel, of which Pillow hands over the highest 8."""
    tiles: Any = getattr(file, "tile", None) or ()
    return any(re.search(r";16", str(tile[3])) for tile in tiles)


def _highest(image: Image.Image) -> int:
    """The largest value of all channels but alpha."""
    bands: Any = [image.getchannel(name).getextrema() for name in image.getbands() if name != "A"]
    return int(max(high for _, high in bands))


def _upright(file: Image.Image, changes: list[str]) -> Image.Image:
    """The image turned as its EXIF orientation says; as it lies where that cannot be read."""
    if "exif" not in file.info:
        return file
    try:
        # ImageOps.exif_transpose would also write the metadata anew, which fails on whatever is odd in it.
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
        method = UPRIGHT.get(orientation)
    except Exception:  # a parser of what any camera or editor may have written
        changes.append("EXIF data cannot be read: taken as upright")
        return file
    if method is None:
        return file
    changes.append("turned upright as its EXIF data says")
    return file.transpose(method)


def _converted(image: Image.Image, mode: Mode, depth: Callable[[], int], changes: list[str]) -> Image.Image:
    if image.mode not in GREY | COLOUR:
        kind = f"{image.mode} ({KINDS[image.mode]})" if image.mode in KINDS else image.mode
        raise Undecodable(f"pixels of kind {kind} are not supported (save it with 8 bits a channel)")
    if image.mode in ("P", "PA"):
        changes.append("colours of a palette")
    if image.mode in ("CMYK", "YCbCr"):
        changes.append(f"{image.mode} converted to RGB without a colour profile")
    if image.mode in DEEP:
        shift = depth() - 8
        divided = f"divided by {2**shift}, as the largest value here has {shift + 8} bits"
        changes.append(f"16-bit grey: {divided if shift else 'no value above 255, taken as 8 bits'}")
        image = Image.fromarray((np.asarray(image) >> shift).astype(np.uint8))
    elif image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            changes.append("transparent parts laid on white")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    wanted = "L" if mode == "grey" else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _reason(error: Exception, path: str, stage: str) -> str:
    if isinstance(error, UnidentifiedImageError):
        with Path(path).open("rb") as file:
            start = file.read(8)
        if name := next((name for name, signature in SIGNATURES.items() if start.startswith(signature)), ""):
            return f"begins as a {name} file, but its header or metadata cannot be read (save it anew without metadata)"
        return "not an image of a known format" if start else "not an image: the file is empty"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    if any(words in str(error).lower() for words in ("max_text", "decompressed data too large")):  # as Pillow says it
        return f"its text metadata has more than {TEXT >> 20} MiB (strip it; the pixels may be whole)"
    return f"{stage}: {error}"
