"""`resnetlab stop`: end a sweep in order."""

from __future__ import annotations

from resnetlab.cli import options
from resnetlab.cli.asking import ask

EXAMPLE = "results/default"


def main(place: options.Results) -> None:
    """Let a running sweep end in order: after the epoch that its trials train, as one Ctrl-C does at once.

    Tables and report are written, and checkpoints are kept; the command that started the sweep continues it. Returns at
    once; `status` shows how far it is. Works on any machine that can write the results folder.
    """
    ask(place, "stop", "its trials end after the epoch that they train, then it writes its report")
