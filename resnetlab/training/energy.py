"""The energy that a GPU has used, from NVML: the driver's own library, asked without a Python package."""

from __future__ import annotations

import ctypes
from functools import cache

import torch


def joules(device: torch.device) -> float | None:
    """Energy of the whole device since its driver was loaded; None where nothing counts it (a CPU, MIG, old GPUs).

    A difference of two is what ran in between, and what others ran on the same device meanwhile.
    """
    if device.type != "cuda":
        return None
    found = _counter(str(torch.cuda.get_device_properties(device).uuid))
    if found is None:
        return None
    library, handle = found
    millijoules = ctypes.c_ulonglong()
    failed = library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
    return None if failed else millijoules.value / 1000


@cache
def _counter(uuid: str) -> tuple[ctypes.CDLL, ctypes.c_void_p] | None:
    """NVML and its handle of the device."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    handle = ctypes.c_void_p()
    failed = library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode(), ctypes.byref(handle))
    return None if failed else (library, handle)
