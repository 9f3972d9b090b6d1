"""A figure before it is a file: its sizes, its caption, and how it is rendered. All looks are in `style.mplstyle`.

Colours are PALETTE's (Okabe and Ito 2008: told apart with any colour vision), by role: a page can turn them dark.
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
FONT = "DejaVu Sans"  # the style's own; comes with matplotlib
BLANK = ("Last Resort", "STIXNonUnicode")  # families with boxes for characters that they do not have
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
    """One figure to be made. `draw` draws it on an axes of a figure of either width.

    heights: inches, at one and at two columns; columns: those it has in the report. foot: what it rests on, printed
    below it; alt: what it shows, for those who cannot see; caption: what marks and intervals mean. fonts: families for
    characters that the style's font lacks.
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
        """Width and height, inches."""
        return (COLUMN, WIDE)[self.columns - 1], self.heights[self.columns - 1]


def caption(drawing: Drawing) -> str:
    """The whole caption: what marks and intervals mean, and what the figure rests on."""
    return f"{drawing.caption} Rests on {drawing.foot}."


def render(drawing: Drawing, formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """The drawing as files, by format. The same data give the same bytes."""
    width, _ = drawing.size
    made = {}
    fonts = matplotlib.rc_context({"font.sans-serif": [FONT, *drawing.fonts]})
    with matplotlib.style.context(str(STYLE)), fonts, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box in the picture; the SVG has the text
        figure = Figure(figsize=drawing.size)
        drawing.draw(figure.subplots())
        words = wrapped(drawing.foot, int(width * 23))
        foot = figure.supxlabel(words, x=0.01, ha="left", fontsize=6, color=PALETTE["muted"])
        foot.set_gid("foot")  # the page hides it there, having it as text
        about = f"{drawing.alt} {caption(drawing)}"
        for kind in formats:
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=_metadata(kind, drawing.name, about))
            figure.set_layout_engine("none")  # as laid out for the first
            made[kind] = _small(buffer, about) if kind == "png" else buffer.getvalue()
    return made


def _metadata(kind: str, name: str, about: str) -> dict[str, str | None]:
    """What the figure shows, for readers of files too, and no date."""
    kinds: dict[str, dict[str, str | None]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None, "Title": name, "Description": about},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None, "Title": name, "Subject": about},
    }
    return kinds[kind]


def _small(png: io.BytesIO, about: str) -> bytes:
    """The PNG with a palette: few colours, a third of the bytes, and no difference to see."""
    from PIL.PngImagePlugin import PngInfo

    image, info, buffer = Image.open(png), PngInfo(), io.BytesIO()
    info.add_itxt("Description", about)
    small = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    small.save(buffer, "PNG", optimize=True, pnginfo=info, dpi=image.info.get("dpi"))
    return buffer.getvalue()


def inline(svg: bytes, name: str) -> str:
    """An SVG file as an element of a page: the page's colours and font, identifiers that clash with no other figure."""
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
    """Families, of those installed here, that have characters in `texts` which the style's font lacks."""
    wanted = set().union(*map(set, texts)) - _characters(FONT)
    found: list[str] = []
    if not wanted:
        return ()
    upright = {entry.name for entry in fontManager.ttflist if entry.style == "normal" and entry.weight == 400}
    for family in sorted(upright, key=lambda name: ("Sans" not in name, name)):
        new = set() if family.startswith(BLANK) else wanted & _characters(family)
        if new:
            found.append(family)
            wanted -= new
        if not wanted:
            break
    return tuple(found)


def drawable(text: str, fonts: Sequence[str]) -> bool:
    """True where the style's font, or one of `fonts`, has every character."""
    return set(text) <= set().union(*map(_characters, (FONT, *fonts)))


@cache
def _characters(family: str) -> frozenset[str]:
    return frozenset(map(chr, get_font(findfont(family)).get_charmap()))
