"""NVML, the management library of NVIDIA's driver: memory, use and energy of one GPU."""

from __future__ import annotations

from typing import Any


class NvmlError(Exception):
    """NVML does not answer. absent: because it is not here at all."""

    def __init__(self, message: str, absent: bool = False):
        super().__init__(message)
        self.absent = absent


class Gpu:
    """One GPU. name: its index among all GPUs of this machine, or its UUID, as `GPU-…`. Raises NvmlError."""

    def __init__(self, name: str):
        import pynvml  # where there is a GPU alone

        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError_LibraryNotFound as error:
            raise NvmlError(str(error), absent=True) from None
        except pynvml.NVMLError as error:
            raise NvmlError(str(error)) from None
        find = pynvml.nvmlDeviceGetHandleByIndex if name.isdigit() else pynvml.nvmlDeviceGetHandleByUUID
        self._handle = self._ask(find, int(name) if name.isdigit() else name)

    def memory(self) -> tuple[int, int]:
        """Bytes used, by whatever process, and bytes in all."""
        found = self._ask(self._nvml.nvmlDeviceGetMemoryInfo, self._handle)
        return int(found.used), int(found.total)

    def busy(self) -> float:
        """Share of the last sample period in which the GPU worked."""
        return float(self._ask(self._nvml.nvmlDeviceGetUtilizationRates, self._handle).gpu) / 100

    def joules(self) -> float:
        """Energy of the whole device since its driver was loaded."""
        return float(self._ask(self._nvml.nvmlDeviceGetTotalEnergyConsumption, self._handle)) / 1000

    def _ask(self, call: Any, of: Any) -> Any:
        try:
            return call(of)
        except self._nvml.NVMLError as error:
            raise NvmlError(str(error)) from None
