"""`resnetlab resume`: let a paused sweep go on."""

from __future__ import annotations

from resnetlab.cli import options
from resnetlab.cli.asking import ask

EXAMPLE = "results/default"


def main(place: options.Results) -> None:
    """Let a sweep that was asked to pause go on.

    A sweep that was stopped is continued by the command that started it.
    """
    ask(place, "resume", "its trials go on from their checkpoints")
