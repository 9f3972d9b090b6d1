"""On a GPU: the checks of gpu_checks.py; images a second of our loop (captured as a graph, and not), of the floor
(forward, backward, step on one fixed batch, as it is and captured), of the plain loop with a DataLoader, and of one
like torchvision's reference script; then several trials sharing the GPU, without and with MPS. Images of CIFAR's size
with crop, flip and rotation.

tests/gpu.sh calls it with a limit of ten minutes; called again, it goes on with what is missing. Without a GPU it runs
a little of this on the CPU with --quick, and says that a GPU was not measured.

Exit codes: 0, everything ran and every target is met; 1, not so; 75, interrupted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import Book, Row, interleaved, options, ratios, spread
from gpu_checks import CHECKS, TARGETS, Where
from training import Trial, ours, side_by_side
from workloads import Floor, config, images, plain_loop

from resnetlab.vision.training.step import _captured

SIZES = {
    "ResNet-20": {"blocks": 9, "width": 16, "downsample": 2},
    "9-block ResNet, 128 channels": {"blocks": 9, "width": 128, "downsample": 2},
}
SMALL = {"blocks": 1, "width": 4, "downsample": 1}  # what --quick trains in their place
BATCHES = (32, 128, 512)
PRECISIONS = ("fp32", "tf32", "bf16")
SHARES = (1, 2, 4, 8, 16)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def rate(turn: Callable[[], int], seconds: float) -> Callable[[], float]:
    """Images a second of `turn`, which trains and says on how many images."""

    def measure() -> float:
        _wait()
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            done += turn()
        _wait()
        return done / (time.perf_counter() - began)

    return measure


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def floors(trial: Any, count: int) -> dict[str, Callable[[], int]]:
    """Turns of `count` images of bare steps."""
    steps = max(1, count // trial.batch_size)
    floor = Floor(trial, DEVICE)
    floor.steps(3)

    def eager() -> int:
        floor.steps(steps)
        _wait()  # or the host would run ahead without an end
        return steps * trial.batch_size

    if DEVICE != "cuda":
        return {"floor": eager}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        floor.steps(3)
    torch.cuda.current_stream().wait_stream(side)
    floor.optimizer.zero_grad()
    replay = _captured(lambda: floor.steps(1))  # fixed learning rate, so SGD needs nothing else

    def graphed() -> int:
        for _ in range(steps):
            replay()
        _wait()
        return steps * trial.batch_size

    return {"floor": eager, "floor, graph": graphed}


def loops(name: str, net: dict[str, Any], batch: int, n: int, seconds: float, count: int) -> list[Row]:
    """All loops on one network and batch size."""
    trial = config(net | {"batch_size": batch, "lr": 0.01})
    arms: dict[str, Callable[[], int]] = {}
    for words, graph in (("ours", True), ("ours, no graph", False)):
        epoch = ours(trial, count, DEVICE, graph=graph)
        arms[words] = lambda epoch=epoch: epoch() or count
    arms |= floors(trial, count)
    data = images(20 * batch)
    for words, reference in (("plain loop", False), ("like torchvision's reference", True)):
        loop = plain_loop(trial, data, 4, DEVICE, reference)
        arms[words] = lambda loop=loop: next(loop)
    found = interleaved({words: rate(turn, seconds) for words, turn in arms.items()}, n)
    title = f"{DEVICE}: {name}, batch {batch}"
    rows = [spread(f"{title}: {words}", "images/s", values) for words, values in found.items()]
    best = "floor, graph" if "floor, graph" in found else "floor"
    rows.append(spread(f"{title}: ours over {best}", "×", ratios(found["ours"], found[best])))
    rows.append(spread(f"{title}: ours over plain loop", "×", ratios(found["ours"], found["plain loop"])))
    return rows


def precisions(net: dict[str, Any], n: int, seconds: float, count: int) -> list[Row]:
    """Our loop under each precision, and deterministic."""
    name = "9-block ResNet, 128 channels"
    net = net | {"batch_size": 128, "lr": 0.01}
    settings: dict[str, dict[str, Any]] = {word: {"precision": word} for word in PRECISIONS}
    settings["fp32, deterministic"] = {"deterministic": True}
    arms: dict[str, Callable[[], float]] = {}
    for words, changes in settings.items():
        if DEVICE == "cuda" or words != "tf32":
            epoch = ours(config(net, **changes), count, DEVICE)
            arms[words] = rate(lambda epoch=epoch: epoch() or count, seconds)
    found = interleaved(arms, n)
    return [spread(f"{DEVICE}: {name}, batch 128: {words}", "images/s", values) for words, values in found.items()]


def sharing(net: str, n: int, seconds: float, shares: tuple[int, ...]) -> list[Row]:
    """Images a second of 1, 2, 4, 8 and 16 trials on the one device, of all together."""
    rows = []
    for with_mps in (False, True):
        with mps(with_mps) as environment:
            if environment is None:
                continue
            for share in shares:
                trials = [Trial("ours", 1, net, DEVICE, environment) for _ in range(share)]
                try:
                    for trial in trials:
                        trial.ready()
                    values = [side_by_side(trials, seconds) for _ in range(n)]
                finally:
                    for trial in trials:
                        trial.end()
                words = f"{DEVICE}: {net}, {share} trials at a share of 1/{share}"
                rows.append(spread(words + ", MPS" * with_mps, "images/s", values))
    return rows


@contextmanager
def mps(wanted: bool) -> Iterator[dict[str, str] | None]:
    """The environment of processes that share the GPU through NVIDIA's daemon; None where it cannot be started."""
    if not wanted:
        yield {}
        return
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="mps-") as folder:
        found = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        started = subprocess.run([control, "-d"], env=os.environ | found, capture_output=True)
        if started.returncode:
            yield None
            return
        try:
            yield found
        finally:
            subprocess.run([control], input=b"quit\n", env=os.environ | found, capture_output=True)


