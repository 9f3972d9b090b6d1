"""What each number is called, its unit, how people read it, and which direction is better."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

MINUS = "\u2212"
SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}


@dataclass(frozen=True)
class Metric:
    """`scale` turns the stored value into the one that people read, in `unit`."""

    name: str
    label: str
    unit: str = ""
    scale: float = 1.0
    better: Literal["higher", "lower", ""] = ""
    digits: int = 2

    @property
    def axis(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def sign(self) -> int:
        """What a value is multiplied by so that more is better."""
        return -1 if self.better == "lower" else 1

    @property
    def fraction(self) -> bool:
        """True where people read it in percent, and its differences in points."""
        return self.unit == "%"

    @property
    def words(self) -> str:
        """The label within a sentence: `test accuracy`."""
        return self.label[:1].lower() + self.label[1:]

    @property
    def short(self) -> str:
        """The label without its split: `accuracy`."""
        first, _, rest = self.label.partition(" ")
        return rest if first in SPLITS.values() and rest else self.label

    @property
    def heading(self) -> str:
        """The label without its split, as it begins a heading: `Accuracy`."""
        return self.short[:1].upper() + self.short[1:]

    @property
    def most(self) -> str:
        """What the best of many is."""
        return "lowest" if self.better == "lower" else "highest"

    @property
    def effect(self) -> Metric:
        """How a difference of two of its values is shown. better: only where less is, which a sign does not tell."""
        which = " (lower is better)" if self.better == "lower" else ""
        unit = "points" if self.fraction else self.unit
        better: Literal["lower", ""] = "lower" if which else ""
        return replace(self, name="effect", label=f"Effect on {self.words}{which}", unit=unit, better=better)

    def on(self, split: str) -> Metric:
        """The same on one split: `macro_f1` as `val_macro_f1`, "Validation macro F1"."""
        return replace(self, name=f"{split}_{self.name}", label=f"{SPLITS[split]} {self.label}")

    def over_last(self, epochs: int) -> Metric:
        """Its mean over so many last epochs: `test_accuracy_last_3`, "Test accuracy over the last 3 epochs"."""
        if epochs == 1:
            return self
        return replace(self, name=over_last(self.name, epochs), label=f"{self.label} over the last {epochs} epochs")

    def suited(self, largest: float) -> Metric:
        """The metric in minutes or hours where values up to `largest` are many seconds; else as it is."""
        for seconds, unit in ((3600, "h"), (60, "min")):
            if self.unit == "s" and largest > 2 * seconds:
                return replace(self, unit=unit, scale=1 / seconds)
        return self

    def signed(self, value: float) -> str:
        """A difference of two values, without its unit: `+1.20`, or `−1.20`."""
        return f"{value * self.scale:+,.{self.digits}f}".replace("-", MINUS)

    def show(self, value: float | None) -> str:
        """`84.31 %`; an en dash where there is no value."""
        if value is None or value != value:
            return "–"
        text = f"{value * self.scale:,.{self.digits}f}"
        return f"{text} {self.unit}" if self.unit else text


METRICS = {
    metric.name: metric
    for metric in [
        Metric("val_accuracy", "Validation accuracy", "%", 100, "higher"),
        Metric("train_accuracy", "Training accuracy", "%", 100, "higher"),
        Metric("test_accuracy", "Test accuracy", "%", 100, "higher"),
        Metric("val_loss", "Validation loss", "nats", 1, "lower", 3),
        Metric("train_loss", "Training loss", "nats", 1, "lower", 3),
        Metric("test_loss", "Test loss", "nats", 1, "lower", 3),
        Metric("parameters", "Parameters", "", 1, "lower", 0),
        Metric("trainable", "Trainable parameters", "", 1, "", 0),
        Metric("multiply_adds", "Multiply-adds per image", "", 1, "lower", 0),
        Metric("train_seconds", "Training time", "s", 1, "lower", 1),
        Metric("eval_seconds", "Evaluation time", "s", 1, "lower", 1),
        Metric("images_per_second", "Training speed", "images/s", 1, "higher", 0),
        Metric("peak_memory", "Peak memory", "MiB", 1 / 2**20, "lower", 0),
        Metric("lr", "Learning rate", "", 1, "", 5),
        Metric("epoch", "Epoch", "", 1, "", 0),
    ]
}

# Of a classifier's scores; `experiment.scores` computes them.
CLASSIFIER = {
    metric.name: metric
    for metric in [
        Metric("accuracy", "accuracy", "%", 100, "higher"),
        Metric("balanced_accuracy", "balanced accuracy", "%", 100, "higher"),
        Metric("macro_f1", "macro F1", "%", 100, "higher"),
        Metric("top5", "top-5 accuracy", "%", 100, "higher"),
        Metric("cross_entropy", "cross-entropy", "nats", 1, "lower", 3),
        Metric("calibration_error", "expected calibration error", "%", 100, "lower"),
        Metric("auroc", "AUROC", "%", 100, "higher"),
    ]
}
ALWAYS = {"accuracy": CLASSIFIER["accuracy"], "loss": Metric("loss", "loss", "nats", 1, "lower", 3)}  # computed


def over_last(column: str, epochs: int) -> str:
    """The column that holds the mean of another over so many last epochs."""
    return f"{column}_last_{epochs}"


def own(name: str) -> Metric:
    """A user's function of which nothing is declared: a fraction, higher is better, shown in percent."""
    return Metric(name, name.replace("_", " "), "%", 100, "higher")
