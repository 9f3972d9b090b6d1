"""What a user's own code costs above itself, without Ray, in CPU time of one thread: a training step of the network of
tests/own_code beside the same step written out in plain torch, turn by turn on the same batches; and an epoch of its
task beside the task alone, with the worker's and the driver's part (run, report, decision, rows) counted in; and the
seconds until each bad reference of tests/test_own_code.py, each bad study of tests/test_own_task.py and each part that
returns the wrong type is refused, and each part that does something else wrong when it is tried before the first trial,
in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import ROOT, Book, Row, cpu_seconds, interleaved, options, ratios, spread

from resnetlab.driver.checks import own_code
from resnetlab.driver.checks.dataset_record import known
from resnetlab.experiment import own
from resnetlab.experiment.messages import Task, TrialContext
from resnetlab.experiment.own_parts import OwnParts
from resnetlab.experiment.source import Source
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store
from resnetlab.study import Study
from resnetlab.sweep.state_machine import Sweep
from resnetlab.vision.data import default_cache, prepare
from resnetlab.vision.own_task import begin
from resnetlab.vision.training.loop import Training

CASES = ROOT / "tests/own_code"
WRONG_TYPES = ("no module", "no scalar", "other images")  # of tests/test_own_code.py: what a part returns


def steps(processes: int, n: int, epochs: int) -> list[Row]:
    """CPU time of the training steps of `epochs` epochs, ours over plain ones: the median of `n` turns in each of so
    many processes, because where a process's memory lies makes a few percent for as long as it lives."""
    spawn = multiprocessing.get_context("spawn")
    found: dict[str, list[float]] = {"ours": [], "plain": []}
    for number in range(processes):
        with spawn.Pool(1) as pool:
            for name, milliseconds in pool.apply(_steps, (n, epochs, number % 2 == 0)).items():
                found[name].append(milliseconds)
    rows = [spread(f"own network: {name} step", "ms", found[name]) for name in found]
    return [*rows, spread("own network: our step over its own", "×", ratios(found["ours"], found["plain"]))]


def _steps(n: int, epochs: int, ours_first: bool) -> dict[str, float]:
    """CPU milliseconds of a step of each kind. ours_first: our network is the one that is made first."""
    study = own.load(CASES / "own-model.yaml")
    with tempfile.TemporaryDirectory() as place:
        code = Source(study.code, study.own.folder).unpack(Path(place))
        config = study.baseline_config(0)
        made = [Training(config, prepare(config.data, default_cache()), code=code) for _ in range(2)]
        ours, plain = made if ours_first else reversed(made)
        step = ours._make_step()
        batches = list(ours._batches(1))
        loss_of, optimizer, model = _loss(OwnParts(config, code)), plain._optimizer, plain.model

        def run_ours() -> None:
            ours.model.train()
            for _ in range(epochs):
                for inputs, labels in batches:
                    step(inputs, labels)
                step.take_sums()[0].item()

        def run_plain() -> None:
            model.train()
            total, right = torch.zeros(()), torch.zeros((), dtype=torch.int64)
            for _ in range(epochs):
                for inputs, labels in batches:
                    logits = model(inputs)
                    loss = loss_of(logits, labels)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    total += loss.detach() * len(labels)
                    right += (logits.detach().argmax(1) == labels).sum()
                total.item()

        found = interleaved({"ours": lambda: cpu_seconds(run_ours), "plain": lambda: cpu_seconds(run_plain)}, n)
    return {name: 1e3 * median(values) / (epochs * len(batches)) for name, values in found.items()}


def _loss(parts: OwnParts) -> Any:
    """The user's function with its settings, as a script would call it."""
    bound = parts.one("loss")
    assert bound is not None
    target, values = bound.reference.load(), dict(bound.values)
    return lambda logits, labels: target(logits, labels, **values)


def task_epochs(n: int) -> list[Row]:
    """CPU milliseconds an epoch of the explore stage of `own-task.yaml`, and of its generators alone."""
    study = own.load(CASES / "own-task.yaml")
    found: dict[str, list[float]] = {"whole": [], "alone": []}
    for turn in range(n + 1):
        with tempfile.TemporaryDirectory() as place:
            tasks: list[Task] = []
            seconds = cpu_seconds(lambda place=place, tasks=tasks: _explored(study, Path(place), tasks))
            epochs = sum(task.recorded for task in tasks)
            alone = cpu_seconds(lambda place=place, tasks=tasks: [_alone(study, Path(place), task) for task in tasks])
        if turn:
            found["whole"].append(1e3 * seconds / epochs)
            found["alone"].append(1e3 * alone / epochs)
    above = [whole - alone for whole, alone in zip(found["whole"], found["alone"], strict=True)]
    return [
        spread("own task: an epoch in the sweep", "ms", found["whole"]),
        spread("own task: an epoch of its own code alone", "ms", found["alone"]),
        spread("own task: an epoch over its own code", "×", ratios(found["whole"], found["alone"])),
        spread("own task: an epoch above its own code", "ms", above),
    ]


