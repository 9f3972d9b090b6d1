"""From the end of one trial to the first training step of the next: in a worker that lives on, in a new process, and
through Ray Tune (slots x wall time less the time in epochs, over trials); and a whole small sweep. Tiny trials on
rendered characters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from common import ROOT, Book, Row, options, spread
from processes import Watched

DATA = {"name": "glyphs", "variants": 2}
TINY = {"blocks": 2, "width": 8, "downsample": 2, "batch_size": 64, "lr": 0.05, "epochs": 1, "data_fraction": 0.1}


def ever_new(number: int) -> dict[str, Any]:
    """Settings of trial `number`: no two of 200 give the same shapes."""
    return {
        "blocks": 2 + number % 3, "width": 4 + number % 5, "kernel": (3, 5)[number % 2], "batch_size": 64 + number % 7,
        "rotation": float(number % 4),
    }  # fmt: skip


def start_times(folder: str, cache: str, count: int) -> Iterator[float]:
    """Seconds from the end of the trial before to each trial's first step; of the first trial, when that was."""
    from resnetlab.vision.training import step

    first: list[float] = []
    run = step.Step._run

    def noted(self: Any, *batch: Any) -> None:
        first.append(time.time())
        run(self, *batch)

    step.Step._run = noted  # type: ignore[method-assign]
    ended = 0.0
    for number, _ in enumerate(trials(folder, cache, [{"kernel": (3, 5)[i % 2]} for i in range(count + 1)])):
        yield first[0] - ended if number else first[0]
        ended = time.time()
        first.clear()


def memory(folder: str, cache: str, count: int) -> Iterator[float]:
    """MiB resident after each of `count` trials, all of different shapes."""
    for _ in trials(folder, cache, map(ever_new, range(count))):
        yield int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def trials(folder: str, cache: str, settings: Iterable[dict[str, Any]]) -> Iterator[None]:
    """Run trials one after another in a worker of this process."""
    from resnetlab.experiment.messages import Task, TrialContext
    from resnetlab.ray_backend.worker import TrialWorker
    from resnetlab.study.records import Phase
    from resnetlab.study.trial_config import TrialConfig
    from resnetlab.vision.data import prepare

    worker = TrialWorker({})
    for number, changes in enumerate(settings):
        config = TrialConfig(data=DATA, seed=number, **(TINY | changes))
        task = Task(config.trial_id, config, Phase.EXPLORE, False, prepare(config.data, Path(cache)).hash)
        context = TrialContext(folder, Path(cache), cpus=1, gpus=0, epoch_timeout_s=600)
        worker.reset_config({"task": task, "context": context})
        report = worker.step()["report"]
        assert not report.ending, report
        yield


def in_processes(n: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        cold: list[float] = []
        _process(folder, "start_times", 1)  # makes the cache of images, and Python's of bytecode
        for _ in range(n):
            began = time.time()
            cold.append(_process(folder, "start_times", 0)[0] - began)
        warm = _process(folder, "start_times", 3 * n)[1:]
    cold_row = spread("cold start: new process to first step", "ms", [1e3 * value for value in cold])
    warm_row = spread("warm worker: end of a trial to the next one's first step", "ms", [1e3 * value for value in warm])
    share = [100 * value / (cold_row["median"] / 1e3) for value in warm]
    return [cold_row, warm_row, spread("warm over cold", "%", share)]


def kept(n: int, count: int) -> list[Row]:
    """Memory growth of a worker: after the last trial, relative to after a tenth of them."""
    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        found = [_process(folder, "memory", count) for _ in range(n)]
    tenth = count // 10
    words = f"memory after {count} trials of different shapes over that after {tenth}"
    return [
        spread(f"memory after {tenth} trials of different shapes", "MiB", [values[tenth - 1] for values in found]),
        spread(f"memory after {count} trials of different shapes", "MiB", [values[-1] for values in found]),
        spread(words, "×", [values[-1] / values[tenth - 1] for values in found]),
    ]


def _process(folder: str, work: str, count: int) -> list[float]:
    command = [sys.executable, __file__, "--process", work, folder, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _environment() -> dict[str, str]:
    root = os.environ.get("PYTHONPATH") or str(ROOT)  # of another revision, where it is to be measured
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def sweep(folder: str, cache: str, trials: int) -> Iterator[dict[str, Any]]:
    """Run a sweep of one-epoch trials, and return its sweep.json."""
    from resnetlab.cli.exit_codes import report_errors
    from resnetlab.driver.options import Options
    from resnetlab.driver.run import run_study
    from resnetlab.study import build_study

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
    with report_errors():  # as scripts run it
        yield run_study(study, Options(storage=folder, cache=Path(cache))).read_json("sweep.json") or {}


def through_tune(trials: int) -> list[Row]:
    """Seconds that a slot is idle between two trials."""
    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        (found,) = sweep(folder, folder + "/cache", trials)
    lost = found["slots"] * found["wall_seconds"] - found["busy_seconds"]
    return [
        spread(f"through Ray Tune, {trials} trials: slot time outside epochs", "ms/trial", [1e3 * lost / trials]),
        spread("through Ray Tune: start of Ray", "s", [found["startup_seconds"]]),
    ]


def from_the_start(n: int) -> list[Row]:
    """Wall time of a sweep of four one-epoch trials, from the start of Python to its end."""
    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        command = [sys.executable, str(Path(__file__).resolve()), "--process", "sweep", folder, "4"]
        found = [Watched(command, _environment(), Path(folder)) for _ in range(n + 1)][1:]  # the first makes the data
    return [
        spread("four trials of an epoch, from the start of Python to its end", "s", [one.wall for one in found]),
        spread("four trials of an epoch: CPU time", "s", [one.cpu for one in found]),
        spread("four trials of an epoch: memory at most", "MiB", [one.memory for one in found]),
    ]


def main() -> None:
    chosen = options(__doc__)
    book = Book("turnover", chosen.quick, chosen.again)
    rows = book.part("processes", lambda: in_processes(2 if chosen.quick else 5))
    for row in book.part("Ray Tune", lambda: through_tune(6 if chosen.quick else 40)):
        book.note(row)
    for row in book.part("from the start", lambda: from_the_start(2 if chosen.quick else 3)):
        book.note(row)
    held = book.part("memory", lambda: kept(*((1, 20) if chosen.quick else (1, 200))))
    book.target("a warm worker needs at most 10% of a cold start", rows[-1], 10.0)
    book.target("memory after 200 trials of different shapes within 5% of after 20", held[-1], 1.05)
    book.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        work = {"start_times": start_times, "memory": memory, "sweep": sweep}[sys.argv[2]]
        run = f"{sys.argv[3]}/run-{os.getpid()}"  # of its own, or trials would go on from checkpoints
        print(json.dumps(list(work(run, sys.argv[3] + "/cache", int(sys.argv[4])))))
    else:
        main()
