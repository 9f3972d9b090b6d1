"""The GPU of this machine: its kind, whether torch can use it, and its name."""

from __future__ import annotations

import platform
import re
import runpy
import sys
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from resnetlab.errors import DeviceLost, NodeRefused
from resnetlab.experiment.messages import NO_MEMORY

if TYPE_CHECKING:
    import torch

TORCH_TYPE = {"rocm": "cuda"}  # kinds that torch calls otherwise
# What the libraries of the vendors say when a GPU cannot go on: every later call of the process fails too.
_FAILED = re.compile(r"\b(CUDA|HIP|cuDNN|MIOpen|XPU|SYCL|Level[- ]Zero)\b.* error|\bCU(BLAS|DNN|SOLVER)_STATUS_", re.I)


@cache
def built_for() -> str:
    """The kind of GPU that the torch installed here is built for: `cuda`, `rocm`, `xpu`, `mps`, or `cpu` for none.
    Does not import torch, and asks no driver."""
    found = find_spec("torch")
    assert found is not None and found.origin is not None, "torch is a dependency"
    built = runpy.run_path(str(Path(found.origin).with_name("version.py")))
    for kind, name in (("rocm", "hip"), ("cuda", "cuda"), ("xpu", "xpu")):
        if built.get(name):
            return kind
    return "mps" if sys.platform == "darwin" and platform.machine() == "arm64" else "cpu"


@cache
def check_usable(device: str) -> None:
    """Compute one sum on the device. Raises NodeRefused, with torch's reason, where that fails: no driver or one that
    is too old, no GPU visible, a GPU that this torch has no code for, that is lost, or that another process has to
    itself. A GPU whose memory is full raises torch's OutOfMemoryError."""
    import torch

    if device == "cpu":
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            (torch.ones(1, device=device) + 1).item()
            return
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError) as error:  # an assertion: torch is built without it
            reasons = [str(error), *(str(warning.message) for warning in said)]
    reason = next((text for text in reasons if "driver" in text), reasons[0]).splitlines()[0]
    raise NodeRefused(
        f"node {platform.node()}: torch {torch.__version__} cannot use the GPU that a trial was given ({device}): "
        f"{reason}: mend that, take the node out of the cluster, or give resources.gpus: 0"
    )


def lost(error: Exception) -> DeviceLost | None:
    """The error in one line where the GPU failed under a trial, so that this process cannot use it any more; None for
    any other error, too little memory included."""
    text = (str(error).splitlines() or [""])[0]
    kind = type(error).__name__
    if kind == "OutOfMemoryError" or NO_MEMORY.search(text):
        return None
    if kind == "AcceleratorError" or (isinstance(error, RuntimeError) and _FAILED.search(text)):
        return DeviceLost(f"node {platform.node()}: the GPU failed: {text[:200]}")
    return None


def device_name(device: torch.device) -> str:
    """As its vendor calls it; `mps (…)` on a Mac, whose GPU has no name of its own."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.xpu.get_device_name(device) if device.type == "xpu" else f"{device.type} ({platform.machine()})"