def _explored(study: Study, place: Path, tasks: list[Task]) -> None:
    """The explore stage in this process; tasks: gets each with the epochs that it ran."""
    folder = ResultsFolder.at(place / "results")
    own_code.keep(folder, study, [])
    store = Store(folder, study.columns, own=study.own_columns, measures=study.measures)
    sweep = Sweep(
        study, store, {"git_revision": "g", "versions": "{}"}, known({}), "explore", code_place=place / "code"
    )
    context = _context(study, place, folder)
    while (task := sweep.next()) is not None:
        run = begin(task, context, keep=False)
        while sweep.report(task.trial_id, run.step()):
            pass
        tasks.append(Task(task.trial_id, task.config, task.phase, task.test, recorded=run.epoch))
    store.close()


def _context(study: Study, place: Path, folder: ResultsFolder) -> TrialContext:
    code = own_code.version(study)
    return TrialContext(folder.url, place, 1, 0, 600.0, code=code, numbers=tuple(study.numbers))


def _alone(study: Study, place: Path, task: Task) -> None:
    """The generator of the same trial, for as many epochs."""
    folder = ResultsFolder.at(place / "results")
    run = begin(task, _context(study, place, folder), keep=False)
    generator: Iterator[Mapping[str, float]] = run._iterator
    for _ in range(task.recorded):
        next(generator)


def refusals(quick: bool) -> list[Row]:
    """Wall-clock seconds from the command to its end, of each study that must be refused."""
    sys.path.insert(0, str(ROOT / "tests"))
    import test_own_code as parts
    import test_own_task as tasks

    def part(case: str, place: Path) -> Path:
        old, new, code, _ = parts.BAD[case]
        return parts.written(place, parts.STUDY.replace(old, new), **({"bad": code} if code else {}))

    def task(case: str, place: Path) -> Path:
        more, (old, new), (code, changed), _ = tasks.BAD[case]
        tasks.written(place, tasks.STUDY.replace(old, new) + more, tasks.TASK.replace(code, changed))
        return place / "study.yaml"

    def wrong(case: str, place: Path) -> Path:
        return parts.written(place, **parts.wrong(case))

    rows = []
    others = [case for case in parts.WRONG if case not in WRONG_TYPES]
    kinds = {
        "bad reference": ((part, parts.BAD), (task, tasks.BAD), (wrong, WRONG_TYPES)),
        "part that does wrong": ((wrong, others),),
    }
    for kind, sources in kinds.items():
        cases = [(write, case) for write, bad in sources for case in bad][: 2 if quick else None]
        seconds = [_refused(write, case) for write, case in cases]
        longest = max(seconds)
        rows += [
            spread(f"{kind}: seconds until it is refused", "s", seconds),
            spread(f"{kind}: the longest", "s", [longest], case=cases[seconds.index(longest)][1]),
        ]
    return rows


def _refused(write: Callable[[str, Path], Path], case: str) -> float:
    with tempfile.TemporaryDirectory() as place:
        study = write(case, Path(place))
        command = [sys.executable, str(ROOT / "sweeps/ablation.py"), "--study", str(study)]
        env = os.environ | {"PYTHONPATH": str(ROOT), "RESNETLAB_CACHE": str(Path(place) / "cache")}
        began = time.perf_counter()
        done = subprocess.run(command, cwd=place, env=env, capture_output=True)
        seconds = time.perf_counter() - began
    if done.returncode != 2:
        raise RuntimeError(f"{case}: code {done.returncode}: {done.stderr.decode()}")
    return seconds


def main() -> None:
    chosen = options(__doc__)
    torch.set_num_threads(1)
    book = Book("own_code", chosen.quick, chosen.again)
    rows = book.part("step", lambda: steps(*((2, 1, 1) if chosen.quick else (12, 5, 2))))
    book.target("own network: at most 3% above its own bare step", rows[-1], 1.03)
    rows = book.part("task", lambda: task_epochs(1 if chosen.quick else 7))
    book.target("own-task.yaml: at most 5 ms an epoch above its own code", rows[-1], 5.0)
    book.note(rows[-2])
    rows = book.part("refusals", lambda: refusals(chosen.quick))
    book.target("a bad reference is refused within 5 s", rows[1], 5.0)
    book.note(rows[2])
    book.finish()


if __name__ == "__main__":
    sys.exit(main())
