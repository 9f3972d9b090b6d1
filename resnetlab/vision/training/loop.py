"""One trial's training, epoch by epoch, on data that is resident where the model is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from resnetlab.errors import BadData, BadRequest, ResnetlabError
from resnetlab.experiment.contributions import contributions, of_predictions
from resnetlab.experiment.own_parts import OwnParts
from resnetlab.experiment.scores import Score
from resnetlab.study import catalog
from resnetlab.study.metrics import over_last
from resnetlab.study.records import EpochRecord, TestResult
from resnetlab.study.seeding import stream
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.data.augment import Augment, laid
from resnetlab.vision.data.split import thinned
from resnetlab.vision.models import build, facts
from resnetlab.vision.models.pretrained import Weights
from resnetlab.vision.training import machine, prefix, transfer
from resnetlab.vision.training.checkpoint import CheckpointDamaged
from resnetlab.vision.training.energy import joules
from resnetlab.vision.training.optim import make_optimizer, schedule, set_lr
from resnetlab.vision.training.own_calls import Checked, augmentations
from resnetlab.vision.training.step import GraphedStep, Step

if TYPE_CHECKING:
    from resnetlab.vision.data import Dataset

AHEAD, AHEAD_CPU = 2**24, 2**19  # values augmented at a time: few launches, little enough for a CPU's cache
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation, what torchvision's weights expect


class Diverged(ResnetlabError):
    """The loss became NaN or infinite; the message says in which trial, when, and under which learning rate."""


class Training:
    """A trial that can be run an epoch at a time, left, and gone on with exactly.

    Every random choice comes from a stream of `config.seed`: `init`, and per epoch `order`, `augment` and `dropout`. So
    on a CPU the same config, data and threads give the same numbers to the last bit, whether run through or resumed
    from `state()`, and whatever ran in the process before.

    threads: for CPU work, set for the whole process. state: from `state()`, to go on after its last epoch.
    weights: what `config.weights` names, where it names a file or a source task. cache_prefix: run images through
    frozen stages once and train the rest on the result, where no augmentation moves them and memory allows it; equal to
    running them every time but for float rounding. `prefix_cached` says which way it ran (None before the first epoch),
    `prefix_seconds` what running it once took; that is part of the first epoch's time unless an earlier trial of this
    process had the same prefix. `weights_hash` is what it started from (Weights.digest; None from random values),
    `shape` (H, W, C) of the images, `normalisation` the mean and deviation that their channels are normalised by.
    graph: on a GPU, capture the training step as a CUDA graph where that can be. compile: torch.compile the network.
    code: folder of the study's own code, where the config names some (`experiment.own`). scores: metrics that an
    evaluation computes besides accuracy and loss. confirmed: the metric of which a test says what each image adds.
    last_epochs: over which a test takes the mean of that metric, so that each of them reads the test split.
    Raises BadRequest where the batch exceeds the training split or the state is another trial's, BadData where the
    state was trained on other data or the weights do not fit, CheckpointDamaged where the state does not fit.
    """

    def __init__(
        self,
        config: TrialConfig,
        dataset: Dataset,
        device: str | torch.device = "cpu",
        threads: int = 1,
        state: dict[str, Any] | None = None,
        weights: Weights | None = None,
        cache_prefix: bool = True,
        graph: bool = True,
        compile: bool = False,
        code: Path | None = None,
        scores: Sequence[Score] = (),
        confirmed: str = "accuracy",
        last_epochs: int = 1,
    ):
        self.config = config
        self._scores, self._confirmed = tuple(scores), confirmed
        self._last_epochs = last_epochs
        self._late: list[tuple[float, Tensor | None]] = []  # the metric in the last epochs but one, and its images
        self._keeps_logits = bool(scores) or confirmed == "loss"
        self.device = torch.device(device)
        self.history: list[EpochRecord] = []
        self.energy: float | None = None  # joules of the epochs so far
        self._own = OwnParts(config, code)
        graph = graph and self._own.one("optimizer") is None  # which need not be capturable
        self._threads, self._graph, self._compile = threads, graph and self.device.type == "cuda", compile
        self._data_hash, self._n_classes = dataset.hash, dataset.n_classes
        machine.check_precision(config.precision, self.device)
        self._prepare()
        machine.give_back(self.device)
        self._divide(dataset)
        self._images, self._labels = machine.resident(dataset, self.device)
        self.shape = dataset.shape
        self.normalisation = _normalisation(dataset, config)
        with machine.seeded(stream(config.seed, "init"), torch.device("cpu")):
            model = build(config, dataset.shape, dataset.n_classes, self._own)
        self.weights_hash = None
        if state is None and (start := transfer.starting_weights(config, weights)):
            transfer.load_backbone(model, start)
            self.weights_hash = start.digest
        self._layout = machine.memory_format(model, self.device)
        self.model = model.to(device=self.device, memory_format=self._layout)  # type: ignore[call-overload]
        self._augment = self._moves()
        self._augments = augmentations(config, self._own)
        machine.begin_peak(self.device)
        self.facts = facts(self.model, config, dataset.shape)
        self._optimizer = make_optimizer(config, self.model, self._graph, self._own)
        self._multiplier = schedule(config, self._own)
        self._step: Step | None = None
        moves = self._augment.moves or bool(self._augments)
        self.prefix_cached = None if cache_prefix and config.frozen and not moves else False
        self.prefix_seconds = 0.0
        self._features: prefix.Features | None = None
        self._at_a_time = machine.evaluation_batch(self.device, _seen(self._images.shape, config))
        if state is not None:
            self._restore(state)

    def _moves(self) -> Augment:
        """What brings images to the network: normalised, and moved by the augmentation that every trial has."""
        mean, std = self.normalisation
        device, layout = str(self.device), self._layout
        frame = {"shape": self.shape, "mean": mean, "std": std, "device": device, "layout": layout}
        (moves,) = (part for part in catalog.parts("augment").values() if part.declared.always)
        made: Augment = moves.bound(self.config)(frame=frame)
        return made

    def _divide(self, dataset: Dataset) -> None:
        """The rows of each split, and how many steps an epoch has. BadRequest where a batch is more than there is."""
        config = self.config
        self._rows = {name: torch.tensor(dataset.split(name, config.split_seed)) for name in ("train", "val", "test")}
        self._rows["train"] = _part(self._rows["train"], dataset, config)
        images = len(self._rows["train"])
        if config.batch_size > images:
            raise BadRequest(
                f"batch_size={config.batch_size} is more than the training split has (allowed: 1 to {images})"
            )
        # A last batch of one image is left out: batch norm cannot train on it.
        self._used = images - 1 if config.batch_size > 1 and images % config.batch_size == 1 else images
        self._steps = math.ceil(self._used / config.batch_size)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    @property
    def measured(self) -> list[str]:
        """Names of the metrics that an evaluation computes besides accuracy and loss."""
        return [score.name for score in self._scores]

    @property
    def settings(self) -> dict[str, Any]:
        """How it runs, JSON-like: what a reader needs to know to run it so again."""
        return {
            "precision": self.config.precision,
            "deterministic": self.config.deterministic,
            "step": self._step.how if self._step is not None else None,
            "compile": self._compile,
            "memory_format": str(self._layout).removeprefix("torch."),
            "evaluation_batch": self._at_a_time,
            **machine.settings(),
        }

    def _prepare(self) -> None:
        machine.prepare(self._threads, self.config.precision, self.config.deterministic)

    def run_epoch(self) -> EpochRecord:
        """Train on the training split once, then evaluate on the validation split. Raises Diverged."""
        if self.epoch >= self.config.epochs:
            raise RuntimeError(f"trial {self.config.trial_id} has had all its {self.config.epochs} epochs")
        self._prepare()
        energy = joules(self.device)
        epoch, start = self.epoch + 1, perf_counter()
        if self.prefix_cached is None:
            self._run_prefix()
        with machine.seeded(stream(self.config.seed, "dropout", epoch), self.device):
            loss, accuracy, lr = self._train(epoch)
        trained = perf_counter()
        self._check("loss", loss, epoch)
        val_loss, val_accuracy, seen, _ = self._evaluate("val")
        self._check("validation loss", val_loss, epoch)
        metrics = self._measured("val", seen)
        record = EpochRecord(
            epoch=epoch,
            train_loss=loss,
            train_accuracy=accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            lr=lr,
            train_seconds=trained - start,
            eval_seconds=perf_counter() - trained,
            images_per_second=self._used / (trained - start),
            peak_memory=machine.peak_memory(self.device),
            metrics=metrics,
        )
        self.history.append(record)
        if energy is not None:
            self.energy = (self.energy or 0.0) + (joules(self.device) or energy) - energy
        if len(self._late) < self._late_by(epoch):
            self._late.append(self._one(self._tested()))
        return record

    def _late_by(self, epoch: int) -> int:
        """How many epochs of the mean over the last ones lie before the last, by the end of this one."""
        before = self._last_epochs - 1
        return max(0, min(epoch + self._last_epochs - self.config.epochs, before))

    def one_batch(self) -> None:
        """Train on the first batch alone. Leaves the gradients; spoils the network as `rehearse` does."""
        self._prepare()
        step = self._step = self._step or self._make_step()
        self.model.train()
        with machine.seeded(stream(self.config.seed, "dropout", 1), self.device):
            set_lr(self._optimizer, self._multiplier(0.0))
            step(*next(self._batches(1)))

    def sums(self) -> tuple[float, int]:
        """Sums over the images of the steps since the last call: loss, and correct predictions."""
        assert self._step is not None
        loss, correct = self._step.take_sums()
        return float(loss), int(correct)

    def rehearse(self, seconds: float) -> float:
        """Training images/s over so many seconds of steps that nothing records. They spoil the network."""
        self._prepare()
        step = self._step = self._step or self._make_step()
        self.model.train()
        images, start = 0, perf_counter()
        while perf_counter() - start < seconds:
            for inputs, labels in self._batches(1):
                step(inputs, labels)
                images += len(labels)
                if perf_counter() - start >= seconds:
                    break
        step.take_sums()[0].item()  # waits for the device
        return images / (perf_counter() - start)

    def test(self) -> TestResult:
        """The model as it stands on the test split; with the mean over the last epochs, where that is confirmed."""
        found = self._tested()
        if self._last_epochs == 1:
            return found
        values, parts = zip(*self._late, self._one(found), strict=True)
        column = over_last(f"test_{self._confirmed}", self._last_epochs)
        known = [part.double() for part in parts if part is not None]
        adds = torch.stack(known).mean(0).numpy() if len(known) == len(parts) else None
        return replace(
            found, metrics=dict(found.metrics) | {column: math.fsum(values) / len(values)}, contribution=adds
        )

    def _one(self, found: TestResult) -> tuple[float, Tensor | None]:
        """The metric that is confirmed, and what each image adds to it; None where that is not known."""
        values = {"test_accuracy": found.accuracy, "test_loss": found.loss, **found.metrics}
        adds = found.contribution
        if adds is None:
            adds = of_predictions(self._confirmed, found.labels, found.predictions)
        return values[f"test_{self._confirmed}"], None if adds is None else torch.from_numpy(adds)

    def _tested(self) -> TestResult:
        self._prepare()
        loss, accuracy, seen, confidence = self._evaluate("test")
        rows = self._rows["test"]
        labels = self._labels[rows.to(self.device)].cpu().numpy()
        adds = contributions(self._confirmed, labels, seen.cpu().numpy()) if self._keeps_logits else None
        return TestResult(
            accuracy=accuracy,
            loss=loss,
            predictions=(seen.argmax(1) if self._keeps_logits else seen).cpu().numpy(),
            labels=labels,
            image=rows.numpy().copy(),
            metrics=self._measured("test", seen),
            confidence=confidence.cpu().numpy(),
            contribution=adds,
        )

    def state(self) -> dict[str, Any]:
        """A copy of all that is needed to go on exactly: plain values, and tensors on the CPU.

        No random state is in it, because each epoch's streams follow from the seed and the number of epochs done.
        """
        return {
            "trial_id": self.config.trial_id,
            "data": self._data_hash,
            "weights": self.weights_hash,
            "energy": self.energy,
            "late": list(self._late),
            "history": [asdict(record) for record in self.history],
            "model": _copied(self.model.state_dict()),
            "optimizer": _copied(self._optimizer.state_dict()["state"]),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            trial_id, data, history = state["trial_id"], state["data"], state["history"]
            if trial_id != self.config.trial_id:
                raise BadRequest(f"checkpoint is of trial {trial_id}, not of trial {self.config.trial_id}")
            if data != self._data_hash:
                raise BadData(
                    f"trial {trial_id}: checkpoint was trained on data {data}, but the data is now {self._data_hash}"
                )
            self.weights_hash, self.energy = state.get("weights"), state.get("energy")
            self.model.load_state_dict(state["model"])
            groups = self._optimizer.state_dict()["param_groups"]  # ours: the settings are the config's, not the file's
            self._optimizer.load_state_dict({"state": _copied(state["optimizer"]), "param_groups": groups})
            _lay_like_parameters(self._optimizer)
            self.history = [EpochRecord(**row) for row in history]
            self._late = list(state.get("late", []))
            if len(self._late) != self._late_by(self.epoch):
                raise ValueError(f"it holds {len(self._late)} of the last epochs on the test split")
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointDamaged(f"trial {self.config.trial_id}: checkpoint does not fit: {error!r}") from None

    def _train(self, epoch: int) -> tuple[float, float, float]:
        """Mean loss and accuracy over the images of one epoch's steps, and the last step's learning rate; the device
        is read only at the end."""
        config, optimizer = self.config, self._optimizer
        step = self._step = self._step or self._make_step()
        lr = 0.0
        self.model.train()
        for number, (inputs, labels) in enumerate(self._batches(epoch)):
            done = ((epoch - 1) * self._steps + number) / (config.epochs * self._steps)
            lr = set_lr(optimizer, self._multiplier(done))
            step(inputs, labels)
        optimizer.zero_grad()
        return *_means(*step.take_sums(), self._used), lr

    def _make_step(self) -> Step:
        forward = self.model if self._features is None else self.model.suffix
        if self._compile:
            torch.compiler.reset()  # all trials share their code, and torch compiles a function only so many times
            forward = torch.compile(forward)
        part = self._own.one("loss")
        loss = Checked(part) if part else None
        kind = GraphedStep if self._graph else Step
        weights = self._balance.float().to(self.device) if self.config.class_weights == "balanced" else None
        return kind(forward, self._optimizer, self.config, self.device, loss=loss, class_weights=weights)

    @cached_property
    def _balance(self) -> Tensor:
        """What a training image of each class counts, (classes,), so that all classes count the same and images 1 on
        average; 0 of a class without images."""
        counts = torch.bincount(self._labels.cpu()[self._rows["train"]], minlength=self._n_classes)
        return torch.where(counts > 0, counts.sum().double() / (counts > 0).sum() / counts, 0.0)

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented images (B, C, H, W), or what the frozen stages made of them, and labels (B,).

        Small batches are gathered and augmented several at a time.
        """
        batch = self.config.batch_size
        most = AHEAD_CPU if self.device.type == "cpu" else AHEAD
        ahead = batch * max(1, most // (batch * self._images[0].numel()))
        augment = torch.Generator(self.device).manual_seed(stream(self.config.seed, "augment", epoch))
        for rows in self._order(epoch).split(ahead):
            if self._features is None:
                inputs = self._augment(self._images.index_select(0, rows), augment)
                for change in self._augments:
                    inputs = laid(change(inputs, augment), self._layout)
            else:
                inputs = self._features(rows)
            yield from zip(inputs.split(batch), self._labels.index_select(0, rows).split(batch), strict=True)

    def _run_prefix(self) -> None:
        """Run the images that every epoch needs through the frozen stages."""
        rows = torch.cat([self._rows["train"], self._rows["val"]]).to(self.device)
        data = f"{self._data_hash} {self.config.split_seed} {self.config.normalise} {self.config.precision}"
        with machine.autocast(self.config.precision, self.device):
            self._features = prefix.features(
                self.model, self.config, self._images, rows, self._augment.plain, data, self._at_a_time, self._layout
            )
        self.prefix_cached = self._features is not None
        self.prefix_seconds = self._features.seconds if self._features is not None else 0.0

    def _order(self, epoch: int) -> Tensor:
        """The rows of the training split in this epoch's order; the same on every device."""
        generator = torch.Generator().manual_seed(stream(self.config.seed, "order", epoch))
        rows = self._rows["train"]
        if self.config.sampling == "balanced":
            chances = self._balance[self._labels.cpu()[rows]]
            order = torch.multinomial(chances, self._used, replacement=True, generator=generator)
        else:
            order = torch.randperm(len(rows), generator=generator)[: self._used]
        return machine.upload(rows[order], self.device)

    @torch.inference_mode()
    def _evaluate(self, split: str) -> tuple[float, float, Tensor, Tensor]:
        """Mean cross entropy and accuracy over a split, without augmentation; with (n,) predicted classes, or, where
        metrics are computed from them, (n, classes) logits; and (n,) probabilities of the predicted classes, of the
        test split alone."""
        self.model.eval()
        cached = self._features if split != "test" else None
        rows = machine.upload(self._rows[split], self.device)
        total_loss = torch.zeros((), dtype=machine.sums_type(self.device), device=self.device)
        found, sure = [], [torch.zeros(0, device=self.device)]
        for part in rows.split(self._at_a_time):
            with machine.autocast(self.config.precision, self.device):
                if cached is None:
                    logits = self.model(self._augment.plain(self._images.index_select(0, part)))
                else:
                    logits = self.model.suffix(cached(part))
            labels = self._labels.index_select(0, part)
            total_loss += F.cross_entropy(logits.float(), labels, reduction="sum")
            found.append(logits.float() if self._keeps_logits else logits.argmax(1))
            if split == "test":
                sure.append(logits.float().softmax(1).amax(1))
        seen = torch.cat(found)
        predicted = seen.argmax(1) if self._keeps_logits else seen
        correct = (predicted == self._labels.index_select(0, rows)).sum()
        return *_means(total_loss, correct, len(rows)), seen, torch.cat(sure)

    def _measured(self, split: str, logits: Tensor) -> dict[str, float]:
        """The further metrics of a split, by column. Raises what `Score.of` does, naming trial and epoch."""
        if not self._scores:
            return {}
        labels = self._labels.index_select(0, machine.upload(self._rows[split], self.device)).cpu().numpy()
        scores = logits.cpu().numpy()
        found = {}
        for score in self._scores:
            name = f"{split}_{score.name}"
            try:
                found[name] = score.of(labels, scores)
            except (BadData, BadRequest) as error:
                epoch = self.epoch + (split == "val")
                raise type(error)(f"trial {self.config.trial_id}, epoch {epoch}: {split}: {error}") from None
        return found

    def _check(self, name: str, loss: float, epoch: int) -> None:
        if not math.isfinite(loss):
            config = self.config
            settings = f"lr={config.lr:g}, optimizer={config.optimizer}"
            raise Diverged(f"trial {config.trial_id}, epoch {epoch}: {name} is {loss} ({settings})")


def _lay_like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Each tensor of the optimizer's state as its parameter lies in memory: a fused step goes through both as they lie,
    and a checkpoint may come from a machine on which the network was laid out otherwise."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _normalisation(dataset: Dataset, config: TrialConfig) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of each channel, in [0, 1] scale. Grey images have the mean of ImageNet's three."""
    channels = dataset.shape[2]
    match config.normalise:
        case "half":
            return [0.5] * channels, [0.5] * channels
        case "unit":
            return [0.0] * channels, [1.0] * channels
        case "imagenet":
            mean, std = IMAGENET
            grey = [sum(mean) / 3] * channels, [sum(std) / 3] * channels
            return (mean, std) if channels == 3 else grey
        case _:
            measured = dataset.statistics(config.split_seed)
            return list(measured[0]), list(measured[1])


def _seen(shape: tuple[int, ...], config: TrialConfig) -> tuple[int, ...]:
    """(N, H, W, C) as the network's convolutions see it: enlarged."""
    n, height, width, channels = shape
    return n, config.input_size or height, config.input_size or width, channels


def _part(rows: Tensor, dataset: Dataset, config: TrialConfig) -> Tensor:
    """`data_fraction` of the training images (n,), spread evenly over the classes and drawn by the split seed."""
    if config.data_fraction == 1.0:
        return rows
    return rows[thinned(dataset.labels[rows.numpy()], config.data_fraction, config.split_seed)]


def _means(loss: Tensor, correct: Tensor, images: int) -> tuple[float, float]:
    """Of the sums, read from the device at once."""
    total_loss, total_correct = torch.stack([loss, correct.to(loss.dtype)]).tolist()
    return total_loss / images, total_correct / images


def _copied(value: Any) -> Any:
    """The same nest of dicts with every tensor copied to the CPU, memory layout kept."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value
