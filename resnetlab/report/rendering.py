"""Render figures to PNG, SVG and PDF, and to inline SVG for the page. `style.mplstyle` holds the style.

Colours come from PALETTE (Okabe and Ito 2008: distinguishable with any colour vision), by role, so that the page can
replace them in its dark mode.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from PIL import Image

from resnetlab.report.formatting import wrapped

STYLE = files("resnetlab.report") / "style.mplstyle"
COLUMN, WIDE = 3.5, 7.0  # inches: one and two columns of a paper
FORMATS = ("png", "svg", "pdf")
FONT = "DejaVu Sans"  # of the style; comes with matplotlib
BLANK = ("Last Resort", "STIXNonUnicode")  # families that draw boxes for characters
PALETTE = {
    "ink": "#1b1f24",
    "muted": "#5b6570",
    "axis": "#8a929b",
    "grid": "#e3e6ea",
    "band": "#eef1f4",
    "paper": "#ffffff",
    "blue": "#0072b2",
    "orange": "#e69f00",
    "green": "#009e73",
    "red": "#d55e00",
}


@dataclass(frozen=True)
class Drawing:
    """A figure to be rendered.

    heights: in inches, at one and at two columns of width. draw: draws it on axes of either width. foot: the runs that
    it is based on, printed below it. alt: what it shows, as text for screen readers. caption: what marks and intervals
    mean. columns: its width in the report. fonts: families for characters that the style's font lacks.
    """

    name: str
    heights: tuple[float, float]
    draw: Callable[[Axes], None]
    foot: str
    alt: str
    caption: str
    columns: int = 1
    fonts: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return (COLUMN, WIDE)[self.columns - 1], self.heights[self.columns - 1]


def caption(drawing: Drawing) -> str:
    """The whole caption: what marks and intervals mean, and the runs that the figure is based on."""
    return f"{drawing.caption} Rests on {drawing.foot}."


def render(drawing: Drawing, formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """The content of the figure's files, by format. The same data give the same bytes."""
    width, _ = drawing.size
    made = {}
    fonts = matplotlib.rc_context({"font.sans-serif": [FONT, *drawing.fonts]})
    with matplotlib.style.context(str(STYLE)), fonts, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box in the PNG; the SVG has the text
        figure = Figure(figsize=drawing.size)
        drawing.draw(figure.subplots())
        words = wrapped(drawing.foot, int(width * 23))
        foot = figure.supxlabel(words, x=0.01, ha="left", fontsize=6, color=PALETTE["muted"])
        foot.set_gid("foot")  # the page hides it, and shows it as text
        about = f"{drawing.alt} {caption(drawing)}"
        for kind in formats:
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=_metadata(kind, drawing.name, about))
            figure.set_layout_engine("none")  # keep the layout of the first format
            made[kind] = _small(buffer, about) if kind == "png" else buffer.getvalue()
    return made


def _metadata(kind: str, name: str, about: str) -> dict[str, str | None]:
    """Metadata of a file: what the figure shows, and no date."""
    kinds: dict[str, dict[str, str | None]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None, "Title": name, "Description": about},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None, "Title": name, "Subject": about},
    }
    return kinds[kind]


def _small(png: io.BytesIO, about: str) -> bytes:
    """The PNG with a palette of 128 colours, which takes a third of the bytes and looks the same."""
    from PIL.PngImagePlugin import PngInfo

    image, info, buffer = Image.open(png), PngInfo(), io.BytesIO()
    info.add_itxt("Description", about)
    small = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(buffer, "PNG", optimize=True, pnginfo=info, dpi=image.info.get("dpi"))
    return buffer.getvalue()


def inline(svg: bytes, name: str) -> str:
    """An SVG file as an HTML element with the page's colours and font, and identifiers that begin with its name."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<title>.*?</title>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([^;\"]*)px [^;\"]*", r"font: \1px var(--font)", text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    for role, colour in PALETTE.items():
        text = text.replace(colour, f"var(--{role})")
    head, rest = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    return f'<svg {box.group() if box else ""} class="drawing" aria-hidden="true">{rest}'


def fonts_for(texts: Sequence[str]) -> tuple[str, ...]:
    """Installed font families for the characters of `texts` that the style's font lacks."""
    lacking = set().union(*map(set, texts)) - _characters(FONT)
    families: list[str] = []
    if not lacking:
        return ()
    upright = {entry.name for entry in fontManager.ttflist if entry.style == "normal" and entry.weight == 400}
    for family in sorted(upright, key=lambda name: ("Sans" not in name, name)):
        new = set() if family.startswith(BLANK) else lacking & _characters(family)
        if new:
            families.append(family)
            lacking -= new
        if not lacking:
            break
    return tuple(families)


def drawable(text: str, fonts: Sequence[str]) -> bool:
    """True if the style's font and `fonts` together have every character."""
    return set(text) <= set().union(*map(_characters, (FONT, *fonts)))


@cache
def _characters(family: str) -> frozenset[str]:
    return frozenset(map(chr, get_font(findfont(family)).get_charmap()))
