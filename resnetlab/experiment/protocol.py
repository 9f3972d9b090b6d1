"""What can be brought: each kind of part, what it is given and what it returns. The docs are made from this table.

A part is a plain function or class that imports nothing of resnetlab. It is given the arguments of its kind; every
other argument with a name is one of its settings (`part_settings`).
"""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from resnetlab.errors import BadRequest

if TYPE_CHECKING:
    from resnetlab.experiment.messages import Report


class Trial(Protocol):
    """What a task knows of the trial that it runs.

    split_seed: root of the splits, below 2**32; the same for trials that are compared. epochs: the full budget. device:
    `cpu`, `cuda` (ROCm too), `xpu` or `mps`. threads: CPU threads. may_test: whether the test split may be looked at.
    folder: for its data, kept between trials of one machine.
    """

    split_seed: int
    epochs: int
    device: str
    threads: int
    may_test: bool
    folder: Path

    def seed(self, purpose: str) -> int:
        """A seed below 2**32, of its own for each purpose, e.g. `init` or `order`; equal for equal trials."""
        ...


class Run(Protocol):
    """One trial in a worker: `vision.trial_run.TrialRun` of an image classifier, `task_run.TaskRun` of an own task.

    busy_seconds: that the last step spent in epochs and on the test split.
    """

    busy_seconds: float

    @property
    def epoch(self) -> int:
        """Epochs done."""
        ...

    def step(self) -> Report | None:
        """One epoch more, several where they are short, none where all were done before; what is new. None where the
        step has to be repeated by a new run, because the data changed meanwhile."""
        ...

    def news(self) -> Report:
        """What no report has told yet."""
        ...

    def save(self) -> None:
        """Write a checkpoint, where the newest is older."""
        ...


class Stepwise(Protocol):
    """A task as an object. With `state` and `load` as well, a trial goes on where it was killed."""

    def epoch(self) -> Mapping[str, float]:
        """Train for one epoch; the numbers that it gave."""
        ...

    def test(self) -> Mapping[str, float]:
        """The numbers of the test split. Called once, after the last epoch, where the trial may look at it."""
        ...


class Resumable(Stepwise, Protocol):
    def state(self) -> Any:
        """All that the next epoch depends on: tensors, arrays, numbers, text, lists and mappings of these."""
        ...

    def load(self, state: Any) -> None:
        """Become what `state` was taken from."""
        ...


@dataclass(frozen=True)
class Kind:
    """One kind of part.

    name: in words. key: of the study that names such a part. given: the arguments that it must take, first. offered:
    those that it gets where it names them. example: its signature. returns: in words, as `a model returns …`. fits:
    whether a returned value is that. doc: shapes and units.
    """

    name: str
    key: str
    given: tuple[str, ...]
    example: str
    returns: str
    fits: Callable[[Any], bool]
    doc: str
    offered: tuple[str, ...] = ()

    def given_to(self, target: Any) -> tuple[str, ...]:
        """What this function or class must take: of an Optuna sampler that is its seed."""
        return ("seed",) if self.key == "search.sampler" and is_optuna_sampler(target) else self.given

    @property
    def group(self) -> str:
        """The group of entry points under which an installed package registers such parts by a short name."""
        plural = self.name + ("es" if self.name.endswith("s") else "s")
        return f"resnetlab.{plural.replace(' ', '_')}"

    def check(self, value: Any, part: str) -> None:
        """BadRequest where `value`, which the part returned, is not what this kind returns."""
        if not self.fits(value):
            shape = getattr(value, "shape", None)
            said = f"{type(value).__name__}" + (f" of shape {tuple(shape)}" if shape is not None else "")
            shown = f" ({value!r})" if isinstance(value, str | int | float | None) else ""
            raise BadRequest(f"{part}: returned {said}{shown} (allowed: {self.returns})")


def is_optuna_sampler(target: Any) -> bool:
    """Whether it is a class of Optuna's samplers, or derived from one. Optuna need not be there."""
    bases = getattr(target, "__mro__", ())
    return any(base.__name__ == "BaseSampler" and base.__module__.startswith("optuna.") for base in bases)


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda value: all(callable(getattr(value, name, None)) for name in names)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_scalar_tensor(value: Any) -> bool:
    return _has("backward")(value) and tuple(value.shape) == ()


def _is_images(value: Any) -> bool:
    return _has("to")(value) and len(getattr(value, "shape", ())) == 4


def _is_dataset(value: Any) -> bool:
    def is_split(one: Any) -> bool:
        if isinstance(one, tuple):
            return len(one) == 2 and all(hasattr(array, "shape") for array in one)
        return _has("__getitem__", "__len__")(one) and not isinstance(one, str | bytes)

    splits = list(value.values()) if isinstance(value, Mapping) else [value]
    return bool(splits) and all(map(is_split, splits))


def _is_task(value: Any) -> bool:
    return inspect.isgenerator(value) or _has("epoch", "test")(value)


