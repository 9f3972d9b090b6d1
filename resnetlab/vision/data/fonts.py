"""Which fonts can draw the alphabet: files found, and a look at what they draw."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

from resnetlab.errors import BadRequest

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"
GROUPS = {"digits": slice(0, 10), "capitals": slice(10, 36), "small letters": slice(36, 47)}
REFERENCES = ("DejaVuSans", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralItalic")
LIKENESS = 0.2  # of each group's characters that must look most like themselves in one of the references
UPRIGHT = ("Regular", "Normal", "Book", "Roman", "Medium")  # as fonts name their usual face
SUFFIXES = {".ttf", ".otf", ".ttc"}
EM = 48  # pixels at which fonts are drawn
RASTER = 12  # pixels a side, for comparing shapes


@dataclass(frozen=True)
class Fonts:
    """paths: usable fonts by name, in order. left_out: the other fonts' names, with the reason."""

    paths: dict[str, Path]
    left_out: dict[str, str]


def shipped() -> Path:
    """matplotlib's font folder, found without importing matplotlib (a quarter of a second in every worker)."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ImportError("matplotlib is not installed")
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"


def font_files(font_dir: Path | None) -> list[Path]:
    """All font files: those that matplotlib ships, then those anywhere under `font_dir`."""
    folders = [shipped()] + ([font_dir] if font_dir else [])
    return [
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]


def usable(files: Sequence[Path]) -> Fonts:
    """Sort out `files`. Of two with the same name the first counts."""
    paths: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    for path in files:
        if path.stem in paths:
            left_out[str(path)] = "another font has this name"
        elif problem := _problem(path):
            left_out[path.stem] = problem
        else:
            paths[path.stem] = path
    return Fonts(dict(sorted(paths.items())), left_out)


def choose(fonts: Mapping[str, Path], kept: Mapping[str, Path], count: int) -> tuple[dict[str, Path], int]:
    """Fonts by name that make `count` together with those in `kept`, and the number of families to choose from.

    One face a family: an upright one of medium weight where there is one. Of more families than are wanted, every so
    many in alphabetical order. BadRequest where there are fewer.
    """
    families: dict[str, list[tuple[int, str]]] = {}
    taken = {opened(path).getname()[0] for path in kept.values()}
    for name, path in fonts.items():
        family, style = opened(path).getname()
        if name not in kept and family not in taken:
            rank = UPRIGHT.index(style) if style in UPRIGHT else len(UPRIGHT)
            families.setdefault(family or name, []).append((rank, name))
    wanted = count - len(kept)
    if not 0 < wanted <= len(families):
        allowed = f"{len(kept) + 1} to {len(kept) + len(families)}" if families else "none, as no other family is here"
        raise BadRequest(f"{count} fonts, {len(kept)} of them matplotlib's (allowed: {allowed})")
    names = [min(families[family])[1] for family in sorted(families)]
    return {name: fonts[name] for name in (names[i * len(names) // wanted] for i in range(wanted))}, len(families)


def opened(path: Path) -> ImageFont.FreeTypeFont:
    """The font at EM pixels. Basic layout: the other one depends on libraries of the machine."""
    return ImageFont.truetype(str(path), EM, layout_engine=ImageFont.Layout.BASIC)


def _problem(path: Path) -> str | None:
    """Why a font cannot be used, else None.

    A character map alone does not tell: some symbol fonts put other signs in the places of letters, and last-resort
    fonts draw the same box for all. So the shapes are compared with those of fonts that are known to be right.
    """
    try:
        font = opened(path)
        absent = bytes(font.getmask("\U0010ffff"))
        drawn = [bytes(font.getmask(character)) for character in ALPHABET]
        shapes = _shapes(font)
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
    lacking = [character for character, mask in zip(ALPHABET, drawn, strict=True) if not any(mask) or mask == absent]
    if lacking:
        return f"lacks {''.join(lacking)}" if len(lacking) < len(ALPHABET) else "lacks every character of the alphabet"
    if len(set(drawn)) < len(drawn):
        return "draws two characters alike"
    looks_like = np.einsum("rkd,nd->rnk", _references(), shapes).max(axis=0).argmax(axis=1)
    right = looks_like == np.arange(len(ALPHABET))
    for name, group in GROUPS.items():
        if right[group].mean() < LIKENESS:
            return f"draws other signs than {name}"
    return None


def _shapes(font: ImageFont.FreeTypeFont) -> np.ndarray:
    """(47, RASTER²) float: each character's ink stretched to a square, centred, of unit norm; zero if empty."""
    out = np.zeros((len(ALPHABET), RASTER * RASTER))
    for row, character in zip(out, ALPHABET, strict=True):
        mask = font.getmask(character)
        if all(mask.size):
            ink = Image.frombytes("L", mask.size, bytes(mask)).resize((RASTER, RASTER), Image.Resampling.BILINEAR)
            row[:] = np.asarray(ink, float).ravel()
            row -= row.mean()
            row /= np.linalg.norm(row) or 1.0
    return out


@cache
def _references() -> np.ndarray:
    """(r, 47, RASTER²) float: the shapes in the reference fonts."""
    return np.stack([_shapes(opened(shipped() / f"{name}.ttf")) for name in REFERENCES])
