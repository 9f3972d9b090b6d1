"""What training asks of the process and the device: threads, arithmetic, allocator, random streams, memory, data."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from resnetlab.errors import BadRequest
from resnetlab.vision.models.blocks import StridedPointwise

MALLOC = {"mmap_threshold": 32 * 2**20, "trim_threshold": 2**30}  # bytes; the first is the most that glibc accepts
_MALLOC_OPTIONS = {"mmap_threshold": -3, "trim_threshold": -1}
EVALUATION_BATCH = 100  # images at a time on a CPU
EVALUATION_PIXELS = 2**20  # and pixels at a time on a GPU: 1024 images of 32x32
RESIDENT = 2  # data sets kept on a device at a time: a target task and its source
# torch 2.9 says so of the older of two names of one switch, each of which some part of torch reads.
warnings.filterwarnings("ignore", message="Please use the new API settings to control TF32")
_resident: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}


def prepare(threads: int, precision: str = "fp32", deterministic: bool = False) -> None:
    """Take exactly `threads` threads and set every switch that changes numbers, whatever anyone set before."""
    torch.set_num_threads(threads)  # also where they are as many: MKL then takes no fewer when the machine is busy
    keep_memory()
    backends: Any = torch.backends  # typed in part
    products = "tf32" if precision == "tf32" else "ieee"
    backends.cudnn.allow_tf32 = products == "tf32"  # by its older name too, or torch.export finds the two at odds
    for family in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):  # cudnn wants one for both
        family.fp32_precision = products
    backends.mkldnn.matmul.fp32_precision = backends.mkldnn.conv.fp32_precision = "ieee"
    backends.cudnn.benchmark = False  # it would choose algorithms by a race, and cost every new shape its time
    backends.cudnn.deterministic = deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what torch demands before it promises anything
    if deterministic or "torch._inductor" in sys.modules:
        torch.use_deterministic_algorithms(deterministic)
    else:  # the same for everything but what torch.compile makes, and it imports no compiler
        torch.set_deterministic_debug_mode("default")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads what it has not written


def check_precision(precision: str, device: torch.device) -> None:
    """BadRequest where the device cannot compute in `precision`."""
    if precision == "tf32" and (device.type != "cuda" or torch.version.hip):
        kind = "GPU of AMD" if device.type == "cuda" else device.type
        raise BadRequest(f"precision=tf32 needs a GPU of NVIDIA, this is a {kind} (allowed: fp32, bf16)")
    nvidia = device.type == "cuda" and not torch.version.hip
    if precision != "fp32" and nvidia and torch.cuda.get_device_capability(device) < (8, 0):
        raise BadRequest(f"precision={precision}: {torch.cuda.get_device_name(device)} lacks it (allowed: fp32)")


def memory_format(model: nn.Module, device: torch.device) -> torch.memory_format:
    """How `model`, and the maps that it is given, lie in memory: channels_last, which is faster, where it is sound.

    oneDNN without AVX-512 does not compute the weights' gradient of a strided 1x1 convolution with fewer than 8 input
    channels (in each of its groups) in channels_last: it writes beyond its memory, or gives other numbers. A network
    that has one is laid out contiguously there, where it is right. The networks of `models` have none.
    `tests/kernels/search.py` looks for more of the kind.
    """
    if device.type == "cpu" and not _avx512() and any(map(_narrow_strided_pointwise, model.modules())):
        return torch.contiguous_format
    return torch.channels_last


def _avx512() -> bool:
    """True where oneDNN computes with AVX-512: the CPU has it, and ONEDNN_MAX_CPU_ISA does not forbid it."""
    most = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "DEFAULT")).upper()
    capped = most not in ("", "ALL", "DEFAULT") and not most.startswith(("AVX512", "AVX10"))
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and not capped


def _narrow_strided_pointwise(module: nn.Module) -> bool:
    """True for a 1x1 convolution that strides through its whole input, with fewer than 8 channels in each group."""
    if not isinstance(module, nn.Conv2d) or isinstance(module, StridedPointwise):
        return False
    return set(module.kernel_size) == {1} and set(module.stride) != {1} and module.in_channels < 8 * module.groups


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Around a forward pass: bf16 where that is the precision, and nothing of what anyone else has switched on."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)


@cache
def keep_memory() -> dict[str, int] | None:
    """Raise glibc's thresholds so that activations are not given back to the system and faulted in again every step.

    Returns what was set, in bytes; None where the C library has no `mallopt` or refuses. Nothing is computed
    differently either way.
    """
    mallopt = _libc("mallopt")
    if mallopt is None:
        return None
    taken = [mallopt(_MALLOC_OPTIONS[name], size) for name, size in MALLOC.items()]
    return MALLOC if all(taken) else None


@cache
def _libc(name: str) -> Callable[..., int] | None:
    """A function of glibc; None where the C library is another."""
    if sys.platform != "linux":
        return None
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
        return found
    except (OSError, AttributeError):
        return None


def give_back(device: torch.device) -> None:
    """Return what the trial before has freed: between its blocks the heap would keep it, and another trial's sizes do
    not fit there. 2 ms; without it a worker grows with every new kind of network."""
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()  # graph and all: others may share the device
    trim = _libc("malloc_trim")
    if trim is not None:
        trim(0)


def settings() -> dict[str, Any]:
    """What this process was started with and has set, for the trial's record."""
    return {name.lower(): os.environ.get(name) for name in ("OMP_WAIT_POLICY", "MKL_CBWR")} | {"malloc": keep_memory()}


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's global generators start from `seed` inside and are put back afterwards: nothing leaks either way."""
    kept = [device] if device.type in ("cuda", "xpu") else []
    with torch.random.fork_rng(devices=kept, device_type=device.type if kept else "cuda"):
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
        _resident[key] = (upload(images, device), upload(labels, device))
    return _resident[key]


def forget() -> None:
    """Give up what was uploaded."""
    _resident.clear()


def upload(values: Tensor, device: torch.device) -> Tensor:
    """On the device, without waiting for it where that is CUDA: through pinned memory."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def sums_type(device: torch.device) -> torch.dtype:
    """In which losses are summed up: float64, but on MPS, which has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def evaluation_batch(device: torch.device, shape: tuple[int, ...]) -> int:
    """Images at a time without gradients; shape: (N, H, W, C). A CPU likes what stays in its caches."""
    if device.type == "cpu":
        return EVALUATION_BATCH
    return max(32, EVALUATION_PIXELS // (shape[1] * shape[2]))


def spare_memory(device: torch.device) -> int:
    """Bytes that one trial may keep beside its network and the data, with as much left free for every other trial.

    On a CPU there may be a trial for every few cores, as many as they have threads, and on a Mac, whose GPU shares the
    memory; on another GPU up to four are assumed.
    """
    if device.type in ("cuda", "xpu"):
        return int(torch.get_device_module(device).mem_get_info(device)[0]) // 8
    trials = max(1, (os.cpu_count() or 1) // torch.get_num_threads())
    return int(psutil.virtual_memory().available) // (2 * trials)


def begin_peak(device: torch.device) -> None:
    """Start to measure the peak of memory anew, where a device keeps one."""
    if device.type in ("cuda", "xpu"):
        torch.get_device_module(device).reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Bytes: on a GPU, allocated by torch since the trial began (with MPS, which keeps no peak, at this moment); on a
    CPU, of the process since it started."""
    if device.type == "mps":
        return torch.mps.current_allocated_memory()
    if device.type != "cpu":
        return int(torch.get_device_module(device).max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
