"""The energy that a GPU has used, as NVML counts it."""

from __future__ import annotations

from functools import cache

import torch

from resnetlab.vision.training.nvml import Gpu, NvmlError


def joules(device: torch.device) -> float | None:
    """Energy of the whole device since its driver was loaded; None where nothing counts it (a CPU, MIG, old GPUs).

    A difference of two is what ran in between, and what others ran on the same device meanwhile.
    """
    if device.type != "cuda" or torch.version.hip:
        return None
    gpu = _gpu(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    try:
        return None if gpu is None else gpu.joules()
    except NvmlError:
        return None


@cache
def _gpu(uuid: str) -> Gpu | None:
    try:
        return Gpu(uuid)
    except NvmlError:
        return None