KINDS = {
    kind.name: kind
    for kind in [
        Kind(
            "model",
            "model",
            ("shape", "classes"),
            "net(shape: tuple[int, int, int], classes: int, *, depth: int = 2) -> nn.Module",
            "a torch nn.Module",
            _has("forward", "parameters", "state_dict"),
            "`shape` is (H, W, C) of the images. The module maps (N, C, H, W) float32 to logits (N, classes). With "
            "attributes `stages` and `head` it can be frozen in part, and weights can be carried over.",
        ),
        Kind(
            "loss",
            "loss",
            ("logits", "labels"),
            "loss(logits: Tensor, labels: Tensor, *, gamma: float = 2.0) -> Tensor",
            "a tensor of shape () with a gradient, the mean over the batch",
            _is_scalar_tensor,
            "`logits` (N, classes) float32, `labels` (N,) int64.",
        ),
        Kind(
            "metric",
            "metrics",
            ("labels", "scores"),
            "metric(labels: np.ndarray, scores: np.ndarray) -> float",
            "a finite number",
            _is_number,
            "`labels` (N,) int64, `scores` (N, classes) float: the logits. What it returns is a fraction, and higher "
            "is better, unless `METRICS` beside it says otherwise: `{'rank': {'direction': 'min', 'unit': 'places'}}`.",
        ),
        Kind(
            "augmentation",
            "augment",
            ("images", "generator"),
            "augment(images: Tensor, generator: torch.Generator, *, size: int = 4) -> Tensor",
            "a tensor of images (N, C, H, W)",
            _is_images,
            "`images` (N, C, H, W) float32 of one training batch, normalised, on the device, of which `generator` is "
            "too. All randomness comes from `generator`.",
        ),
        Kind(
            "optimizer",
            "optimizer",
            ("params", "lr"),
            "optimizer(params, lr: float, *, weight_decay: float = 0.0) -> torch.optim.Optimizer",
            "a torch.optim.Optimizer",
            _has("step", "zero_grad", "state_dict"),
            "`params`: parameters, or groups of them. `lr`: the peak learning rate. Any class of torch.optim fits: "
            "`torch.optim:NAdam`.",
        ),
        Kind(
            "schedule",
            "schedule",
            ("done",),
            "schedule(done: float, *, power: float = 1.0) -> float",
            "a finite number, 0 or more",
            lambda value: _is_number(value) and value >= 0,
            "`done`: the part of the run that is over when a step begins, in [0, 1). Returns what the peak learning "
            "rate is multiplied by.",
        ),
        Kind(
            "dataset",
            "dataset.name",
            (),
            "dataset(*, folder: Path, variant: str = 'small') -> tuple[np.ndarray, np.ndarray]",
            "(images, labels) as arrays, a torch Dataset or a Hugging Face Dataset; or one of these for each of train, "
            "val and test",
            _is_dataset,
            "Images are (N, H, W, C) or (N, H, W) uint8, labels (N,) integers. Splits that are not returned are drawn, "
            "stratified by label. `folder`, where it is named, is a place for downloads.",
            ("folder",),
        ),
        Kind(
            "task",
            "experiment",
            ("trial",),
            "train(trial, *, depth: int = 2) -> Iterator[dict[str, float]]",
            "a generator, or an object with epoch() and test()",
            _is_task,
            "Also `train(settings, trial)`, where `settings` is annotated with a pydantic model. A generator yields "
            "the numbers of one epoch after another and returns those of the test split where `trial.may_test`, else "
            "None; a mapping `predictions` of `labels` and `predicted` may be among them. `METRICS` beside it, or on "
            "the class, says which way is better: `{'val_rmse': 'min'}`.",
        ),
        Kind(
            "sampler",
            "search.sampler",
            ("space", "done", "seed"),
            "sample(space, done, seed: int, *, temperature: float = 1.0) -> dict[str, Any]",
            "a mapping of factors to values",
            lambda value: isinstance(value, Mapping),
            "`space`: the study's factors, each with its levels or its range (`study.space.Space`). `done`: a list of "
            "(values, objective) of the trials that have ended, in the order of their numbers; the objective is None "
            "where a trial failed. `seed`: of this proposal. Called once for each trial. Or a class of Optuna's "
            "samplers (`optuna.samplers:NSGAIISampler`), made anew for each trial with `seed`.",
        ),
        Kind(
            "stopping rule",
            "search.stopping",
            ("epoch", "values", "others"),
            "stop(epoch: int, values: list[float], others: list[list[float]], *, patience: int = 3) -> bool",
            "True to stop the trial, or False",
            lambda value: isinstance(value, bool | np.bool_),
            "Asked after every epoch but the last. `values`: the objective of this trial up to `epoch`; `others`: that "
            "of each trial recorded before, as long as it ran. Higher is better: an objective that is to be low is "
            "negated.",
        ),
    ]
}

OF_KEY = {kind.key: kind for kind in KINDS.values()}  # by the key of the study that names such a part
