"""`resnetlab pause`: let a sweep pause."""

from __future__ import annotations

from resnetlab.cli import options
from resnetlab.cli.asking import ask

EXAMPLE = "results/default"


def main(place: options.Results) -> None:
    """Let a running sweep pause: its trials end after the epoch that they train, and give back their CPUs and GPUs.

    The sweep keeps its results folder, and goes on with `resume`. Returns at once; `status` shows how far it is. Works
    on any machine that can write the results folder.
    """
    ask(place, "pause", "its trials end after the epoch that they train")
