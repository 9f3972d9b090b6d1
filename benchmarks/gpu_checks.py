"""Checks of training on a GPU, each a part of `gpu.py`: what the CUDA code must do, whatever its speed.

A check returns rows of numbers; TARGETS says what they must be. `Where.small` is the smallest size at which each runs,
which tests use on a CPU.
"""

from __future__ import annotations

import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import torch
from common import ROOT, Row, spread
from workloads import config, images

from resnetlab.experiment.own import load
from resnetlab.study.included import PUBLISHED, STUDIES
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.data import Dataset, default_cache, prepare
from resnetlab.vision.training import checkpoint, machine
from resnetlab.vision.training.loop import Training

MIB = 2**20
MARKED = re.compile(r"mark\.gpu|^@CUDA", re.MULTILINE)
TARGETS = [  # words, row, limit, at most
    ("no test of the GPU fails", "tests: failed", 0, True),
    ("no test of the GPU is skipped", "tests: skipped", 0, True),
    # Between one and two threads of a CPU: 0.02% after one epoch and 0.5% after three; between two seeds 0.7% and 2.8%.
    ("eager steps lose what the CPU does: first epoch", "eager from CPU, first epoch", 0.3, True),
    ("eager steps lose what the CPU does: three epochs", "eager from CPU, three epochs", 2, True),
    ("a graph loses what eager steps do: first epoch", "graph from eager, first epoch", 0.3, True),
    ("a graph loses what eager steps do: three epochs", "graph from eager, three epochs", 2, True),
    ("deterministic: equal bits again, eager", "values that differ in a repeat, eager", 0, True),
    ("deterministic: equal bits again, graph", "values that differ in a repeat, graph", 0, True),
    ("a resumed trial has equal bits, eager", "values that differ after resuming, eager", 0, True),
    ("a resumed trial has equal bits, graph", "values that differ after resuming, graph", 0, True),
    ("bf16 is as accurate, within the noise of seeds", "bf16 from fp32", 2, True),
    ("tf32 is as accurate, within the noise of seeds", "tf32 from fp32", 2, True),
    ("memory does not grow: the device's", "device memory gained", 8, True),
    ("memory does not grow: of the process", "process memory gained", 100, True),
    ("peak_memory is within what nvidia-smi sees", "peak_memory over nvidia-smi", 1.02, True),
    ("energy is what nvidia-smi's power adds up to: at most", "energy over nvidia-smi", 1.25, True),
    ("energy is what nvidia-smi's power adds up to: at least", "energy over nvidia-smi", 0.8, False),
    ("images/s of our loop over bare steps", "ResNet-20, batch 128: ours over floor, graph", 0.97, False),
    ("images/s of our loop over the plain loop", "ResNet-20, batch 128: ours over plain loop", 3, False),
]


@dataclass(frozen=True)
class Where:
    """device: `cuda` or `cpu`. small: the smallest sizes."""

    device: str
    small: bool = False

    def of(self, usual: Any, small: Any) -> Any:
        return small if self.small else usual

    def train(self, trial: TrialConfig, data: Dataset, epochs: int | None = None, **how: Any) -> Training:
        """A trial, trained for `epochs`, or all."""
        training = Training(trial, data, how.pop("device", self.device), 1, **how)
        for _ in range(trial.epochs - training.epoch if epochs is None else epochs):
            training.run_epoch()
        return training

    def default(self, **changes: Any) -> tuple[TrialConfig, Dataset]:
        """The baseline of the default study with its data: fewer of both where it is small."""
        found = load(STUDIES / "default.yaml", {"dataset.variants": 1} if self.small else None).baseline_config(0)
        changes |= {"data_fraction": 0.2} if self.small else {}
        changed = type(found).model_validate(found.model_dump() | changes)
        return changed, prepare(changed.data, default_cache())


