"""The training loop of this checkout against that of another, such as an earlier commit (`git worktree add OTHER REV`):
CPU time of the same epoch of the same network, one thread, turn by turn, each checkout in a process of its own, and
that in several pairs of processes.

python benchmarks/against.py --checkout OTHER
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

from common import ROOT, Book, Row, interleaved, options, spread
from workloads import NETS

LOOP = """
import json, sys, time
import torch
from training import ours
from workloads import NETS, config
torch.set_num_threads(1)
trial = config(NETS[sys.argv[1]])
epoch = ours(trial, int(sys.argv[2]))
epoch()
for line in sys.stdin:
    began = time.process_time()
    epoch()
    print(json.dumps(time.process_time() - began), flush=True)
"""


class Loop:
    """The epochs of one checkout, in a process that waits between them."""

    def __init__(self, checkout: Path, net: str, images: int):
        path = os.pathsep.join([str(checkout), str(checkout / "benchmarks")])
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOOP, net, str(images)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
            cwd=checkout,
        )

    def __enter__(self) -> Loop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def seconds(self) -> float:
        """CPU seconds of one more epoch."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process ended with code {self._process.wait()}")
        return float(json.loads(answer))


def compared(net: str, other: Path, pairs: int, epochs: int, images: int) -> list[Row]:
    """Each pair of processes gives one ratio: where a process's memory lies makes a few percent for as long as it
    lives."""
    found = []
    for number in range(pairs):
        checkouts = (ROOT, other) if number % 2 else (other, ROOT)  # which one starts first
        with Loop(checkouts[0], net, images) as first, Loop(checkouts[1], net, images) as second:
            took = interleaved({checkouts[0]: first.seconds, checkouts[1]: second.seconds}, epochs)
        found.append(median(took[ROOT]) / median(took[other]))
    return [spread(f"{net}: CPU time over that of the other checkout", "×", found)]


def revision(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    chosen: Any = options(__doc__, checkout="folder of the other checkout")
    if not chosen.checkout:
        sys.exit("error: --checkout FOLDER is missing")
    other = Path(chosen.checkout).resolve()
    book = Book("against", chosen.quick, chosen.again)
    pairs, epochs = (2, 1) if chosen.quick else (11, 3)
    for net, images in zip(NETS, (1024, 256, 256), strict=True):  # steps of a CNN are short
        key = f"{net}, {revision(other)}"
        for row in book.part(key, lambda net=net, images=images: compared(net, other, pairs, epochs, images)):
            book.target(f"{net}: no slower than {revision(other)} by more than 2%", row, 1.02)
    book.finish()


if __name__ == "__main__":
    main()
