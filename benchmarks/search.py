"""Epochs until a search has found a setting whose true full-budget accuracy is within 0.5 points of the best there is:
ours (TPE and ASHA), random search at the full budget, and Optuna with its own pruners, on the package's simulator
(planted effects, seed noise 0.74 points, four trials side by side). Two worlds: `plain`, and `slow starters`, where the
best kernel lags at first, which early stopping may take for bad."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, Protocol

import numpy as np
import optuna
from common import Book, Row, options, spread

from resnetlab.calibration.simulator import Memory, Run, Truth, run
from resnetlab.experiment.messages import Report
from resnetlab.study import Study, build_study
from resnetlab.study.records import EpochRecord
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import one_dataset

EPOCHS, SLOTS, WITHIN = 9, 4, 0.5
LRS = {"sgd": (0.01, 1.0), "adamw": (0.0003, 0.03)}
LEVELS: dict[str, list[Any]] = {
    "blocks": [1, 2, 3, 4],
    "kernel": [1, 3, 5],
    "head_depth": [1, 2, 3],
    "shortcut": [True, False],
    "optimizer": list(LRS),
}
PLAIN: dict[str, Any] = {
    "main": {
        "blocks": {2: 2.0, 3: 3.0, 4: 3.4},
        "kernel": {3: 4.0, 5: 4.8},
        "shortcut": {True: 0.7},
        "optimizer": {"adamw": 0.3},
    },
    "tuned": [({"optimizer": "sgd"}, "lr", 0.2, 4.0), ({"optimizer": "adamw"}, "lr", 0.004, 4.0)],
}
WORLDS = {"plain": Truth(**PLAIN), "slow starters": Truth(**PLAIN, lag={"kernel": {5: 8.0}})}
GOAL = max(
    WORLDS["plain"].mean({"blocks": 4, "kernel": 5, "shortcut": True, "optimizer": name, "lr": lr})
    for name, lr in (("sgd", 0.2), ("adamw", 0.004))
) - WITHIN  # fmt: skip


class Searcher(Protocol):
    """next: a trial's key and values, None where there are no more. report: whether it goes on."""

    def next(self) -> tuple[Any, dict[str, Any]] | None: ...
    def report(self, key: Any, epoch: int, played: Run) -> bool: ...


class Ours:
    def __init__(self, seed: int, trials: int):
        self._study = study(seed, trials)
        data = one_dataset(self._study, "simulated", ["a", "b"])
        self._sweep = Sweep(self._study, Memory(), {"git_revision": "", "versions": "{}"}, data, "explore")  # type: ignore[arg-type]

    def next(self) -> tuple[Any, dict[str, Any]] | None:
        task = self._sweep.next()
        if task is None:
            return None
        values = {name: getattr(task.config, name) for name in self._study.space.names}
        return task, self._study.space.active(values)

    def report(self, key: Any, epoch: int, played: Run) -> bool:
        value = float(played.val[epoch - 1])
        record = EpochRecord(
            epoch=epoch, train_loss=1.0, train_accuracy=value, val_loss=1.0, val_accuracy=value, lr=0.1,
            train_seconds=1.0, eval_seconds=0.1, images_per_second=1.0, peak_memory=1,
        )  # fmt: skip
        return self._sweep.report(key.trial_id, Report((record,)))


class FullBudget:
    """Random values; every trial runs to its end."""

    def __init__(self, seed: int, trials: int):
        self._rng = np.random.default_rng(seed)

    def next(self) -> tuple[Any, dict[str, Any]] | None:
        values = {name: levels[self._rng.integers(len(levels))] for name, levels in LEVELS.items()}
        low, high = LRS[values["optimizer"]]
        return None, values | {"lr": float(np.exp(self._rng.uniform(np.log(low), np.log(high))))}

    def report(self, key: Any, epoch: int, played: Run) -> bool:
        return epoch < EPOCHS


