"""A network of the user's own: built, checked, and taken apart into stages where it has some."""

from __future__ import annotations

import torch
from torch import nn

from resnetlab.errors import BadRequest
from resnetlab.experiment.own_parts import Bound
from resnetlab.study.trial_config import TrialConfig
from resnetlab.study.yaml_io import suggestion
from resnetlab.vision.models.blocks import Staged

WHOLE = (
    "the network has no attributes `stages` and `head`, and the study names no `stages`, so nothing says which part of "
    "it comes first"
)


def build(part: Bound, config: TrialConfig, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network for images of `shape` (H, W, C). BadRequest where it is no module, has nothing to train, gives no
    logits (N, classes), or has no stages where the trial freezes or hands on some."""
    model: nn.Module = part.first(shape=shape, classes=classes)
    if not isinstance(model, nn.Module):
        raise BadRequest(f"{part.reference}: returned {type(model).__name__} (allowed: a torch nn.Module)")
    if next(model.parameters(), None) is None:
        raise BadRequest(f"{part.reference}: the network has no parameters to train")
    _check_output(model, part, shape, classes)
    divided = _by_name(model, part, shape) if part.part.stages and not _of_another(model, part, config) else model
    stages, head = getattr(divided, "stages", None), getattr(divided, "head", None)
    if not isinstance(stages, nn.ModuleList | nn.Sequential) or not isinstance(head, nn.Module):
        wanted = {"frozen": config.frozen, "backbone_lr_ratio": config.backbone_lr_ratio, "weights": config.weights}
        plain = {"frozen": 0, "backbone_lr_ratio": 1.0, "weights": "none"}
        for name, value in wanted.items():
            if value != plain[name]:
                raise BadRequest(f"{name}={value} with {part.reference}: {WHOLE} (allowed: {name}={plain[name]})")
        return model
    if config.frozen > len(stages):
        raise BadRequest(
            f"frozen={config.frozen} with {part.reference}: it has {len(stages)} stages (allowed: 0 to that)"
        )
    whole = head if isinstance(head, nn.Sequential) else nn.Sequential(head)
    _check_stages(model, Staged(stages, whole), part, shape)
    return Staged(stages, whole, config.frozen)


def _of_another(model: nn.Module, part: Bound, config: TrialConfig) -> bool:
    """Whether the study's `stages` are those of another of its networks: this one, of several, has none of them."""
    several = sum(one.key == "model" for one in config.own.parts) > 1
    return several and not dict(model.named_children()).keys() & set(part.part.stages)


def _by_name(model: nn.Module, part: Bound, shape: tuple[int, int, int]) -> Staged:
    """The network as the study's `stages` divide it.

    A stage is the attribute of that name and what follows it up to the next one; what comes before the first belongs to
    it, what comes after the last is the head. A network that flattens before its first linear layer may do so without
    a module.
    """
    children = dict(model.named_children())
    wanted = part.part.stages
    for name in wanted:
        if name not in children:
            raise BadRequest(f"stages: {name!r} is no module of {part.reference}{suggestion(name, children)}")
    names = list(children)
    starts = [names.index(name) for name in wanted]
    if starts != sorted(starts):
        raise BadRequest(f"stages: {', '.join(wanted)} (allowed: in the order that {part.reference} makes them)")
    modules, ends = list(children.values()), [*starts[1:], starts[-1] + 1]
    stages = [nn.Sequential(*modules[start:end]) for start, end in zip([0, *starts[1:]], ends, strict=True)]
    rest = modules[ends[-1] :]
    linear = next((number for number, module in enumerate(rest) if isinstance(module, nn.Linear)), len(rest))
    plain, flat = (
        Staged(stages, nn.Sequential(*rest[:linear], *between, *rest[linear:])) for between in ([], [nn.Flatten()])
    )
    training = model.training
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        model.eval()
        found = plain if _alike(model, plain, _images(model, shape, 2)) else flat
    model.train(training)
    return found


def _images(model: nn.Module, shape: tuple[int, int, int], number: int) -> torch.Tensor:
    height, width, channels = shape
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(number, channels, height, width, generator=generator)
    return images.to(next(model.parameters()).device)


def _check_output(model: nn.Module, part: Bound, shape: tuple[int, int, int], classes: int) -> None:
    training = model.training
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        logits = model.eval()(_images(model, shape, 2))
    model.train(training)
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (2, classes):
        got = f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise BadRequest(
            f"{part.reference}: the network gives {got} for 2 images (allowed: logits of shape (2, {classes}))"
        )


def _check_stages(model: nn.Module, staged: Staged, part: Bound, shape: tuple[int, int, int]) -> None:
    """BadRequest where the stages one after the other, and then the head, are not what `forward` computes."""
    training = model.training
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        model.eval()
        images = _images(model, shape, 2)
        same = _alike(model, staged, images)
    model.train(training)
    inside = {id(parameter) for parameter in staged.parameters()}
    extra = {name for name, parameter in model.named_parameters() if id(parameter) not in inside}
    if not same or extra:
        why = f"parameters outside them: {sorted(extra)[0]}" if extra else "forward computes something else"
        raise BadRequest(
            f"{part.reference}: its stages one after the other, and then its head, are not the whole network ({why}; "
            f"allowed: {'other `stages`' if part.part.stages else 'other names than `stages` and `head`'})"
        )


def _alike(model: nn.Module, staged: Staged, images: torch.Tensor) -> bool:
    try:
        return torch.allclose(model(images), staged(images), rtol=1e-4, atol=1e-5)
    except RuntimeError:  # shapes that do not fit
        return False
