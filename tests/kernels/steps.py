"""One training step of many networks in one process, each compared with the same network in float64.

    python tests/kernels/steps.py THREADS < cases.json

reads a JSON list of cases and writes a JSON line before each ({"begin": case}) and after it ({"case", "error",
"where"}), so that whoever started it knows which case a signal ended. A bf16 case beyond what is allowed also has
"plain", the error of the same step without oneDNN. The instruction set is the caller's to choose: ONEDNN_MAX_CPU_ISA,
or NO_ONEDNN=1 to compute without oneDNN.
"""

from __future__ import annotations

import copy
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import product
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from resnetlab.study import catalog
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.models import build
from resnetlab.vision.training import machine
from resnetlab.vision.training.optim import make_optimizer, set_lr, step_of

BATCH = 8
SMALL = 1e-3  # of the norm of all gradients: one below this is compared with this, for some are zero but for rounding
DRAWS = (
    5  # of images: rounding may turn a ReLU on or off, which weighs in a small batch; a wrong kernel is always wrong
)
LIBRARY_SIDE = 40  # of images for torchvision's networks, whose last maps are a 32nd of it
WIDE = ("resnet", "cnn", "cnn-resnet")  # models with a width
OTHERS = ("mlp", "conv2", "scratch-cnn", "flat-resnet", "resnet18", "resnet34", "resnet50")

Case = dict[str, Any]


def allowed(case: Case) -> float:
    """The relative difference that is rounding. The least that a wrong kernel was seen to be off is 0.02, but the
    gradients of torchvision's deep networks, in batches as small as here, are no more exact than that either."""
    if case.get("precision") == "bf16":
        return 0.5
    network = catalog.network(case.get("model", "resnet"))
    return 0.05 if network is not None and network.weights else 0.005