class Optunas:
    """Optuna as its documentation uses it: TPE, and a pruner that is asked after every epoch."""

    def __init__(self, seed: int, trials: int, pruner: optuna.pruners.BasePruner):
        sampler = optuna.samplers.TPESampler(seed=seed)
        self._study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)

    def next(self) -> tuple[Any, dict[str, Any]] | None:
        trial = self._study.ask()
        values = {name: trial.suggest_categorical(name, levels) for name, levels in LEVELS.items()}
        low, high = LRS[values["optimizer"]]
        return trial, values | {"lr": trial.suggest_float(f"lr_{values['optimizer']}", low, high, log=True)}

    def report(self, key: Any, epoch: int, played: Run) -> bool:
        value = float(played.val[epoch - 1])
        key.report(value, epoch)
        if epoch == EPOCHS:
            self._study.tell(key, value)
        elif key.should_prune():
            self._study.tell(key, state=optuna.trial.TrialState.PRUNED)
            return False
        return epoch < EPOCHS


ARMS: dict[str, Callable[[int, int], Searcher]] = {
    "ours (TPE, ASHA)": Ours,
    "random, full budget": FullBudget,
    "Optuna (TPE, its successive halving)": lambda seed, trials: Optunas(
        seed, trials, optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    ),
    "Optuna (TPE, its median pruner)": lambda seed, trials: Optunas(seed, trials, optuna.pruners.MedianPruner()),
}


def study(seed: int, trials: int) -> Study:
    factors: dict[str, Any] = {name: {"levels": levels} for name, levels in LEVELS.items()}
    factors["lr"] = [
        {"when": {"optimizer": name}, "low": low, "high": high, "log": True} for name, (low, high) in LRS.items()
    ]
    return build_study(
        {
            "name": "search",
            "dataset": {"name": "glyphs"},
            "baseline": {"blocks": 1, "kernel": 1, "width": 8, "downsample": 1, "head_depth": 1, "optimizer": "sgd",
                         "lr": 0.05},
            "factors": factors,
            "search": {"trials": trials, "epochs": EPOCHS, "grace_period": 1, "reduction_factor": 3, "audit": 0.0},
            "confirm": {"design": "none"},
            "seed": seed,
        },
        "benchmark",
    )  # fmt: skip


def epochs_until(searcher: Searcher, truth: Truth, seed: int, most: int) -> int:
    """Epochs spent by all trials when the first good enough one ended; `most` if none did."""
    waiting: list[tuple[float, int, Any, dict[str, Any], Run, int]] = []
    clock, spent, started = 0.0, 0, 0
    while spent < most:
        while len(waiting) < SLOTS and (found := searcher.next()) is not None:
            key, values = found
            played = run(truth, values, seed * 100_003 + started, EPOCHS)
            heapq.heappush(waiting, (clock + _pace(started), started, key, values, played, 1))
            started += 1
        if not waiting:
            break
        clock, number, key, values, played, epoch = heapq.heappop(waiting)
        spent += 1
        if searcher.report(key, epoch, played):
            heapq.heappush(waiting, (clock + _pace(number), number, key, values, played, epoch + 1))
        elif epoch == EPOCHS and truth.mean(values) >= GOAL:
            return spent
    return most


def _pace(number: int) -> float:
    return 0.7 + 0.6 * (number * 7919 % 1000) / 1000


def repeat(name: str, arm: str, most: int, seed: int) -> int:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return epochs_until(ARMS[arm](seed, most), WORLDS[name], seed, most)


def world(name: str, repeats: int, most: int) -> list[Row]:
    rows = []
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:  # nothing here is timed
        results = {arm: pool.map(partial(repeat, name, arm, most), range(repeats)) for arm in ARMS}
    for arm, values in results.items():
        found = list(values)
        missed = sum(value >= most for value in found)
        text = f"{name}: {arm}" + (f" ({missed} of {repeats} not within {most})" if missed else "")
        rows.append(spread(text, "epochs", found, missed=missed, arm=arm))
    return rows


def main() -> None:
    chosen = options(__doc__)
    book = Book("search", chosen.quick, chosen.again)
    repeats, most = (2, 60) if chosen.quick else (20, 900)
    for name in WORLDS:
        ours, *others = book.part(name, lambda name=name: world(name, repeats, most))
        for other in others:
            share = ours["median"] / other["median"]
            row = spread("", "× its epochs", [share])
            book.target(f"{name}: no more epochs than {other['arm']}", row, 1.0)
    book.finish()


if __name__ == "__main__":
    main()
