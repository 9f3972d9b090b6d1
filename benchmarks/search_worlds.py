"""What searches are tried on: simulated worlds with a known best setting, and recorded learning curves of real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from resnetlab.calibration.simulator import Truth, run
from resnetlab.study import Study, build_study, load_study

HERE = Path(__file__).resolve().parent
CURVES = HERE / "results" / "curves"
WITHIN = 0.5  # points below the best that are good enough
SMOOTH = 0.08  # decades of the learning rate: the width of the kernel that evens out recorded accuracies
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Range:
    """A learning rate on a log scale, where the settings in `when` hold."""

    when: tuple[tuple[str, Any], ...]
    low: float
    high: float

    def holds(self, values: Values) -> bool:
        return all(values.get(name) == level for name, level in self.when)


@dataclass(frozen=True)
class World:
    """choices: levels of each factor. ranges: of `lr`. play: (epochs,) accuracies of one run after each epoch, shorter
    where it diverged; takes values and a seed. mean: expected accuracy at the full budget, in points."""

    name: str
    choices: dict[str, tuple[Any, ...]]
    ranges: tuple[Range, ...]
    epochs: int
    play: Callable[[Values, int], np.ndarray]
    mean: Callable[[Values], float]
    goal: float

    def reached(self, values: Values) -> bool:
        return self.mean(values) >= self.goal

    def lr(self, values: Values) -> Range:
        return next(one for one in self.ranges if one.holds(values))

    def study(self, seed: int, trials: int, **search: Any) -> Study:
        factors: dict[str, Any] = {name: {"levels": list(levels)} for name, levels in self.choices.items()}
        factors["lr"] = [
            ({"when": dict(one.when)} if one.when else {}) | {"low": one.low, "high": one.high, "log": True}
            for one in self.ranges
        ]
        baseline = {name: levels[0] for name, levels in self.choices.items()}
        first = self.lr(baseline)
        return build_study(
            {
                "name": "search",
                "dataset": {"name": "glyphs"},
                "baseline": {"width": 8, "downsample": 1} | baseline | {"lr": float(np.sqrt(first.low * first.high))},
                "factors": factors,
                "search": {"trials": trials, "epochs": self.epochs, "audit": 0.0} | search,
                "confirm": {"design": "none"},
                "seed": seed,
            },
            "benchmark",
        )


LRS = {"sgd": (0.01, 1.0, 0.2), "adamw": (0.0003, 0.03, 0.004)}  # low, high, the best
CHOICES: dict[str, tuple[Any, ...]] = {
    "blocks": (1, 2, 3, 4),
    "kernel": (1, 3, 5),
    "head_depth": (1, 2, 3),
    "shortcut": (True, False),
    "optimizer": tuple(LRS),
}
PLAIN = Truth(
    main={
        "blocks": {2: 2.0, 3: 3.0, 4: 3.4},
        "kernel": {3: 4.0, 5: 4.8},
        "shortcut": {True: 0.7},
        "optimizer": {"adamw": 0.3},
    },
    tuned=[({"optimizer": name}, "lr", best, 4.0) for name, (_, _, best) in LRS.items()],
)
MORE = LRS | {"adam": (0.0003, 0.03, 0.001), "rmsprop": (0.0001, 0.01, 0.003)}
TRUTHS: dict[str, tuple[Truth, dict[str, tuple[float, float, float]]]] = {
    "plain": (PLAIN, LRS),
    "slow starters": (replace(PLAIN, lag={"kernel": {5: 8.0}}), LRS),  # the best kernel is 8 points behind at first
    "noise": (replace(PLAIN, sd=2.0, wobble=1.5), LRS),
    "conditional": (  # a learning rate of its own for each of four optimizers, and a steep one
        replace(PLAIN, tuned=[({"optimizer": name}, "lr", best, 12.0) for name, (_, _, best) in MORE.items()]),
        MORE,
    ),
    "flat": (  # nothing matters much
        replace(
            PLAIN,
            main={name: {level: points / 4 for level, points in levels.items()} for name, levels in PLAIN.main.items()},
            tuned=[({"optimizer": name}, "lr", best, 1.0) for name, (_, _, best) in LRS.items()],
        ),
        LRS,
    ),
    "collapse": (replace(PLAIN, collapse=0.1), LRS),  # a tenth of the runs diverge or fall to guessing
}
RECORDED = ("glyphs", "cifar10")


@cache
def world(name: str) -> World:
    return recorded(name) if name in RECORDED else simulated(name)


def simulated(name: str, epochs: int = 9) -> World:
    truth, lrs = TRUTHS[name]
    choices = CHOICES | {"optimizer": tuple(lrs)}
    ranges = tuple(Range((("optimizer", one),), low, high) for one, (low, high, _) in lrs.items())
    points = [dict(zip(choices, levels, strict=True)) for levels in product(*choices.values())]
    best = max(truth.mean(point | {"lr": lrs[point["optimizer"]][2]}) for point in points)
    return World(
        name, choices, ranges, epochs, lambda values, seed: run(truth, values, seed, epochs).val, truth.mean,
        best - WITHIN,
    )  # fmt: skip


def recorded(name: str) -> World:
    """The curves of benchmarks/curves/<name>.yaml. A run is the recorded one with the same levels and the nearest
    learning rate. The mean of a setting: of its neighbours' last accuracies, by a normal kernel over the log rate."""
    study = load_study(HERE / "curves" / f"{name}.yaml")
    epochs = study.search.epochs
    names = [factor.name for factor in study.space.factors]
    trials = pq.read_table(CURVES / name / "trials.parquet", columns=["trial_id", "status", *names]).to_pylist()
    rows = pq.read_table(CURVES / name / "epochs.parquet", columns=["trial_id", "epoch", "val_accuracy"]).to_pylist()
    curves: dict[str, dict[int, float]] = {}
    for row in rows:
        curves.setdefault(row["trial_id"], {})[row["epoch"]] = row["val_accuracy"]
    choices = {  # without levels that no network of this depth can have
        factor.name: tuple(
            level for level in factor.branches[0].levels if any(row[factor.name] == level for row in trials)
        )
        for factor in study.space.factors
        if factor.name != "lr"
    }
    held: dict[tuple[Any, ...], list[tuple[float, np.ndarray]]] = {}
    for row in trials:
        if row["status"] not in ("complete", "diverged"):
            continue
        curve = np.array([curves.get(row["trial_id"], {})[at] for at in sorted(curves.get(row["trial_id"], {}))])
        held.setdefault(tuple(row[one] for one in choices), []).append((float(np.log10(row["lr"])), curve))
    places = {key: np.array([at for at, _ in found]) for key, found in held.items()}
    last = {
        key: np.array([100 * curve[-1] if len(curve) == epochs else np.nan for _, curve in found])
        for key, found in held.items()
    }

    def key(values: Values) -> tuple[Any, ...]:
        return tuple(values[one] for one in choices)

    def play(values: Values, seed: int) -> np.ndarray:
        nearest = int(np.argmin(np.abs(places[key(values)] - np.log10(values["lr"]))))
        return held[key(values)][nearest][1]

    def mean(values: Values) -> float:
        found, at = last[key(values)], places[key(values)]
        weight = np.exp(-(((at - np.log10(values["lr"])) / SMOOTH) ** 2) / 2)
        nearest = int(np.argmin(np.abs(at - np.log10(values["lr"]))))
        there = ~np.isnan(found)
        return float(np.average(found[there], weights=weight[there])) if there[nearest] else 0.0

    ranges = tuple(
        Range(tuple((one, levels[0]) for one, levels in branch.when.items()), float(branch.low), float(branch.high))
        for branch in study.space["lr"].branches
    )
    best = max(
        mean(dict(zip(choices, one, strict=True)) | {"lr": 10**at}) for one, where in places.items() for at in where
    )
    return World(name, choices, ranges, epochs, play, mean, best - WITHIN)
