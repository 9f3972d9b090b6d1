"""Compare printed numbers and claims with measured runs: agrees, differs, undecided, or not comparable and why.

A printed number comes from a single run (no text repeats one), so it is compared with the 95% prediction interval for
one further run like ours (t distribution), widened by the rounding of the printed number. The confidence interval of
our mean would shrink with the number of our seeds until no single run agreed with it. A claim about two arms concerns
their means: it agrees if the 95% confidence interval of their difference (Welch) is on the claimed side of zero,
differs if it is on the other side, and is undecided otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from resnetlab.analysis.intervals import welch_interval
from resnetlab.analysis.shared_times import shared_times
from resnetlab.reproduction.measured import COUNTED, NOT_RECORDED, PAIRED, Measured
from resnetlab.reproduction.published import SCALE, Claim, Number, PublishedStudy, What

AGREES, DIFFERS, UNDECIDED, NOT_COMPARABLE = "agrees", "differs", "undecided", "not comparable"
MIN_IMAGES = 0.95  # fraction of the text's training images; a validation split of ours may take the rest


@dataclass(frozen=True)
class Verdict:
    """One row of the table.

    mean, low, high, difference (mean minus printed): in `unit`; NaN if there is none. n: runs of the arm, or of that of
    two arms which has fewer. reasons: why it is not comparable or undecided. note: a further remark. where: place in
    the published text.
    """

    arm: str
    against: str
    what: str
    printed: str
    unit: str
    mean: float
    low: float
    high: float
    n: int
    difference: float
    verdict: str
    reasons: tuple[str, ...]
    note: str
    where: str


def compare(study: PublishedStudy, measured: Measured, scaled: bool = False) -> tuple[list[Verdict], list[Verdict]]:
    """Verdicts on the printed results, for each arm that is a reading of them, and verdicts on the claims.

    scaled: the rerun was shortened on purpose, so that nothing is comparable.
    """
    judge = _Comparison(study, measured, scaled)
    numbers = [
        judge.number(number, arm)
        for number in study.numbers
        if number.kind == "result"
        for arm in judge.readings(number.arm)
    ]
    return numbers, [judge.claim(claim) for claim in study.claims]


@dataclass(frozen=True)
class _Comparison:
    study: PublishedStudy
    measured: Measured
    scaled: bool

    def readings(self, arm: str | None) -> list[str]:
        """The arm itself, and other readings of the same text that were run."""
        readings = [name for name, text in self.study.arms.items() if text.like is not None and text.like == arm]
        return [str(arm), *(name for name in readings if len(self.measured.runs(name)))]

    def number(self, number: Number, arm: str) -> Verdict:
        """The verdict on a printed number, for one reading of its arm."""
        scale = SCALE.get(number.unit, 1.0)
        samples = self._samples(number, arm)
        spread = _prediction(samples, exact=number.metric in COUNTED)
        mean, low, high = (value / scale for value in spread)
        reasons = self._reasons(number, arm, samples)
        if not reasons and np.isnan(low):
            reasons = ["a single seed gives no interval (needs 2 or more)"]
        top = number.value if number.to is None else number.to
        least = -np.inf if number.bound == "at most" else number.value
        if reasons:
            verdict = NOT_COMPARABLE
        else:
            verdict = AGREES if least - number.rounding <= high and low <= top + number.rounding else DIFFERS
        nearest = np.clip(mean, least if np.isfinite(least) else min(mean, top), top)
        notes = [number.note, self._note(number, arm)]
        return Verdict(
            arm=arm,
            against=number.against or "",
            what=describe(number),
            printed=number.printed,
            unit=number.unit,
            mean=mean,
            low=low,
            high=high,
            n=0 if self.measured.runs(arm).empty else min(map(len, samples)),
            difference=mean - nearest,
            verdict=verdict,
            reasons=tuple(reasons),
            note="; ".join(note for note in notes if note),
            where=number.where,
        )

    def claim(self, claim: Claim) -> Verdict:
        """The verdict on a claim about two arms."""
        unit = "points" if _is_fraction(claim.metric) else {"epoch_time": "minutes"}.get(claim.metric, "")
        scale = SCALE.get(unit, 1.0)
        samples = self._samples(claim, str(claim.arm))
        mean, low, high = (value / scale for value in _confidence(samples))
        reasons = self._reasons(claim, str(claim.arm), samples)
        if not reasons and np.isnan(low):
            reasons = ["a single seed of an arm gives no interval (needs 2 or more)"]
        verdict = NOT_COMPARABLE if reasons else _verdict(claim, low, high)
        note = self._note(claim, str(claim.arm))
        if verdict == AGREES and claim.most_ratio is not None:
            ratio = samples[0].mean() / samples[1].mean()
            note = "; ".join(part for part in (note, f"{ratio:.2f} times as much") if part)
            verdict = AGREES if ratio <= claim.most_ratio else DIFFERS
        if verdict == UNDECIDED:
            reasons = ["the interval of the difference holds both what is claimed and what is not"]
        return Verdict(
            arm=str(claim.arm),
            against=str(claim.against),
            what=describe(claim),
            printed=claim.text,
            unit=unit,
            mean=mean,
            low=low,
            high=high,
            n=min(map(len, samples)),
            difference=np.nan,
            verdict=verdict,
            reasons=tuple(reasons),
            note="; ".join(part for part in (claim.ours, note) if part),
            where=claim.where,
        )

    def _samples(self, what: What, arm: str) -> list[np.ndarray]:
        """Values per seed of the arm, and of the other arm if their difference is compared."""
        if what.against is None or what.metric in PAIRED:
            return [self.measured.values(what, arm, what.against).to_numpy()]
        return [self.measured.values(what, name).to_numpy() for name in (arm, what.against)]

    def _reasons(self, what: What, arm: str, samples: list[np.ndarray]) -> list[str]:
        """Why the printed result cannot be compared with these runs; empty if it can."""
        arms = [arm] + ([what.against] if what.against else [])
        reasons = ["a run that was shortened on purpose"] if self.scaled else []
        if what.metric in NOT_RECORDED:
            return [*reasons, NOT_RECORDED[what.metric]]
        for name in arms:
            if self.study.arms[name].unspecified:
                reasons.append(f"the text does not say what {name} is")
            elif what.metric in COUNTED and name in self.measured.facts:
                continue  # a network's parameters are known without a run
            elif self.measured.runs(name).empty:
                lost = self.measured.lost(name)
                reasons.append(f"no complete run of {name}" + (f" ({lost})" if lost else ""))
            else:
                reasons += self._differences(what, name)
        if what.metric == "epoch_time":
            reasons += self._machines(arms) if isinstance(what, Claim) else ["seconds of another machine"]
        if not reasons and not min(map(len, samples)):
            reasons.append("the runs have no such value")
        return list(dict.fromkeys(reasons))

    def _differences(self, what: What, name: str) -> list[str]:
        """How the runs of an arm differ from those of the text, as far as the metric depends on it."""
        if what.metric == "epoch_time":
            return []  # times depend on the network, not on what it learns
        printed, data, run = self.study.data, self.measured.data, self.measured.runs(name).iloc[0]
        config = json.loads(run["config"])
        ours, theirs = self._form(run), (*printed.shape, printed.classes)
        if what.metric in COUNTED:
            shown = "images of {}x{}x{} and {} classes".format
            comparable = ours == theirs or len(ours) != len(theirs)
            return [] if comparable else [f"counted for {shown(*ours)}, not {shown(*theirs)}"]
        reasons, part = [], config.get("data_fraction", 1.0)
        if not self._same_data(ours):
            of = f", {part:.0%} of its training images" if part < 1 else ""
            reasons.append(f"other data ({data.get('name')}, not {printed.name}{of})")
        elif (images := data.get("train", 0) * part) < MIN_IMAGES * printed.train:
            reasons.append(f"trained on {round(images):,} of {printed.train:,} images")
        epochs = self.study.arms[name].epochs
        if epochs is not None and config["epochs"] < epochs:
            reasons.append(f"{config['epochs']} of {epochs} epochs")
        if self.study.arms[name].pretrained and config.get("weights", "none") == "none":
            reasons.append("no pretrained weights")
        return reasons + departures(config, self.study.arms[name].fixed, f"{name}: {{}}, where the text has {{}}")

    def _form(self, run: pd.Series) -> tuple[int, ...]:
        """(H, W, C, classes) of a run's dataset."""
        data = self.measured.data
        return *data.get("shape", ()), len(self.measured.tally(run)) or _count(data.get("classes"))

    def _same_data(self, form: tuple[int, ...]) -> bool:
        """True for the same dataset by name, or a folder with as many test images of the same shape and classes."""
        data, printed = self.measured.data, self.study.data
        same = form == (*printed.shape, printed.classes) and data.get("test") == printed.test
        return data.get("name") == printed.name or (data.get("name") == "folder" and same)

    def _machines(self, arms: list[str]) -> list[str]:
        columns = ["device", "device_share", "threads", "host"]
        machines = {tuple(row) for name in arms for row in self.measured.runs(name)[columns].itertuples(index=False)}
        apart = ["the arms ran on different machines or devices"] if len(machines) > 1 else []
        shared = any(shared_times(self.measured.runs(name)) for name in arms)
        return apart + (["times were taken while trials shared a device"] if shared else [])

    def _note(self, what: What, arm: str) -> str:
        if not _is_outcome(what.metric):
            return ""
        notes = []
        for name in filter(None, (arm, what.against)):
            runs, text = self.measured.runs(name), self.study.arms[name]
            if runs.empty:
                continue
            config = json.loads(runs.iloc[0]["config"])
            if self.measured.data.get("name") == "folder" and self._same_data(self._form(runs.iloc[0])):
                notes.append(f"read from a folder of images, taken as a copy of {self.study.data.name}")
            if text.pretrained and (weights := config.get("weights", "none")).startswith("file:"):
                notes.append(f"{name} started from a file of weights ({weights}), taken as the text's")
            notes += departures(config, text.chosen, f"{name}: {{}}, where our choice is {{}}")
        return "; ".join(dict.fromkeys(notes))


