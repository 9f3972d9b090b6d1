"""Make a results folder of named arms: the real Sweep, planted accuracies, nothing trained.

Images have a difficulty that all arms share, so that arms agree on most of them, as real ones do.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resnetlab.experiment.messages import Ending, Report
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store
from resnetlab.study import Study, build_study
from resnetlab.study.metrics import Metric
from resnetlab.study.records import EpochRecord, Status, TestResult
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import data_key

CHARACTERS = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")
FONTS = tuple(f"Font {i}" for i in range(22))
PLANTED = {"scratch": 0.80, "font-source": 0.60, "transfer": 0.76, "transfer-full": 0.82}
ARMS: dict[str, dict[str, Any]] = {
    "scratch": {},
    "font-source": {"data": {"label": "font"}},
    "transfer": {"source": "font-source", "frozen": 3},
    "transfer-full": {"source": "font-source", "backbone_lr_ratio": 0.1},
}


def arms_study(arms: dict[str, dict[str, Any]] | None = None, **changes: Any) -> Study:
    content = {
        "name": "made-arms",
        "title": "Transfer from fonts to characters",
        "dataset": {"name": "glyphs", "label": "character"},
        "baseline": {"model": "cnn", "batch_size": 32, "lr": 0.01},
        "arms": arms or ARMS,
        "search": {"epochs": 12},
        "confirm": {"design": "arms", "seeds": 3},
    }
    return build_study(content | changes, "made-arms")


def make_arms(
    place: Path,
    study: Study | None = None,
    planted: dict[str, float] | None = None,
    classes: tuple[str, ...] = CHARACTERS,
    images: int = 2000,
    fail: tuple[str, ...] = (),
    data: dict[str, Any] | None = None,
    seconds: dict[str, float] | None = None,
) -> Study:
    """Write the folder `place`. planted: arm -> test accuracy; fail: arms whose runs all fail; seconds: of an epoch."""
    study, planted = study or arms_study(), planted or PLANTED
    names = {"font": FONTS}
    configs = {arm: study.arm_config(arm, seed=0) for arm in study.arms}
    datasets = {
        data_key(config): (f"{config.data.label or 'x'}-data", names.get(config.data.label or "", classes))
        for config in configs.values()
    }
    folder = ResultsFolder.at(place)
    store = Store(folder, study.columns, measures=study.measures)
    facts = {"git_revision": "abc1234", "versions": '{"python": "3.12.1"}'}
    sweep = Sweep(study, store, facts, datasets)
    made = _Made(images, study.measures)
    while (task := sweep.next()) is not None:
        arm = store.trials[task.trial_id]["arm"]
        count = len(datasets[data_key(task.config)][1])
        report = made.report(task.config, arm, planted[arm], count, arm in fail, (seconds or {}).get(arm))
        sweep.report(task.trial_id, report)
    store.close()
    folder.write_json("study.json", study.model_dump(mode="json"))
    first = next(iter(configs.values()))
    about = {"name": first.data.name, "hash": "0123", "classes": list(classes), "shape": [20, 20, 1]}
    about |= {"train": 4800, "val": 533, "test": images} | (data or {})
    folder.write_json("data.json", about)
    folder.write_json("sweep.json", {"command": "python sweeps/reproduce.py made-arms", "data": about})
    return study


class _Made:
    def __init__(self, images: int, measures: tuple[Metric, ...] = ()):
        self.images, self.measures = images, measures
        self.hard = np.random.default_rng(0).random(images)  # which images are difficult, for every arm alike

    def report(
        self, config: Any, arm: str, accuracy: float, classes: int, fails: bool, seconds: float | None
    ) -> Report:
        if fails:
            reason = "weights IMAGENET1K_V1 of resnet18 are neither here nor to be had: x"
            return Report(ending=Ending(Status.FAILED, reason))
        rng = np.random.default_rng(config.seed % 2**32)
        final = accuracy + rng.normal(0, 0.004)
        seconds = seconds or (2.0 if config.frozen else 6.0) * rng.uniform(0.97, 1.03)
        numbers = range(1, config.epochs + 1)
        epochs = tuple(self._epoch(n, config.epochs, final, seconds, config.lr, rng) for n in numbers)
        labels = np.arange(self.images) % classes
        # The first class is the hardest and the last ones are easy; in all, the planted share is right.
        score = 0.8 * self.hard + 0.2 * rng.random(self.images) + 0.25 * (labels == 0) - 0.3 * (labels > 0.8 * classes)
        right = np.argsort(np.argsort(score)) < final * self.images
        wrong = (labels + 1 + rng.integers(0, 2, self.images)) % classes
        predicted = np.where(right, labels, wrong)
        columns = {
            "parameters": 262_023, "trainable": 206_279 if config.frozen else 262_023, "multiply_adds": 3_086_028,
            "device": "cpu", "device_share": 1.0, "threads": 1, "host": "node-0", "setup_seconds": 0.1,
            "prefix_cached": True if config.frozen else None,
        }  # fmt: skip
        test = TestResult(float(right.mean()), 0.7, predicted, labels, np.arange(self.images))
        test = replace(test, metrics=self._measured("test", test.accuracy))
        return Report(epochs, columns, test=test)

    def _epoch(
        self, n: int, total: int, final: float, seconds: float, lr: float, rng: np.random.Generator
    ) -> EpochRecord:
        value = float(final * (1 - 0.9 ** (4 * n)) + (n < total) * rng.normal(0, 0.004))
        return EpochRecord(
            epoch=n, train_loss=2.4 * (1 - value), train_accuracy=min(1.0, value + 0.006 * n),
            val_loss=2.5 * (1 - value), val_accuracy=value, lr=lr, train_seconds=seconds,
            eval_seconds=0.1 * seconds, images_per_second=4800 / seconds, peak_memory=300 << 20,
            metrics=self._measured("val", value),
        )  # fmt: skip

    def _measured(self, split: str, accuracy: float) -> dict[str, float]:
        """The study's further metrics: they go with the accuracy."""
        there = [metric for metric in self.measures if metric.name.startswith(split)]
        return {metric.name: 3 * (1 - accuracy) if metric.sign < 0 else 0.9 * accuracy for metric in there}