def networks(widths: Iterable[int] = range(1, 17)) -> Iterator[Case]:
    """Every built-in model, with its kernels and switches, at every width."""
    for width in widths:
        for kernel in (1, 3, 5):
            for channels, side in ((1, 20), (3, 17)):
                yield {"model": "resnet", "width": width, "kernel": kernel, "channels": channels, "side": side}
        yield {"model": "resnet", "width": width, "se": True, "pool": "flatten", "head_depth": 2, "downsample": 3}
        yield {"model": "resnet", "width": width, "shortcut": False, "downsample": 1}
        yield from ({"model": model, "width": width} for model in ("cnn", "cnn-resnet"))
    yield from ({"model": model} for model in OTHERS)
    yield from ({"model": "flat-resnet", "kernel": kernel, "padding": kernel // 2} for kernel in (1, 5))


def optimizers(widths: Iterable[int] = (4, 8)) -> Iterator[Case]:
    """Every model with every optimizer in every precision of a CPU."""
    models = [{"model": model, "width": width} for width in widths for model in WIDE]
    for model in [*models, *({"model": model} for model in OTHERS)]:
        for optimizer in ("sgd", "adam", "adamw", "rmsprop"):
            for precision in ("fp32", "bf16"):
                yield model | {"optimizer": optimizer, "precision": precision}


def convolutions(strided_pointwise: bool = False) -> Iterator[Case]:
    """torch's own convolutions, as networks from elsewhere have them, on maps of even and of odd sides.

    strided_pointwise: those of which `machine.memory_format` knows that they are wrong on some CPUs, instead of the
    others.
    """
    for kernel, stride, inputs in product((1, 2, 3, 5, 7), (1, 2, 3), range(1, 17)):
        groups = [(outputs, 1) for outputs in (1, 4, 8, 13)] + [(inputs, inputs)] * (inputs > 1)
        groups += [(2 * inputs, 2)] * (inputs % 2 == 0)
        for (outputs, number), side in product(groups, (11, 12)):
            known = kernel == 1 and stride > 1 and inputs // number < 8
            if known == strided_pointwise:
                yield {"conv": [inputs, outputs, kernel, stride, number], "side": side}


def made(case: Case) -> tuple[nn.Module, TrialConfig, tuple[int, int, int]]:
    """The network of a case, its config, and the shape (H, W, C) of its images."""
    settings = {name: value for name, value in case.items() if name not in ("conv", "side", "channels", "layout")}
    config = TrialConfig(data={"name": "folder"}, batch_size=BATCH, lr=0.01, weight_decay=0.01, **settings)
    if "conv" not in case:
        side = case.get("side", LIBRARY_SIDE if catalog.network(config.model).weights else 20)
        shape = (side, side, case.get("channels", 3))
        return build(config, shape, 4), config, shape
    inputs, outputs, kernel, stride, groups = case["conv"]
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
    return (
        nn.Sequential(conv, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * outputs, 4)),
        config,
        (case["side"], case["side"] + 2, inputs),
    )


def plain(case: Case) -> float:
    """The error of the same step by torch's own kernels, in contiguous maps: what rounding alone makes of it."""
    with torch.backends.mkldnn.flags(enabled=False):
        return min(_compared(case | {"layout": "contiguous"}, draw)[0] for draw in range(DRAWS))


def compared(case: Case) -> tuple[float, str]:
    """The largest relative difference of a gradient, or of a parameter after the optimizer's step, and where it is: of
    the images for which that is least.

    The gradients are compared with those of the same network in contiguous float64; the step with one in float64 that
    is given the same gradients.
    """
    least = (math.inf, "")
    for draw in range(DRAWS):
        least = min(least, _compared(case, draw))
        if least[0] <= allowed(case):
            break
    return least


def _compared(case: Case, seed: int) -> tuple[float, str]:
    with machine.seeded(seed, torch.device("cpu")):
        model, config, (height, width, channels) = made(case)
        images = torch.randn(BATCH, channels, height, width)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    exact = copy.deepcopy(model).double().train()
    layout = torch.channels_last
    if case.get("layout") == "chosen":
        layout = machine.memory_format(model, torch.device("cpu"))
    elif case.get("layout") == "contiguous":
        layout = torch.contiguous_format
    model = model.to(memory_format=layout).train()
    labels = torch.arange(BATCH) % 4
    with torch.backends.mkldnn.flags(enabled=False):
        F.cross_entropy(exact(images.double()), labels).backward()
    optimizer = make_optimizer(config, model)
    with machine.autocast(config.precision, torch.device("cpu")):
        logits = model(images.clone(memory_format=layout))
    F.cross_entropy(logits.float(), labels).backward()
    wrong = differences(
        [(name, p.grad, q.grad) for (name, p), q in zip(model.named_parameters(), exact.parameters(), strict=True)]
    )
    for mine, theirs in zip(model.parameters(), exact.parameters(), strict=True):
        theirs.grad = mine.grad.double().contiguous()  # fused steps go through both as they lie in memory
    for chosen in (optimizer, make_optimizer(config, exact)):
        set_lr(chosen, 1.0)
        step_of(chosen)()
    wrong += differences(
        [
            (f"{name} after the step", p, q)
            for (name, p), q in zip(model.named_parameters(), exact.parameters(), strict=True)
        ]
    )
    return max(wrong)


def differences(pairs: list[tuple[str, torch.Tensor, torch.Tensor]]) -> list[tuple[float, str]]:
    """Of each (name, value, exact value): the norm of the difference over that of the exact value."""
    least = SMALL * float(torch.stack([exact.detach().norm() for *_, exact in pairs]).norm())
    found = []
    for name, value, exact in pairs:
        exact = exact.detach()
        error = float((value.detach().double() - exact).norm() / exact.norm().clamp_min(least))
        found.append((error if math.isfinite(error) else math.inf, name))
    return found


def main() -> None:
    machine.prepare(int(sys.argv[1]))
    without = torch.backends.mkldnn.flags(enabled=False) if os.environ.get("NO_ONEDNN") else nullcontext()
    with without:
        for case in json.load(sys.stdin):
            print(json.dumps({"begin": case}), flush=True)
            error, where = compared(case)
            found = {"error": error, "where": where}
            if error > allowed(case) and case.get("precision") == "bf16":
                found["plain"] = plain(case)
            print(json.dumps({"case": case, **found}), flush=True)


if __name__ == "__main__":
    main()