def departures(config: Mapping[str, Any], expected: Mapping[str, Any], words: str) -> list[str]:
    """The settings of a run that differ from the `expected` ones. words: takes two texts, `lr=0.01` and `0.001`."""
    return [
        words.format(f"{key}={config[key]}", value)
        for key, value in expected.items()
        if key in config and config[key] != value
    ]


def _verdict(claim: Claim, low: float, high: float) -> str:
    """The verdict on a claim, by the interval [low, high] of the difference."""
    if claim.within is not None:
        inside = -claim.within < low and high < claim.within
        return AGREES if inside else (DIFFERS if low > claim.within or high < -claim.within else UNDECIDED)
    above, below = low > 0, high < 0
    agrees, differs = (above, below) if claim.expect == "higher" else (below, above)
    return AGREES if agrees else (DIFFERS if differs else UNDECIDED)


def _prediction(samples: list[np.ndarray], exact: bool) -> tuple[float, float, float]:
    """Mean and 95% prediction interval of one further run, or of the difference of two such runs, one of each arm."""
    return _interval(samples, lambda n: 1 + 1 / n, exact)


def _confidence(samples: list[np.ndarray]) -> tuple[float, float, float]:
    """Mean and 95% confidence interval of the mean, or of the difference of two means."""
    return _interval(samples, lambda n: 1 / n, exact=False)


