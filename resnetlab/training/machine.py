"""What training asks of the process and the device: threads, allocator, random streams, memory, data that stays."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

MALLOC_BYTES = 32 * 2**20  # the most that glibc accepts as its mmap threshold
EVALUATION_BATCH = 100  # images at a time on a CPU
EVALUATION_PIXELS = 2**20  # and pixels at a time on a GPU: 1024 images of 32x32
RESIDENT = 2  # data sets kept on a device at a time: a target task and its source
_resident: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}


def prepare(threads: int) -> None:
    """Take exactly `threads` threads, and let the allocator keep its memory."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    _keep_memory()


@cache
def _keep_memory() -> None:
    """Raise glibc's thresholds so that activations are not given back to the system and faulted in again every step.

    Other C libraries lack `mallopt` or ignore it; nothing is computed differently either way.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, MALLOC_BYTES)
    mallopt(trim_threshold, 2**30)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's global generators start from `seed` inside and are put back afterwards: nothing leaks either way."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield


def resident(dataset: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (N, H, W, C) uint8 and labels (N,) int64 on the device.

    On a CPU they are the data set's own memory map. On a GPU they are uploaded once per process and data set, and
    shared by the trials that follow.
    """
    images, labels = torch.from_numpy(dataset.images), torch.from_numpy(dataset.labels)
    if device.type == "cpu":
        return images, labels
    key = (dataset.hash, str(device))
    if key not in _resident:
        while len(_resident) >= RESIDENT:
            del _resident[next(iter(_resident))]
        _resident[key] = (images.to(device), labels.to(device))
    return _resident[key]


def forget() -> None:
    """Give up what was uploaded."""
    _resident.clear()


def evaluation_batch(device: torch.device, shape: tuple[int, ...]) -> int:
    """Images at a time without gradients; shape: (N, H, W, C). A CPU likes what stays in its caches."""
    if device.type == "cpu":
        return EVALUATION_BATCH
    return max(32, EVALUATION_PIXELS // (shape[1] * shape[2]))


def spare_memory(device: torch.device) -> int:
    """Bytes that one trial may keep beside its network and the data, with as much left free for every other trial.

    On a CPU there may be a trial for every few cores, as many as they have threads; on a GPU up to four are assumed.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 8
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system says
        free = 2**31
    trials = max(1, (os.cpu_count() or 1) // torch.get_num_threads())
    return free // (2 * trials)


def peak_memory(device: torch.device) -> int:
    """Bytes: on a GPU, allocated by torch since the trial began; on a CPU, of the process since it started."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
