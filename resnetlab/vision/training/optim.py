"""Optimizers by name, and learning rate schedules as functions of the part of the run that is done."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from math import cos, floor, pi
from typing import Any

import torch
from torch import nn

from resnetlab.experiment.own import Bound, OwnParts
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.training.torch_private import spare_the_compiler

ONE_CYCLE_START = 1 / 25  # multiplier at the first step, as in torch's OneCycleLR
ONE_CYCLE_END = ONE_CYCLE_START / 1e4  # and at the end
UNCAPTURED = "This instance was constructed with capturable=True"  # how torch's warning begins
EXPONENTIAL_END = 0.01  # what constant-exponential falls to by the end of the run

spare_the_compiler()


def make_optimizer(
    config: TrialConfig, model: nn.Module, graph: bool = False, own: OwnParts | None = None
) -> torch.optim.Optimizer:
    """The optimizer over what is trained: the head, and the stages at `backbone_lr_ratio` times its learning rate.

    Weight decay is torch's own: it applies to every trained parameter, biases and batch norm included; as an L2 term of
    the gradient in SGD, Adam and RMSprop, decoupled from it in AdamW. Each group carries `peak_lr`, which `set_lr`
    scales. Fused kernels wherever torch has them (not RMSprop): on a CPU a large linear layer's Adam step is about ten
    times faster. graph: for steps that are captured as a CUDA graph, which reads learning rates from the device.
    """
    if own is not None and (part := own.one("optimizer")):
        return _own(part, config, _groups(config, model))
    optimizer = _make(config, _groups(config, model), graph)
    if graph:
        warnings.filterwarnings("ignore", UNCAPTURED)  # a few steps are not captured
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=group["params"][0].device)
    return optimizer


def _own(part: Bound, config: TrialConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """A user's optimizer, over plain parameters where there is one group of them; `lr` is what each group peaks at."""
    params = groups[0]["params"] if len(groups) == 1 else groups
    optimizer: torch.optim.Optimizer = part.first(params=params, lr=config.lr)
    for group in optimizer.param_groups:
        group.setdefault("peak_lr", float(group["lr"]))
    return optimizer


def step_of(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """`optimizer.step` without what torch wraps around it: hooks and a profiler's range, of which there are none here,
    and the import of its compiler."""
    step = inspect.unwrap(type(optimizer).step)

    def run() -> None:
        with torch.no_grad():
            step(optimizer)

    return run


def _make(config: TrialConfig, groups: list[dict[str, Any]], capturable: bool) -> torch.optim.Optimizer:
    decay: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    adam = decay | {"betas": (0.9, config.beta2), "fused": True, "capturable": capturable}
    match config.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, momentum=config.momentum, nesterov=config.nesterov, fused=True, **decay)
        case "adam":
            return torch.optim.Adam(groups, **adam)
        case "adamw":
            return torch.optim.AdamW(groups, **adam)
        case "rmsprop":
            return torch.optim.RMSprop(groups, momentum=config.momentum, capturable=capturable, **decay)
    raise ValueError(f"optimizer={config.optimizer} is not known")


def _groups(config: TrialConfig, model: nn.Module) -> list[dict[str, Any]]:
    """One group where all have the same learning rate; else the head's first, whose rate is the one on record."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if config.backbone_lr_ratio == 1.0:
        return [{"params": list(trained.values()), "peak_lr": config.lr}]
    stages = [p for name, p in trained.items() if name.startswith("stages.")]
    rest = [p for name, p in trained.items() if not name.startswith("stages.")]
    return [
        {"params": rest, "peak_lr": config.lr},
        {"params": stages, "peak_lr": config.lr * config.backbone_lr_ratio},
    ]


def set_lr(optimizer: torch.optim.Optimizer, multiplier: float) -> float:
    """Scale the peak learning rates; returns the first group's, which is the one on record."""
    for group in optimizer.param_groups:
        lr = group["peak_lr"] * multiplier
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
    return float(optimizer.param_groups[0]["peak_lr"]) * multiplier


def multiplier(config: TrialConfig, done: float, own: OwnParts | None = None) -> float:
    """What the peak learning rate is multiplied by in the step that begins when the part `done` in [0, 1] is over.

    - constant: 1.
    - cosine: half a cosine wave from 1 to 0.
    - one-cycle (Smith & Topin 2018; shape and ends of torch's OneCycleLR): 1/25 rising to 1 over `warmup_part`, then
      falling to 1/250,000, both by half a cosine wave. Momentum stays as it is.
    - step: 1, times `step_factor` after each `step_at` of the run.
    - constant-exponential: 1 for `constant_part`, then exponentially down to 1/100.
    """
    if own is not None and (part := own.one("schedule")):
        return float(part.first(done=done))
    match config.schedule:
        case "constant":
            return 1.0
        case "cosine":
            return _half_wave(1.0, 0.0, done)
        case "one-cycle":
            up = config.warmup_part
            if done < up:
                return _half_wave(ONE_CYCLE_START, 1.0, done / up)
            return _half_wave(1.0, ONE_CYCLE_END, (done - up) / (1 - up))
        case "step":
            return config.step_factor ** floor(done / config.step_at + 1e-9)  # 0.3 / 0.1 is just below 3
        case "constant-exponential":
            late = max(0.0, done - config.constant_part) / (1 - config.constant_part)
            return float(EXPONENTIAL_END**late)
    raise ValueError(f"schedule={config.schedule} is not known")


def _half_wave(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + cos(pi * part)) / 2
