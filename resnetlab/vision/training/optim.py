"""The optimizer of a trial, and its learning rate schedule as a function of the part of the run that is done."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from resnetlab.errors import BadRequest
from resnetlab.experiment.own_parts import Bound, OwnParts
from resnetlab.study import catalog
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.training.torch_private import spare_the_compiler

UNCAPTURED = "This instance was constructed with capturable=True"  # how torch's warning begins

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
    make = catalog.part("optimizer", config.optimizer).bound(config, weight_decay=config.weight_decay, capturable=graph)
    optimizer: torch.optim.Optimizer = make(params=_groups(config, model), lr=config.lr)
    if graph:
        warnings.filterwarnings("ignore", UNCAPTURED)  # a few steps are not captured
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=group["params"][0].device)
    return optimizer


def _own(part: Bound, config: TrialConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """A user's optimizer, over plain parameters where there is one group of them; `lr` is what each group peaks at."""
    params = groups[0]["params"] if len(groups) == 1 else groups
    optimizer: torch.optim.Optimizer = part.first(params=params, lr=config.lr)
    given = {id(parameter) for group in groups for parameter in group["params"]}
    if given.isdisjoint(id(parameter) for group in optimizer.param_groups for parameter in group["params"]):
        raise BadRequest(f"{part.reference}: it has no parameter of the network (allowed: those of `params`)")
    if needed := _needs(optimizer.step):
        raise BadRequest(
            f"{part.reference}: its step() needs {needed} (allowed: a step() without arguments, after loss.backward())"
        )
    for group in optimizer.param_groups:
        group.setdefault("peak_lr", float(group["lr"]))
    return optimizer


def _needs(step: Callable[..., Any]) -> str:
    """The arguments without a default of an optimizer's `step`, e.g. the closure of LBFGS."""
    try:
        takes = inspect.signature(step).parameters.values()
    except (TypeError, ValueError):
        return ""
    varied = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return ", ".join(one.name for one in takes if one.default is one.empty and one.kind not in varied)


def step_of(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """`optimizer.step` of a built-in optimizer without what torch wraps around it: hooks and a profiler's range, of
    which it has none here, and the import of torch's compiler."""
    step = inspect.unwrap(type(optimizer).step)

    def run() -> None:
        with torch.no_grad():
            step(optimizer)

    return run


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


def schedule(config: TrialConfig, own: OwnParts | None = None) -> Callable[[float], float]:
    """What the peak learning rate is multiplied by in the step that begins when a part in [0, 1] of the run is over."""
    if own is not None and (part := own.one("schedule")):
        return lambda done: float(part.first(done=done))
    return catalog.part("schedule", config.schedule).bound(config)
