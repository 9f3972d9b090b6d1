"""One training step (forward, backward, optimizer), and on a GPU the same step captured once and replayed.

Nothing in a step waits for the device: sums of loss and of correct predictions stay there until the epoch is over.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from resnetlab.study import catalog
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.training import machine
from resnetlab.vision.training.optim import step_of

Forward = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]  # logits (B, classes), labels (B,) -> ()
WARM = 3  # steps before a capture: kernels are loaded and the optimizer's state is made in the first ones


class Step:
    """Called with a batch, changes the network once.

    forward: inputs (B, …) -> logits (B, classes). loss: by default the built-in one that the config names, with
    class_weights (classes,) where they are given. `how` says how steps run, in words for the trial's record.
    """

    how = "eager"

    def __init__(
        self,
        forward: Forward,
        optimizer: torch.optim.Optimizer,
        config: TrialConfig,
        device: torch.device,
        loss: Loss | None = None,
        class_weights: Tensor | None = None,
    ):
        weighted = {"label_smoothing": config.label_smoothing, "class_weights": class_weights}
        self._loss_of: Loss = loss or catalog.part("loss", config.loss).bound(config, **weighted)
        own = any(part.key == "optimizer" for part in config.own.chosen(config.__dict__))
        self._forward, self._optimizer = forward, optimizer
        self._update: Callable[[], Any] = optimizer.step if own else step_of(optimizer)  # own: with its hooks
        self._precision, self._device = config.precision, device
        self._loss = torch.zeros((), dtype=machine.sums_type(device), device=device)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)

    def __call__(self, inputs: Tensor, labels: Tensor) -> None:
        """inputs: (B, …), labels: (B,) int64, on the device."""
        self._run(inputs, labels)

    def _run(self, inputs: Tensor, labels: Tensor) -> None:
        with machine.autocast(self._precision, self._device):
            logits = self._forward(inputs)
        self._correct.add_((logits.detach().argmax(1) == labels).sum())  # before a loss that works in place
        loss = self._loss_of(logits.float(), labels)
        self._optimizer.zero_grad()
        loss.backward()
        self._update()
        self._loss.add_(loss.detach(), alpha=len(labels))

    def take_sums(self) -> tuple[Tensor, Tensor]:
        """Sums since the last call, on the device: loss times images, and correct predictions."""
        sums = self._loss.clone(), self._correct.clone()
        self._loss.zero_()
        self._correct.zero_()
        return sums


class GraphedStep(Step):
    """A Step that is captured as a CUDA graph, so that the host launches one thing a step instead of hundreds.

    Batches of another size than the first (the epoch's last) run as they are. Where the network cannot be captured (a
    forward pass that waits for the device, memory) all steps run as they are, and `how` says why. Capturing executes
    nothing, so either way each batch trains once.

    The optimizer must be capturable, with learning rates that are tensors on the device (`optim.make_optimizer`).
    capture: work -> what repeats it; for tests without a GPU.
    """

    def __init__(
        self,
        forward: Forward,
        optimizer: torch.optim.Optimizer,
        config: TrialConfig,
        device: torch.device,
        capture: Callable[[Callable[[], None]], Callable[[], None]] | None = None,
        loss: Loss | None = None,
        class_weights: Tensor | None = None,
    ):
        super().__init__(forward, optimizer, config, device, loss, class_weights)
        self.how = "graph"
        self._capture = capture or _captured
        self._warm = 0
        self._shape: torch.Size | None = None
        self._replay: Callable[[], None] | None = None

    def __call__(self, inputs: Tensor, labels: Tensor) -> None:
        self._shape = self._shape or inputs.shape
        if self.how != "graph" or inputs.shape != self._shape:
            self._run(inputs, labels)
        elif self._warm < WARM:
            self._warm += 1
            self._run_aside(inputs, labels)
        elif self._replay is not None or self._try(inputs, labels):
            self._inputs.copy_(inputs)
            self._labels.copy_(labels)
            self._replay()  # type: ignore[misc]
        else:
            self._run(inputs, labels)

    def _try(self, inputs: Tensor, labels: Tensor) -> bool:
        """Capture; False, with `how` saying why, where that cannot be."""
        self._inputs, self._labels = inputs.clone(), labels.clone()
        self._optimizer.zero_grad()  # so that the graph makes gradients of its own and adds to none
        try:
            self._replay = self._capture(lambda: self._run(self._inputs, self._labels))
        except RuntimeError as error:
            text = (str(error).splitlines() or [type(error).__name__])[0]
            self.how = f"eager, not captured: {text[:200]}"
            del self._inputs, self._labels
        return self._replay is not None

    def _run_aside(self, inputs: Tensor, labels: Tensor) -> None:
        """On another stream: a capture fails on what autograd keeps from steps on the default one."""
        if self._device.type != "cuda":
            self._run(inputs, labels)
            return
        main, side = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)
        side.wait_stream(main)
        with torch.cuda.stream(side):
            self._run(inputs, labels)
        main.wait_stream(side)


def _captured(work: Callable[[], None]) -> Callable[[], None]:
    """`work` as a CUDA graph. Raises RuntimeError where it cannot be one."""
    graph = torch.cuda.CUDAGraph()
    collects = gc.isenabled()
    gc.disable()  # an earlier trial's graph, freed in the midst of a capture, would end it
    try:
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
    finally:
        if collects:
            gc.enable()
    return graph.replay
