"""One table that knows what each number is called, its unit, how people read it, and which direction is better."""

from dataclasses import dataclass, replace
from typing import Literal


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

    def suited(self, largest: float) -> "Metric":
        """The metric in minutes or hours where values up to `largest` are many seconds; else as it is."""
        for seconds, unit in ((3600, "h"), (60, "min")):
            if self.unit == "s" and largest > 2 * seconds:
                return replace(self, unit=unit, scale=1 / seconds)
        return self

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
        Metric("effect", "Effect on test accuracy", "points", 100, "", 2),
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
