"""Our training loop against the floor (forward, backward, step on one fixed batch) and against the loop that people
write (DataLoader with 2 workers, a transform per image, loss.item() in every step). Images of CIFAR's size, fp32.

1. CPU time of the loop over the floor, one thread, in interleaved windows of one process.
2. Images a second of the whole machine: as many trials side by side as it has cores, and one alone.
3. CPU time of bf16 and of deterministic algorithms over fp32.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from common import ROOT, Book, Row, cpu_seconds, interleaved, options, ratios, spread
from workloads import NETS, Floor, config, images, plain_loop

CORES = os.cpu_count() or 1


def ours(trial: Any, count: int, device: str = "cpu", **how: Any) -> Callable[[], None]:
    """Repeat an epoch of `count` images."""
    from resnetlab.vision.training.loop import Training

    training = Training(trial, images(count), device, 1, **how)
    return lambda: training.run_epoch() and None


def steps_for(seconds: float, floor: Floor) -> int:
    """Number of steps that take about so many seconds here."""
    floor.steps(2)
    began = time.process_time()
    floor.steps(4)
    return max(4, round(4 * seconds / max(1e-4, time.process_time() - began)))


def over_floor(name: str, n: int, seconds: float) -> list[Row]:
    trial = config(NETS[name])
    floor = Floor(trial)
    steps = steps_for(seconds, floor)
    epoch = ours(trial, steps * trial.batch_size)
    found = interleaved(
        {"loop": lambda: cpu_seconds(epoch), "floor": lambda: cpu_seconds(lambda: floor.steps(steps))}, n
    )
    count = steps * trial.batch_size
    return [
        spread(f"{name}: loop over floor, CPU time", "×", ratios(found["loop"], found["floor"])),
        spread(f"{name}: floor", "images/CPU s", [count / value for value in found["floor"]]),
        spread(f"{name}: loop", "images/CPU s", [count / value for value in found["loop"]]),
    ]


def settings_cost(n: int, seconds: float) -> list[Row]:
    """Measure the cost of study-wide settings on one network."""
    name = "ResNet-20, batch 128"
    steps = steps_for(seconds, Floor(config(NETS[name])))
    count = steps * NETS[name]["batch_size"]
    arms = {"fp32": {}, "bf16": {"precision": "bf16"}, "deterministic": {"deterministic": True}}
    epochs = {arm: ours(config(NETS[name], **changes), count) for arm, changes in arms.items()}
    found = interleaved({arm: lambda epoch=epoch: cpu_seconds(epoch) for arm, epoch in epochs.items()}, n)
    return [
        spread(f"{name}: {arm} over fp32, CPU time", "×", ratios(found[arm], found["fp32"]))
        for arm in ("bf16", "deterministic")
    ]


# The whole machine: trials are processes that train for as long as they are told, at the same time


ARMS: dict[str, tuple[str, int | None]] = {  # kind of loop, threads (None: torch's default)
    "ours, 1 thread": ("ours", 1),
    "plain loop, 1 thread + 2 workers": ("plain", 1),
    "plain loop, default threads + 2 workers": ("plain", None),
}


class Trial:
    """A child process that trains on request."""

    def __init__(self, kind: str, threads: int | None, net: str, device: str = "cpu", environment: Any = None):
        env = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")}
        if threads is not None:
            env["OMP_NUM_THREADS"] = str(threads)
        if kind.startswith("ours"):
            env["OMP_WAIT_POLICY"] = "PASSIVE"
        env["PYTHONPATH"] = str(ROOT)
        request = json.dumps({"kind": kind, "net": net, "device": device})
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--trial", request], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=env | (environment or {}),
        )  # fmt: skip

    def ready(self) -> None:
        self._read()

    def start(self, seconds: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()

    def images_per_second(self) -> float:
        return float(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a trial of the benchmark died with code {self._process.wait()}")
        return line

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def trial_process(request: dict[str, str]) -> None:
    """The child process: for each line of input, trains for so many seconds and answers with images per second."""
    net, device = config(NETS[request["net"]]), request["device"]
    if request["kind"].startswith("ours"):
        size = (
            net.batch_size * max(8, steps_for(1.0, Floor(net))) if device == "cpu" else max(8 * net.batch_size, 20_000)
        )
        epoch = ours(net, size, device, graph=request["kind"] == "ours")
        turn: Callable[[], int] = lambda: epoch() or size  # noqa: E731
    else:
        loop = plain_loop(net, images(10_000), device=device, like_torchvision=request["kind"] == "torchvision")
        turn = lambda: next(loop)  # noqa: E731
    turn()
    print("ready", flush=True)
    for line in sys.stdin:
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < float(line):
            done += turn()
        print(done / (time.perf_counter() - began), flush=True)


def side_by_side(trials: list[Trial], seconds: float) -> float:
    """Images per second of all children together."""
    for trial in trials:
        trial.start(seconds)
    return sum(trial.images_per_second() for trial in trials)


def whole_machine(name: str, n: int, seconds: float) -> list[Row]:
    groups = {arm: [Trial(kind, threads, name) for _ in range(CORES)] for arm, (kind, threads) in ARMS.items()}
    try:
        for trials in groups.values():
            for trial in trials:
                trial.ready()
        alone = groups["ours, 1 thread"][:1]
        arms = {arm: lambda trials=trials: side_by_side(trials, seconds) for arm, trials in groups.items()}
        found = interleaved(arms | {"ours, alone": lambda: side_by_side(alone, seconds)}, n)
    finally:
        for trials in groups.values():
            for trial in trials:
                trial.end()
    mine = found["ours, 1 thread"]
    rows = [spread(f"{name}: {CORES} trials, {arm}", "images/s", found[arm]) for arm in ARMS]
    rows.append(spread(f"{name}: 1 trial, ours, 1 thread", "images/s", found["ours, alone"]))
    for arm in list(ARMS)[1:]:
        rows.append(spread(f"{name}: ours over {arm}", "×", ratios(mine, found[arm])))
    twice = [CORES * value for value in found["ours, alone"]]
    return [*rows, spread(f"{name}: {CORES} trials over {CORES} times one", "×", ratios(mine, twice))]


def main() -> None:
    chosen = options(__doc__)
    book = Book("training", chosen.quick, chosen.again)
    n, seconds, turns, window = (2, 0.1, 1, 0.3) if chosen.quick else (9, 0.7, 3, 1.5)
    rows: dict[str, Row] = {}
    nets = list(NETS)[:1] if chosen.quick else list(NETS)
    for name in nets:
        done = book.part(f"over the floor: {name}", lambda name=name: over_floor(name, n, seconds))
        rows |= {row["what"]: row for row in done}
    for name in nets:
        done = book.part(f"whole machine: {name}", lambda name=name: whole_machine(name, turns, window))
        rows |= {row["what"]: row for row in done}
    for row in book.part("settings", lambda: settings_cost(n if chosen.quick else 7, seconds)):
        book.note(row)
    one, default = (f"ours over {arm}" for arm in list(ARMS)[1:])
    for name in NETS:
        small = name.startswith("CNN")
        limit, times = (1.08, 2.0) if small else (1.03, 1.5)
        book.target(f"{name}: loop above floor at most {limit - 1:.0%}", rows.get(f"{name}: loop over floor, CPU time"),
                    limit)  # fmt: skip
        book.target(f"{name}: at least {times} times the plain loop at one CPU a trial", rows.get(f"{name}: {one}"),
                    times, at_most=False)  # fmt: skip
        book.target(f"{name}: at least 5 times the plain loop with default threads", rows.get(f"{name}: {default}"),
                    5.0, at_most=False)  # fmt: skip
        book.target(f"{name}: {CORES} trials at least 0.9 of {CORES} times one",
                    rows.get(f"{name}: {CORES} trials over {CORES} times one"), 0.9, at_most=False)  # fmt: skip
    book.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--trial"]:
        trial_process(json.loads(sys.argv[2]))
    else:
        main()
