"""Run trials side by side on one GPU for a few seconds and measure them through NVML, for `packing`.

Each trial is a process of its own, as in a sweep: `python -m resnetlab.ray_backend.gpu.probe`, which reads lines of
JSON from stdin and answers with such lines.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from resnetlab.errors import BadRequest
from resnetlab.experiment.source import Source
from resnetlab.ray_backend.gpu.packing import Measurement
from resnetlab.study.own_config import trial_type
from resnetlab.study.parts import Part
from resnetlab.study.trial_config import TrialConfig, of_images
from resnetlab.vision.training.nvml import Gpu, NvmlError

WARM_UP = 2.0  # seconds of steps before the measurement: they load kernels and capture the step
SECONDS = 5.0  # of steps that are measured
TIMEOUT = 600.0  # seconds within which a measurement must end


class Meter(Protocol):
    """Reads a GPU. memory: bytes used and bytes in all; busy: share of the time in which it worked, just before."""

    def memory(self) -> tuple[int, int]: ...
    def busy(self) -> float | None: ...


class Nvml:
    """Reads the GPU that Ray gave this process. BadRequest if NVML is missing or does not report its memory."""

    def __init__(self) -> None:
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        try:
            self._gpu = Gpu(first)
        except NvmlError as error:
            if error.absent:
                raise BadRequest("resources.gpus: auto needs NVML, which is not here (allowed: a number)") from None
            raise BadRequest(f"resources.gpus: auto: NVML does not know GPU {first} ({error}); give a number") from None

    def memory(self) -> tuple[int, int]:
        try:
            return self._gpu.memory()
        except NvmlError as error:
            raise BadRequest(f"resources.gpus: auto: NVML does not tell the memory ({error}); give a number") from None

    def busy(self) -> float | None:
        try:
            return self._gpu.busy()
        except NvmlError:
            return None


def side_by_side(
    trials: int, message: Mapping[str, Any], meter: Callable[[], Meter] = Nvml, seconds: float = SECONDS
) -> Measurement:
    """Run `trials` processes of one trial and measure them.

    message: what `main` reads first: config, cache, device, threads, parts and code. seconds: of measured steps.
    """
    gpu = meter()
    before, total = gpu.memory()
    command = [sys.executable, "-m", "resnetlab.ray_backend.gpu.probe"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # Ray ships the code elsewhere
    common: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    processes = [subprocess.Popen(command, **common) for _ in range(trials)]
    try:
        for process in processes:
            _send(process, message)
        for process in processes:
            _receive(process)  # ready
        for process in processes:
            _send(process, {"seconds": seconds})
        busy, held, until = [], before, time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.05)
            held = max(held, gpu.memory()[0])
            if (now := gpu.busy()) is not None:
                busy.append(now)
        rates = [_receive(process)["rate"] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    utilisation = statistics.fmean(busy[len(busy) // 4 :]) if busy else None  # NVML's samples lag behind
    memory = max(1, (held - before) // trials)
    return Measurement(trials, sum(rates), memory, total, used=before, utilisation=utilisation)


def _send(process: subprocess.Popen[str], message: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(dict(message)) + "\n")
    process.stdin.flush()


def _receive(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BadRequest(
            "resources.gpus: auto: a trial that was run to measure it ended early; its output is in logs/ray.log"
        )
    return dict(json.loads(line))


class RayProbe:
    """Measures on a node with a GPU, which Ray chooses; `tick` is called while it does.

    cpus: of a trial, which sets its number of threads. code: the study's own code. how: options of `side_by_side`.
    """

    def __init__(
        self,
        config: TrialConfig,
        cache: Path,
        cpus: float,
        device: str = "cuda",
        code: Source | None = None,
        tick: Callable[[], None] = lambda: None,
        **how: Any,
    ):
        config = config.model_copy(update={"weights": "none"})  # initial weights do not change the cost
        self._message = {
            "config": config.model_dump(mode="json"),
            "cache": str(cache),
            "device": device,
            "threads": max(1, int(cpus)),
            "parts": [part.model_dump(mode="json") for part in config.own.parts],
            "code": None if code is None else {"files": dict(code.files), "folder": code.folder},
        }
        self._tick, self._how = tick, how

    def __call__(self, trials: int) -> Measurement:
        import ray

        task = ray.remote(num_gpus=1, num_cpus=1, max_retries=0)(side_by_side)
        answer, until = task.remote(trials, self._message, **self._how), time.monotonic() + TIMEOUT
        while not ray.wait([answer], timeout=1.0)[0] and time.monotonic() < until:
            self._tick()
        try:
            measured: Measurement = ray.get(answer, timeout=0.1)
            return measured
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, BadRequest):
                raise error.cause from None
            raise BadRequest(f"resources.gpus: auto: could not be measured: {str(error).splitlines()[-1]}") from None
        except ray.exceptions.GetTimeoutError:
            raise BadRequest(f"resources.gpus: auto: no GPU answered for {TIMEOUT:.0f} s; give a number") from None


def main() -> None:
    """Train one trial as the parent process directs: warm up, print that it is ready, then print its images/s."""
    from resnetlab.vision.data import prepare
    from resnetlab.vision.training.loop import Training

    message = json.loads(sys.stdin.readline())
    cache, code = Path(message["cache"]), message.get("code")
    folder = Source(**code).unpack(cache / "code") if code else None
    parts = tuple(Part(**part) for part in message.get("parts", ()))
    config = of_images(trial_type(parts).model_validate(message["config"]))
    training = Training(config, prepare(config.data, cache), message["device"], message["threads"], code=folder)
    training.rehearse(WARM_UP)
    print(json.dumps({"ready": True}), flush=True)
    seconds = json.loads(sys.stdin.readline())["seconds"]
    print(json.dumps({"rate": training.rehearse(seconds)}), flush=True)


if __name__ == "__main__":
    main()