def _interval(samples: list[np.ndarray], share: Callable[[int], float], exact: bool) -> tuple[float, float, float]:
    """Mean, low, high, with variance Σ s² share(n) and Welch–Satterthwaite degrees of freedom.

    exact: the values are counts, whose interval is from the smallest to the largest.
    """
    if not all(map(len, samples)):
        return np.nan, np.nan, np.nan
    signs = (1.0, -1.0)
    mean = float(sum(sign * values.mean() for sign, values in zip(signs, samples, strict=False)))
    if exact:
        low = float(sum(min(sign * values) for sign, values in zip(signs, samples, strict=False)))
        return mean, low, float(sum(max(sign * values) for sign, values in zip(signs, samples, strict=False)))
    if min(map(len, samples)) < 2:
        return mean, np.nan, np.nan
    parts = [values.var(ddof=1) * share(len(values)) for values in samples]
    if sum(parts) == 0:
        return mean, mean, mean
    return welch_interval([values.mean() for values in samples], parts, [len(values) - 1 for values in samples])


def describe(what: What) -> str:
    """Words for what is compared: `test accuracy, last epoch`, `recall of cat`, `time per epoch`."""
    words = {"epoch_time": "time per epoch", "trainable": "trainable parameters"}
    name = words.get(what.metric, what.metric.replace("_", " "))
    split = {"val": "validation ", "test": "test ", "train": "training "}.get(str(what.split), "")
    epoch = {None: "", "first": ", first epoch", "last": ", last epoch", "best": ", best epoch"}
    when = epoch.get(what.epoch, f", epoch {what.epoch}")  # type: ignore[arg-type]
    return f"{split}{name}" + (f" of {what.of}" if what.of else "") + when


def _is_fraction(metric: str) -> bool:
    return metric in {"accuracy", "early_accuracy", "converged_accuracy", "precision", "recall", "f1", "worst_rate"}


def _is_outcome(metric: str) -> bool:
    """True if the metric depends on what was learned."""
    return metric not in COUNTED | set(NOT_RECORDED) | {"epoch_time"}


def _count(classes: Any) -> int:
    return classes if isinstance(classes, int) else len(classes or ())
