"""From the end of one trial to the first training step of the next: in a worker that lives on, in a new process, and
through Ray Tune (slots x wall time less the time in epochs, over trials). Tiny trials on rendered characters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import ROOT, Book, Row, options, spread

DATA = {"name": "glyphs", "variants": 2}
TINY = {"blocks": 2, "width": 8, "downsample": 2, "batch": 64, "lr": 0.05, "epochs": 1, "data_fraction": 0.1}


def start_times(folder: str, cache: str, count: int) -> Iterator[float]:
    """Seconds from the end of the trial before to each trial's first step; the first trial is not yielded."""
    from resnetlab.config import TrialConfig
    from resnetlab.data import prepare
    from resnetlab.records import Phase
    from resnetlab.training import step
    from resnetlab.tuning.task import Task
    from resnetlab.tuning.trial import TrialWorker

    first: list[float] = []
    run = step.Step._run

    def noted(self: Any, *batch: Any) -> None:
        first.append(time.time())
        run(self, *batch)

    step.Step._run = noted  # type: ignore[method-assign]
    worker = TrialWorker({})
    ended = 0.0
    for number in range(count + 1):
        config = TrialConfig(data=DATA, **TINY, kernel=(3, 5)[number % 2], seed=number)
        first.clear()
        task = Task(config.trial_id, config, Phase.EXPLORE, False, prepare(config.data, Path(cache)).hash)
        context = {"folder": folder, "cache": cache, "cpus": 1, "gpus": 0, "epoch_limit": 600}
        worker.reset_config({"task": task.as_message(), "context": context})
        worker.step()
        yield first[0] - ended if number else first[0]
        ended = time.time()


def in_processes(n: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        cold: list[float] = []
        _process(folder, 1)  # makes the cache of images, and Python's of bytecode
        for _ in range(n):
            began = time.time()
            cold.append(_process(folder, 0)[0] - began)
        warm = _process(folder, 3 * n)[1:]
    cold_row = spread("cold start: new process to first step", "ms", [1e3 * value for value in cold])
    warm_row = spread("warm worker: end of a trial to the next one's first step", "ms", [1e3 * value for value in warm])
    share = [100 * value / (cold_row["median"] / 1e3) for value in warm]
    return [cold_row, warm_row, spread("warm over cold", "%", share)]


def _process(folder: str, count: int) -> list[float]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, __file__, "--process", folder, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def through_tune(trials: int) -> list[Row]:
    """A sweep of one-epoch trials: what a slot loses between two of them, workers already up."""
    from resnetlab.study import build_study
    from resnetlab.tuning.run import Options, run_study

    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        study = build_study(
            {
                "name": "turnover",
                "dataset": DATA,
                "baseline": {name: value for name, value in TINY.items() if name != "epochs"},
                "factors": {"lr": {"low": 0.01, "high": 0.1}},
                "search": {"sampler": "random", "trials": trials, "epochs": 1, "stopping": False},
                "confirm": {"design": "none"},
            },
            "benchmark",
        )
        out = run_study(study, Options(storage=folder, cache=Path(folder) / "cache"))
        sweep = out.read_json("sweep.json") or {}
    lost = sweep["slots"] * sweep["wall_seconds"] - sweep["busy_seconds"]
    return [
        spread(f"through Ray Tune, {trials} trials: slot time outside epochs", "ms/trial", [1e3 * lost / trials]),
        spread("through Ray Tune: start of Ray", "s", [sweep["startup_seconds"]]),
    ]


def main() -> None:
    chosen = options(__doc__)
    book = Book("turnover", chosen.quick, chosen.again)
    rows = book.part("processes", lambda: in_processes(2 if chosen.quick else 7))
    for row in book.part("Ray Tune", lambda: through_tune(6 if chosen.quick else 60)):
        book.note(row)
    book.target("a warm worker needs at most 10% of a cold start", rows[-1], 10.0)
    book.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        print(json.dumps(list(start_times(sys.argv[2] + "/run", sys.argv[2] + "/cache", int(sys.argv[3])))))
    else:
        main()