def main() -> None:
    chosen = options(__doc__, results="folder of gpu.json, in place of benchmarks/results")
    place = Path(chosen.results) if chosen.results else None
    book = Book("gpu", chosen.quick, chosen.again, place)
    if DEVICE == "cpu" and not chosen.quick:
        print("gpu: no GPU here: not measured (--quick runs a little on the CPU)")
        return
    n, seconds, count = (1, 0.1, 256) if chosen.quick else (3, 1.0, 20_480)
    where = Where(DEVICE, chosen.quick)
    nets = dict.fromkeys(SIZES, SMALL) if chosen.quick else SIZES
    speeds = {
        f"{name}, batch {batch}": partial(loops, name, net, batch, n, seconds, count)
        for name, net in nets.items()
        for batch in BATCHES
    }
    first = "ResNet-20, batch 128"  # what the targets are about
    parts = {key: partial(check, where) for key, check in CHECKS.items()} | {first: speeds.pop(first)}
    shared, shares = ("CNN, batch 32", SHARES[:2]) if chosen.quick else (first, SHARES)
    parts["sharing"] = partial(sharing, shared, n, 2 * seconds, shares)
    parts["precision"] = partial(precisions, nets["9-block ResNet, 128 channels"], n, seconds, count)
    parts |= {} if chosen.quick else speeds
    rows: dict[str, Row] = {}
    interrupted = False
    try:
        for key, make in parts.items():
            rows |= {row["what"]: row for row in book.tried(key, make)}
    except KeyboardInterrupt:
        interrupted = True
    for words, what, limit, at_most in TARGETS:
        book.target(words, rows.get(what) or rows.get(f"{DEVICE}: {what}"), limit, at_most)
    for key, error in book.failed.items():
        print(f"gpu: {key}: failed: {error.splitlines()[0]}", file=sys.stderr)
    if DEVICE == "cpu":
        print("gpu: no GPU here: what follows is of the CPU, and nothing is known of a GPU", file=sys.stderr)
    book.finish()
    if interrupted:
        print("gpu: interrupted; call it again to go on with what is missing", file=sys.stderr)
    sys.exit(75 if interrupted else not (book.met or (chosen.quick and not book.failed)))


if __name__ == "__main__":
    main()
