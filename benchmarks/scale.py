"""10,000 trials of 20 epochs that only report, on real Ray and a real store: what a report costs the driver, from the
first thousand trials to the last, its memory, the tables, and how soon the sweep goes on after it was interrupted.

The sweep is stopped near its end and continued by a new process. Every trial reaches its full budget: all are exempt
from stopping, but ASHA decides about each. Results are written as they come.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT, Book, Row, options, shown, spread

EPOCHS, AT_ONCE = 20, 8
HISTORY = (1_000, 3_000, 10_000)  # finished trials that a suggestion is made from


def study(trials: int, sampler: str) -> Any:
    from resnetlab.study import build_study

    return build_study(
        {
            "name": "scale",
            "dataset": {"name": "glyphs", "variants": 2},
            "baseline": {"blocks": 2, "width": 8, "downsample": 2, "batch_size": 64},
            "factors": {
                "blocks": {"levels": [2, 3]},
                "kernel": {"levels": [3, 5]},
                "optimizer": {"levels": ["sgd", "adamw"]},
                "lr": {"low": 0.001, "high": 1.0, "log": True},
            },
            "search": {"sampler": sampler, "trials": trials, "epochs": EPOCHS, "audit": 1.0},
            "confirm": {"design": "none"},
            "resources": {"cpus": (os.cpu_count() or 1) / AT_ONCE},
        },
        "benchmark",
    )


def reporter(crowd: int, place: Path) -> type:
    """A worker whose epochs cost nothing. The first `crowd` of them wait for each other: as soon as one is up it would
    take the trials for which others are being started, and Tune would end these."""
    from ray import tune

    from resnetlab.experiment.messages import Report, Task
    from resnetlab.study.records import EpochRecord

    class Reporter(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            (place / str(os.getpid())).touch()
            deadline = time.monotonic() + 120
            while len(list(place.iterdir())) < crowd and time.monotonic() < deadline:
                time.sleep(0.1)
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            task: Task = new_config["task"]
            self.config = {}  # as TrialWorker does
            self._epoch, self._lr = task.recorded, task.config.lr
            self._seed, self._first = task.config.seed % 1000, True
            return True

        def step(self) -> dict[str, Any]:
            self._epoch += 1
            value = 0.9 - 0.5 / (self._epoch + 1) - 0.3 * abs(self._lr - 0.1) + self._seed * 1e-5
            record = EpochRecord(
                epoch=self._epoch, train_loss=2.5 * (1 - value), train_accuracy=value, val_loss=2.6 * (1 - value),
                val_accuracy=value, lr=self._lr, train_seconds=1.5, eval_seconds=0.2, images_per_second=3e3,
                peak_memory=300 << 20,
            )  # fmt: skip
            facts = {"parameters": 7000, "trainable": 7000, "multiply_adds": 10**6, "device": "none", "threads": 1}
            columns = {"checkpoint_seconds": 0.0} | (facts if self._first else {})
            self._first = False
            return {"report": Report((record,), columns)}

    return Reporter


class Clock:
    """What the driver spends, a line of JSON for every so many trials' reports: CPU seconds of its process with all
    threads, of them those in the sampler and in publishing the tables; wall seconds; MiB that it holds."""

    def __init__(self, path: Path, every: int, reports: int):
        self._path, self._every, self.reports = path, every, reports
        self._spent = {"sampler": 0.0, "publishing": 0.0}
        self._last: dict[str, float] = {}

    def timed(self, kind: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **more: Any) -> Any:
            began = time.process_time()
            try:
                return method(*arguments, **more)
            finally:
                self._spent[kind] += time.process_time() - began

        return run

    def _now(self) -> dict[str, float]:
        return {"wall": time.monotonic(), "cpu": time.process_time(), "reports": self.reports, **self._spent}

    def reported(self) -> None:
        self._last = self._last or self._now()
        self.reports += 1
        if self.reports % (self._every * EPOCHS):
            return
        now = self._now()
        line = {key: now[key] - self._last[key] for key in now} | {"trials": self.reports // EPOCHS, "memory": _held()}
        self._last = now
        with self._path.open("a") as out:
            out.write(json.dumps(line) + "\n")


def _held() -> float:
    """Resident memory of this process, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def sweep(place: Path, trials: int, sampler: str, until: int, every: int) -> dict[str, Any]:
    """Run in a process of its own: start or continue the sweep, until `until` reports are recorded (0: to its end)."""
    began = time.monotonic()
    from resnetlab.driver.options import Options
    from resnetlab.driver.run import run_study
    from resnetlab.errors import Interrupted
    from resnetlab.experiment.messages import Report
    from resnetlab.ray_backend import backend
    from resnetlab.search.optuna_sampler import OptunaSampler
    from resnetlab.storage.results_folder import ResultsFolder
    from resnetlab.storage.store import Store, read_table
    from resnetlab.sweep.state_machine import Sweep

    known = read_table(ResultsFolder.at(place / "scale"), "epochs")
    crowd = place / f"crowd-{os.getpid()}"
    crowd.mkdir()
    backend.TrialWorker = reporter(AT_ONCE if known is None else 1, crowd)  # type: ignore[misc]
    clock = Clock(place / "progress.jsonl", every, 0 if known is None else len(known))
    for name in ("ask", "reported", "ended"):
        setattr(OptunaSampler, name, clock.timed("sampler", getattr(OptunaSampler, name)))
    Store.publish = clock.timed("publishing", Store.publish)  # type: ignore[method-assign]
    report, first = Sweep.report, []

    def reported(self: Sweep, trial_id: str, message: Report) -> bool:
        if not first:
            first.append(time.monotonic() - began)
        clock.reported()
        if until and clock.reports > until:
            raise Interrupted("as the benchmark wants it")
        return report(self, trial_id, message)

    Sweep.report = reported  # type: ignore[method-assign]
    with suppress(Interrupted):
        run_study(study(trials, sampler), Options(storage=str(place), cache=place / "cache"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first": first[0], "seconds": time.monotonic() - began, "peak": peak}


def in_process(*arguments: Any) -> dict[str, Any]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token"}
    command = [sys.executable, __file__, "--process", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def reports(place: Path, trials: int, every: int, sampler: str = "random") -> list[Row]:
    """The sweep to all but its last trials, and then to its end in a new process. Those last ones come on top."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    planned = trials + max(2, trials // 200)
    before = in_process(place, planned, sampler, trials * EPOCHS, every)
    after = in_process(place, planned, sampler, 0, every)
    lines = [json.loads(line) for line in (place / "progress.jsonl").read_text().splitlines()]
    rows = []
    for line in lines:
        ours = 1e3 * (line["cpu"] - line["sampler"]) / line["reports"]
        about = {"sampler": 1e3 * line["sampler"] / line["reports"], "wall": 1e3 * line["wall"] / line["reports"],
                 "publishing": 1e3 * line["publishing"] / line["reports"], "memory": line["memory"]}  # fmt: skip
        what = f"driver's CPU per report, trials {line['trials'] - every + 1:,} to {line['trials']:,}"
        rows.append(spread(what, "ms", [ours], **about))
    size = sum(file.stat().st_size for file in (place / "scale").glob("*.parquet")) / 2**20
    return [
        *rows,
        spread("the last over the first of these", "×", [rows[-1]["median"] / rows[0]["median"]]),
        spread("driver's memory at most", "MiB", [max(before["peak"], after["peak"])]),
        spread("continued: from the command to the first report", "s", [after["first"]]),
        spread(f"{trials:,} trials × {EPOCHS} epochs, wall time", "s", [before["seconds"]]),
        spread("the tables", "MiB", [size]),
    ]


def suggestions(history: tuple[int, ...], n: int) -> list[Row]:
    """CPU time of one suggestion after so many finished trials."""
    import numpy as np

    from resnetlab.search.optuna_sampler import OptunaSampler

    rows = []
    for sampler in ("tpe", "linear", "random", "quasi-random"):
        search = OptunaSampler(study(10 * max(history), sampler))
        rng, told = np.random.default_rng(0), 0
        for count in history:
            for number in range(told, count):
                values: dict[str, Any] = dict.fromkeys(search.study.space.names)
                for factor in search.study.space.factors:
                    if (index := factor.branch(values)) is not None:
                        values[factor.name] = factor.branches[index].at(rng.random())
                row = {"trial_id": str(number), "number": number, "status": "complete", **values}
                search.replay(row, [(EPOCHS, float(rng.random()))])
            told = count
            spent = []
            for number in range(n):
                began = time.process_time()
                asked = search.ask(count + number)
                spent.append(1e3 * (time.process_time() - began))
                assert asked is not None
                search.optuna.tell(asked[0], 0.5)
            rows.append(spread(f"a suggestion of {sampler} after {count:,} trials", "ms", spent))
    return rows


def table() -> str:
    """The cost of a report, by thousand trials, as a Markdown table from the JSON."""
    content = json.loads((RESULTS / "scale.json").read_text())
    lines = ["| trials | driver, ms of CPU a report | of that publishing | sampler | wall, ms a report | driver, MiB |"]
    lines.append("|---|---|---|---|---|---|")
    rows = content["parts"]["reports"]["rows"]
    for row in rows:
        if "sampler" in row:
            cells = [row["what"].partition(", ")[2].removeprefix("trials ")]
            cells += [f"{row[key]:.2f}" for key in ("median", "publishing", "sampler", "wall")] + [
                f"{row['memory']:.0f}"
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| | measured |", "|---|---|"]
    rest = [row for row in rows if "sampler" not in row] + content["parts"]["suggestions"]["rows"]
    lines += [f"| {row['what']} | {shown(row)} |" for row in rest]
    found = content["machine"]
    return "\n".join([*lines, "", f"One run. {found['cpu']}, {found['cores']} cores; `python benchmarks/scale.py`."])


def main() -> None:
    if "--table" in sys.argv:
        print(table())
        return
    chosen = options(__doc__)
    book = Book("scale", chosen.quick, chosen.again)
    trials, every = (60, 20) if chosen.quick else (10_000, 1_000)
    place = Path(tempfile.gettempdir()) / f"resnetlab-bench-scale-{os.getuid()}{'-quick' * chosen.quick}"
    book.part("suggestions", lambda: suggestions((20, 60) if chosen.quick else HISTORY, 3 if chosen.quick else 15))
    rows = {row["what"]: row for row in book.part("reports", lambda: reports(place, trials, every))}
    book.target("driver per report, last thousand trials over first", rows["the last over the first of these"], 1.5)
    book.target("driver's memory at most 1 GiB", rows["driver's memory at most"], 1024.0)
    resumed = rows["continued: from the command to the first report"]
    book.target(f"a sweep of {trials:,} trials goes on within 60 s", resumed, 60.0)
    book.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        where, count, how, until, every = sys.argv[2:]
        print(json.dumps(sweep(Path(where), int(count), how, int(until), int(every))))
    else:
        main()
