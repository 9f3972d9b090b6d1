"""What a trial and an epoch report, and the names of the ways in which a trial can end."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

CODES_BEFORE = "codes_before"  # in a trial's `settings`: versions of own code that its earlier epochs ran


class Phase(StrEnum):
    """Why a trial was run."""

    EXPLORE = "explore"  # proposed by the sampler, may be stopped by ASHA
    PILOT = "pilot"  # the baseline on fresh seeds, full budget: how far seeds alone spread, known before the plan
    AUDIT = "audit"  # proposed by the sampler, exempt from stopping with a known probability
    CONFIRM = "confirm"  # planned: fresh seed, full budget, never stopped, reads the test split

    @property
    def searched(self) -> bool:
        """True where the sampler proposed it, learns from it, and ASHA has a say."""
        return self in (Phase.EXPLORE, Phase.AUDIT)


class Status(StrEnum):
    """How a trial stands. Only `complete` trials have a result at the full budget."""

    WAITING = "waiting"  # for a worker
    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"  # by ASHA: a result at a lower budget
    DIVERGED = "diverged"  # NaN or infinite loss
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    REPLACED = "replaced"  # run under another id, from weights that were given or to a longer budget: not analysed

    @property
    def ended(self) -> bool:
        """True where the trial will not be run again by continuing the sweep."""
        return self not in (Status.WAITING, Status.RUNNING, Status.INTERRUPTED)

    @property
    def expected(self) -> bool:
        """True where a trial far from the baseline may end so: a search records it and goes on."""
        return self in (Status.DIVERGED, Status.OUT_OF_MEMORY)


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of one trial. Accuracies are fractions in [0, 1], losses nats, times seconds, memory bytes.

    metrics: further numbers by the name of their column, e.g. `val_macro_f1`.
    """

    epoch: int  # 1 after the first pass over the training split
    train_loss: float  # mean over the epoch's steps, as optimised (with label smoothing)
    train_accuracy: float  # over the augmented images the steps saw
    val_loss: float
    val_accuracy: float
    lr: float  # of the epoch's last step
    train_seconds: float
    eval_seconds: float
    images_per_second: float  # training images over train_seconds
    peak_memory: int  # of the device; of the process on a CPU
    metrics: Mapping[str, float] = field(default_factory=dict)

    def as_row(self) -> dict[str, Any]:
        """By column."""
        row = asdict(self)
        del row["metrics"]
        return row | dict(self.metrics)


@dataclass(frozen=True)
class TaskEpoch:
    """One epoch of a study's own task. metrics: what it yielded, by column. train_seconds: all of its time."""

    epoch: int
    train_seconds: float
    metrics: Mapping[str, float]
    eval_seconds: float = 0.0
    images_per_second: float = 0.0

    def as_row(self) -> dict[str, Any]:
        """By column."""
        times = {"train_seconds": self.train_seconds, "eval_seconds": self.eval_seconds}
        return {"epoch": self.epoch, **times, **self.metrics}


@dataclass(frozen=True)
class ItemPredictions:
    """Of the test split. predictions, labels: (N,) int class numbers; image: (N,) int, the number of each item, which
    names it for ever; classes: their names; confidence: as of `TestResult`."""

    predictions: Any
    labels: Any
    image: Any
    classes: tuple[str, ...]
    confidence: Any = None


@dataclass(frozen=True)
class TaskTest:
    """What a study's own task returned at its end, on the test split, by column.

    items: what it took each item for, where it hands that over.
    """

    metrics: Mapping[str, float]
    items: ItemPredictions | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What a model costs, whatever it learns."""

    parameters: int  # all learnable values, frozen ones included
    trainable: int  # those that the optimizer changes
    multiply_adds: int  # of one forward pass of one image: convolutions and linear layers


@dataclass(frozen=True)
class TestResult:
    """A trained model on the test split, image by image.

    predictions: (N,) int class numbers, labels: (N,) int class numbers, loss: mean cross entropy in nats.
    `image` is (N,) int: each image's index in the dataset, which names it for ever. metrics: further numbers by the
    name of their column, e.g. `test_macro_f1`. confidence: (N,) float, the probability of each predicted class; None
    where it is not known. contribution: (N,) float, what each image adds to the metric that is confirmed; None
    where that follows from the predictions, or is not known.
    """

    __test__ = False  # not a test, though pytest would think so

    accuracy: float
    loss: float
    predictions: Any
    labels: Any
    image: Any
    metrics: Mapping[str, float] = field(default_factory=dict)
    confidence: Any = None
    contribution: Any = None


def bad_rows_said(found: Mapping[str, Any]) -> str:
    """Rows of a data source that were left out, as people read it. found: `bad_rows` of data.json."""
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in found["kinds"].items())
    more = " and others" if found["count"] > len(found["first"]) else ""
    return f"{found['count']:,} of {found['of']:,} rows left out as bad ({kinds}): {'; '.join(found['first'])}{more}"
