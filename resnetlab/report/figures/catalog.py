"""Which figures a report can have, in the order of reading. Each module has a figure's data, words and drawing."""

from __future__ import annotations

from typing import Protocol

from resnetlab.report.figures import (
    accuracy_cost,
    arm_costs,
    arm_curves,
    class_accuracy,
    confirm_curves,
    confusion,
    effects,
    interactions,
    learning_curves,
    rungs,
    search_progress,
)
from resnetlab.report.findings import Findings
from resnetlab.report.rendering import Drawing


class FigureModule(Protocol):
    """A figure, or several that share their drawing: the names that they may have, and what is drawn of `findings`."""

    @property
    def NAMES(self) -> tuple[str, ...]: ...

    def drawings(self, findings: Findings) -> list[Drawing]: ...


FIGURES: tuple[FigureModule, ...] = (
    effects,
    interactions,
    learning_curves,
    confirm_curves,
    accuracy_cost,
    rungs,
    search_progress,
    arm_curves,
    class_accuracy,
    confusion,
    arm_costs,
)
NAMES = tuple(name for figure in FIGURES for name in figure.NAMES)


def gallery(findings: Findings) -> list[Drawing]:
    """All figures that the tables allow, in the order of NAMES."""
    return [drawing for figure in FIGURES for drawing in figure.drawings(findings)]