def tests(where: Where) -> list[Row]:
    """The tests that need a GPU, in a process of their own; without one all of them are skipped."""
    files = [str(path) for path in sorted((ROOT / "tests").glob("test_*.py")) if MARKED.search(path.read_text())]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        how = ["-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command = [sys.executable, "-m", "pytest", *how, *(files[:1] if where.small else files)]
        done = subprocess.run(command, cwd=ROOT)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"pytest ended with {done.returncode}")
        (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    count = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    counts = {"passed": count["tests"] - failed - count["skipped"], "failed": failed, "skipped": count["skipped"]}
    return [spread(f"tests: {name}", "tests", [number]) for name, number in counts.items()]


def agreement(where: Where) -> list[Row]:
    """Loss curves of the default study's baseline: on the CPU, in eager steps, and as a graph."""
    trial, data = where.default(epochs=where.of(3, 1))
    ways = {"CPU": {"device": "cpu"}, "eager": {"graph": False}, "graph": {"graph": True}}
    curves = {way: [e.train_loss for e in where.train(trial, data, **how).history] for way, how in ways.items()}
    rows = []
    for way, other in (("eager", "CPU"), ("graph", "eager")):
        apart = [100 * abs(a - b) / b for a, b in zip(curves[way], curves[other], strict=True)]
        rows.append(spread(f"{way} from {other}, first epoch", "% of the training loss", apart[:1]))
        rows.append(spread(f"{way} from {other}, three epochs", "% of the training loss", [max(apart)]))
    return rows


def _differences(one: Training, other: Training) -> int:
    """Metrics and weights that are not equal to the last bit."""
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr")
    pairs = zip(one.history, other.history, strict=True)
    count = sum(getattr(a, name) != getattr(b, name) for a, b in pairs for name in names)
    theirs = other.model.state_dict()
    return count + sum(not torch.equal(values, theirs[name]) for name, values in one.model.state_dict().items())


def _busy(where: Where) -> tuple[TrialConfig, Dataset]:
    """A trial that uses every random stream, with `deterministic`."""
    moves = {"dropout": 0.3, "crop": 2, "flip": True, "rotation": 15.0, "optimizer": "adamw", "lr": 0.01}
    return where.default(epochs=where.of(4, 2), deterministic=True, **moves)


def repeats(where: Where) -> list[Row]:
    """`deterministic: true` twice."""
    trial, data = _busy(where)
    rows = []
    for way, graph in (("eager", False), ("graph", True)):
        one, other = (where.train(trial, data, graph=graph) for _ in range(2))
        rows.append(spread(f"values that differ in a repeat, {way}", "values", [_differences(one, other)]))
    return rows


def resuming(where: Where) -> list[Row]:
    """From a checkpoint after half the epochs, against the trial run through."""
    trial, data = _busy(where)
    rows = []
    for way, graph in (("eager", False), ("graph", True)):
        through = where.train(trial, data, graph=graph)
        half = checkpoint.save(where.train(trial, data, trial.epochs // 2, graph=graph).state())
        resumed = where.train(trial, data, graph=graph, state=checkpoint.load(half))
        rows.append(spread(f"values that differ after resuming, {way}", "values", [_differences(through, resumed)]))
    return rows


def accuracy(where: Where) -> list[Row]:
    """Test accuracy of the default study's baseline in each precision, over seeds."""
    precisions = ("fp32", "bf16", "tf32") if where.device == "cuda" else ("fp32", "bf16")
    reached: dict[str, list[float]] = {}
    for precision in precisions:
        for seed in range(where.of(5, 2)):
            trial, data = where.default(precision=precision, seed=seed, **where.of({}, {"epochs": 1}))
            reached.setdefault(precision, []).append(100 * where.train(trial, data).test().accuracy)
    rows = [spread(f"{precision}: test accuracy", "%", values) for precision, values in reached.items()]
    sd = statistics.stdev(reached["fp32"]) or 1.0
    for precision in precisions[1:]:
        pairs = zip(reached[precision], reached["fp32"], strict=True)
        apart = abs(statistics.fmean(a - b for a, b in pairs)) / sd
        rows.append(spread(f"{precision} from fp32", "standard deviations of a seed", [apart]))
    return rows


def memory(where: Where) -> list[Row]:
    """What a process gains from its 50th to its 200th trial, of networks that differ."""
    count, data = where.of(200, 8), images(where.of(640, 64))
    device = torch.device(where.device)
    held = []
    for number in range(count):
        net = {"blocks": 1 + number % 2, "downsample": 1, "width": 8 + 4 * (number % 5), "kernel": (3, 5)[number % 2]}
        how = {"batch_size": (32, 64)[number % 2], "optimizer": ("sgd", "adamw")[number % 2], "lr": 0.01}
        where.train(config(net | how, seed=number, epochs=1), data)
        gc.collect()
        machine.give_back(device)
        on_device = torch.cuda.memory_reserved() if where.device == "cuda" else 0
        held.append((on_device / MIB, psutil.Process().memory_info().rss / MIB))
    before, after = held[count // 4 - 1], held[-1]
    words = f"{count // 4} to {count} trials"
    return [
        spread("device memory gained", "MiB", [after[0] - before[0]], trials=words),
        spread("process memory gained", "MiB", [after[1] - before[1]], trials=words),
    ]


@contextmanager
def sampled(interval: float = 0.1) -> Iterator[list[tuple[float, float, float]]]:
    """What `nvidia-smi` says of this process's GPU meanwhile: (seconds, MiB in use, W) a sample."""
    where = "0"
    if torch.cuda.is_available():
        where = f"GPU-{torch.cuda.get_device_properties().uuid}"
    fields = ["--query-gpu=memory.used,power.draw", "--format=csv,noheader,nounits"]
    command = ["nvidia-smi", "-i", where, *fields, f"--loop-ms={round(1000 * interval)}"]
    found: list[tuple[float, float, float]] = []
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, text=True)
        try:
            time.sleep(1.0)
            yield found
            time.sleep(3 * interval)
        finally:
            process.terminate()
            process.wait()
            seconds = time.perf_counter() - began
            output.seek(0)
            lines = [line.split(",") for line in output.read().splitlines() if line.count(",") == 1]
            for number, (used, power) in enumerate(lines):
                watts = float(power) if power.strip().replace(".", "").isdigit() else float("nan")
                found.append((seconds * number / max(1, len(lines)), float(used), watts))


def columns(where: Where) -> list[Row]:
    """The columns `peak_memory` and `energy` of one trial beside `nvidia-smi`. Nothing without it."""
    trial = config(
        {"blocks": 9, "width": where.of(128, 4), "downsample": 2, "batch_size": where.of(512, 32), "lr": 0.01}
    )
    data = images(where.of(20_480, 64))
    warm = where.train(trial, data, 1)
    del warm
    gc.collect()
    machine.give_back(torch.device(where.device))
    try:
        with sampled() as samples:
            began = time.perf_counter()
            training = Training(trial, data, where.device, 1)
            while time.perf_counter() - began < where.of(15.0, 0.5):
                record = training.run_epoch()
            seconds = time.perf_counter() - began
    except FileNotFoundError:
        return []
    if not samples:
        raise RuntimeError("nvidia-smi tells nothing of this GPU")
    grown = max(used for _, used, _ in samples) - samples[0][1]
    rows = [
        spread("peak_memory", "MiB", [record.peak_memory / MIB]),
        spread("nvidia-smi: memory gained", "MiB", [grown]),
        spread("peak_memory over nvidia-smi", "×", [record.peak_memory / MIB / max(grown, 1.0)]),
    ]
    # nvidia-smi starts a second before the training and ends three samples after it.
    busy = [power for moment, _, power in samples if 1.5 < moment < 1.0 + seconds and power == power]
    if training.energy is not None and busy:
        measured = statistics.fmean(busy) * seconds
        rows.append(spread("energy", "J", [training.energy]))
        rows.append(spread("energy over nvidia-smi", "×", [training.energy / measured]))
    return rows


STARTED = """
import json, sys, time
began = time.time()
sys.path[:0] = ["benchmarks"]
from workloads import config, images
from resnetlab.vision.training.loop import Training
imported = time.time()
training = Training(config({"blocks": 9, "width": 16, "downsample": 2, "batch_size": 128}), images(512), sys.argv[1], 1)
training.one_batch(); training.sums()
print(json.dumps([imported - began, time.time() - imported]))
"""


def starting(where: Where) -> list[Row]:
    """Seconds until a trial has trained its first batch, in a new process and in one that has trained before."""
    n = where.of(5, 1)
    found = []
    for _ in range(n):
        command, env = [sys.executable, "-c", STARTED, where.device], os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        found.append(json.loads(done.stdout.splitlines()[-1]))
    small = {"blocks": 1, "width": 4, "downsample": 1}
    trial = config(where.of({"blocks": 9, "width": 16, "downsample": 2}, small) | {"batch_size": 128, "lr": 0.01})
    warm, first = [], []
    for _ in range(n + 1):
        began = time.perf_counter()
        training = Training(trial, images(1024), where.device, 1)
        training.one_batch()
        training.sums()
        warm.append(time.perf_counter() - began)
        for _ in range(4):  # after WARM steps the next one is captured
            training.one_batch()
        training.sums()
        first.append(time.perf_counter() - began)
    return [
        spread("start of a process: imports", "s", [imports for imports, _ in found]),
        spread("start of a process: then to the first batch", "s", [batch for _, batch in found]),
        spread("start of a later trial: to the first batch", "s", warm[1:]),
        spread("start of a later trial: to the fifth batch, with the capture", "s", first[1:]),
    ]


def studies(where: Where) -> list[Row]:
    """An epoch of two included studies on images of CIFAR's size, from steps of a few seconds."""
    rows = []
    for name, arms in (("resnet-vs-cnn", ("cnn", "resnet")), ("structure-ablation", ("baseline", "fc3"))):
        study = load(PUBLISHED / f"{name}.yaml")
        for arm in arms[: where.of(None, 1)]:
            trial = study.arm_config(arm, seed=0)
            classes = 100 if trial.data.name == "cifar100" else 10
            data = images(where.of(20_000, 64), classes=classes)
            for way, graph in (("graph", True), ("eager", False)):
                training = Training(trial, data, where.device, 1, graph=graph)
                training.rehearse(where.of(2.0, 0.05))
                rates = [training.rehearse(where.of(2.0, 0.05)) for _ in range(where.of(3, 1))]
                words = f"{name}, {arm}, batch {trial.batch_size}: an epoch of 49,000 images, {way}"
                rows.append(spread(words, "s", [49_000 / rate for rate in rates], step=training.settings["step"]))
    return rows


CHECKS = {
    "tests": tests,
    "CPU, eager and graph": agreement,
    "repeats": repeats,
    "resuming": resuming,
    "accuracy": accuracy,
    "memory": memory,
    "columns": columns,
    "starting": starting,
    "studies": studies,
}
