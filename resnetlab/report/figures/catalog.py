"""Which figures a report can have: each module of this folder with NAMES has a figure's data, words and drawing, and
says where it is shown."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

from resnetlab.report.findings import Findings
from resnetlab.report.rendering import Drawing


class FigureModule(Protocol):
    """A figure, or several that share their drawing: the names that they may have, and what is drawn of `findings`.

    SECTION: key of the section that shows it, after the figures that the section itself names; `answer` is the top of
    the page. PLACE: a number by which figures are ordered.
    """

    @property
    def NAMES(self) -> tuple[str, ...]: ...

    @property
    def SECTION(self) -> str: ...

    @property
    def PLACE(self) -> int: ...

    def drawings(self, findings: Findings) -> list[Drawing]: ...


def _found() -> tuple[FigureModule, ...]:
    files = [file for file in Path(__file__).parent.glob("[a-z]*.py") if file.stem != "catalog"]
    modules = [importlib.import_module(f"resnetlab.report.figures.{file.stem}") for file in files]
    figures = [cast(FigureModule, module) for module in modules if hasattr(module, "NAMES")]
    return tuple(sorted(figures, key=lambda figure: (figure.PLACE, figure.NAMES)))


FIGURES = _found()
NAMES = tuple(name for figure in FIGURES for name in figure.NAMES)


def gallery(findings: Findings) -> list[Drawing]:
    """All figures that the tables allow, in the order of NAMES."""
    return [drawing for figure in FIGURES for drawing in figure.drawings(findings)]


def of_section(key: str, named: list[str]) -> list[str]:
    """The figures of a section: those that it names itself, then the others that belong there."""
    others = [figure for figure in FIGURES if key == figure.SECTION and not set(figure.NAMES) & set(named)]
    return [*named, *(name for figure in others for name in figure.NAMES)]
