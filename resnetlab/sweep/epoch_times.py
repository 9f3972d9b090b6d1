"""What an epoch takes at each setting, learnt from the trials of a sweep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from resnetlab.study import Study
from resnetlab.study.trial_config import RunConfig

SHRINKAGE = 0.2  # of a factor's effect, in trials: a level that one trial had is believed less than one that ten had
HALF_LIFE = 8.0  # trials after which one counts half: machines that others use change their speed
LEAST_NOISE = 0.05  # relative, between trials of one setting: fewer trials may agree by chance
UPPER = 1.0  # standard errors
TEST_EPOCHS = 2  # evaluations of an epoch that one of the test split takes, before one was seen


class EpochTimes:
    """Seconds of an epoch as a product of one number for each level of each factor: ridge regression of the logarithm
    of each trial's mean on its settings, in which later trials count more. An average level stands for one that no
    trial has had.

    rows: of the trials table, in order, of which those with an epoch count. stretch: seconds that a slot is taken, by
    those that its trial counts.
    """

    def __init__(self, study: Study, rows: Iterable[Mapping[str, Any]], stretch: float = 1.0):
        self._study, self._stretch = study, stretch
        self._names: tuple[str, ...] = ("arm",) if study.arms else study.space.names
        timed = [row for row in rows if row["epochs_run"] and row.get("train_seconds")]
        self.known = bool(timed)
        if not timed:
            return
        evaluation = [(row.get("eval_seconds") or 0.0) / row["epochs_run"] for row in timed]
        self._around = float(np.mean([row.get("setup_seconds") or 0.0 for row in timed]))
        self._around += TEST_EPOCHS * float(np.mean(evaluation))
        seconds = np.array([_an_epoch(row) for row in timed])
        settings = [{name: row[name] for name in self._names if row.get(name) is not None} for row in timed]
        self._levels = self._coded(settings)
        design = np.array([self._row(found) for found in settings]).reshape(len(timed), -1)
        weights = 0.5 ** (np.arange(len(timed))[::-1] / HALF_LIFE)
        self._trials = float(weights.sum())
        self._middle, logs = np.average(design, axis=0, weights=weights), np.log(seconds)
        centred, mean = design - self._middle, float(np.average(logs, weights=weights))
        weighted = centred.T * weights
        self._inverse = np.linalg.inv(weighted @ centred + SHRINKAGE * np.eye(centred.shape[1]))
        self._slopes = self._inverse @ weighted @ (logs - mean)
        fitted = centred @ self._slopes
        free = max(1.0, self._trials - 1 - float(np.trace(self._inverse @ weighted @ centred)))
        self._noise = max(LEAST_NOISE, float((weights * (logs - mean - fitted) ** 2).sum() / free) ** 0.5)
        expected = np.exp(mean + fitted)  # of the logarithms; what is added up are times
        self._log = mean + math.log(float((weights * seconds).sum() / (weights * expected).sum()))

    def _coded(self, settings: list[dict[str, Any]]) -> dict[str, Any]:
        """By factor, its levels, or for a range the place of its middle and its width in logarithms."""
        found: dict[str, Any] = {}
        for name in self._names:
            values = [one[name] for one in settings if name in one]
            if values and not self._study.arms and any(b.levels is None for b in self._study.space[name].branches):
                logs = np.log(np.maximum(np.abs(np.array(values, dtype=float)), 1e-12))
                found[name] = float(logs.mean()), float(logs.std()) or 1.0
            else:
                found[name] = sorted({str(value) for value in values})
        return found

    def _row(self, settings: Mapping[str, Any]) -> list[float]:
        row: list[float] = []
        for name, levels in self._levels.items():
            value = settings.get(name)
            if isinstance(levels, tuple):
                place = 0.0 if value is None else (math.log(max(abs(value), 1e-12)) - levels[0]) / levels[1]
                row.append(min(max(place, -2.0), 2.0))
            elif str(value) in levels or value is None:
                row += [float(str(value) == level) for level in levels]
            else:  # never seen
                at = len(row)
                row += self._middle[at : at + len(levels)].tolist()
        return row

    def epoch(self, config: RunConfig, arm: str = "") -> float:
        """Seconds of one epoch of a trial of this config, of the arm of this name."""
        return self._stretch * math.exp(self._log + float(self._centred(config, arm) @ self._slopes))

    def _centred(self, config: RunConfig, arm: str) -> Any:
        settings: Mapping[str, Any] = {"arm": arm}
        if not self._study.arms:
            settings = self._study.space.active({name: getattr(config, name) for name in self._names})
        return np.array(self._row(settings)) - self._middle

    def arms(self, configs: Sequence[RunConfig], arms: Sequence[str]) -> tuple[list[float], float]:
        """Seconds that one run of each arm is expected to take; upper 95% limit of all together, as a multiple."""
        row = np.mean([self._centred(config, arm) for config, arm in zip(configs, arms, strict=True)], axis=0)
        doubt = self._noise * math.sqrt(1 / self._trials + float(row @ self._inverse @ row))
        return [self.run(config, arm) for config, arm in zip(configs, arms, strict=True)], math.exp(UPPER * doubt)

    def run(self, config: RunConfig, arm: str = "", done: int = 0) -> float:
        """Seconds of a whole run, of which so many epochs are done."""
        return self._stretch * self._around + (config.epochs - done) * self.epoch(config, arm)

    def has(self, arms: Iterable[str]) -> bool:
        """Whether each of these named arms has been timed."""
        return self.known and set(arms) <= set(self._levels.get("arm", ()))


def _an_epoch(row: Mapping[str, Any]) -> float:
    spent = sum(row.get(name) or 0.0 for name in ("train_seconds", "eval_seconds", "checkpoint_seconds"))
    return max(float(spent), 1e-6) / int(row["epochs_run"])
