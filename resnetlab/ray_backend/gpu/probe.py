"""Trials side by side on one GPU for a few seconds, watched through NVML: what `share` decides from.

Each trial is a process of its own, as in the sweep: `python -m resnetlab.ray_backend.gpu.probe`, told by lines of JSON.
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
from resnetlab.ray_backend.gpu.packing import Seen
from resnetlab.study.parts import Part
from resnetlab.study.trial_config import TrialConfig, of_images, trial_type
from resnetlab.vision.training.nvml import Gpu, NvmlError

SECONDS = 5.0  # of steps that are measured, after the first ones, which load kernels and capture the step
WARM = 2.0
PATIENCE = 600.0  # seconds until all are ready


class Meter(Protocol):
    """memory: bytes used and bytes in all. busy: share of the time in which the GPU worked, a moment ago."""

    def memory(self) -> tuple[int, int]: ...
    def busy(self) -> float | None: ...


class Nvml:
    """The GPU that Ray gave this process. BadRequest where NVML does not tell what is asked."""

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
) -> Seen:
    """Run `trials` processes of one trial. message: `config`, `cache`, `device`, `threads`."""
    watched = meter()
    before, total = watched.memory()
    command = [sys.executable, "-m", "resnetlab.ray_backend.gpu.probe"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # the code came with the job
    common: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    processes = [subprocess.Popen(command, **common) for _ in range(trials)]
    try:
        for process in processes:
            _tell(process, dict(message))
        for process in processes:
            _hear(process)  # ready
        for process in processes:
            _tell(process, {"seconds": seconds})
        busy, held, until = [], before, time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.05)
            held = max(held, watched.memory()[0])
            if (now := watched.busy()) is not None:
                busy.append(now)
        rates = [_hear(process)["rate"] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    utilisation = statistics.fmean(busy[len(busy) // 4 :]) if busy else None  # NVML's samples lag behind
    memory = max(1, (held - before) // trials)
    return Seen(trials, sum(rates), memory, total, used=before, utilisation=utilisation)


def _tell(process: subprocess.Popen[str], message: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BadRequest(
            "resources.gpus: auto: a trial that was run to measure it ended; its words are in logs/ray.log"
        )
    return dict(json.loads(line))


class RayRig:
    """Asks a node with a GPU, which Ray chooses; `tick` is called while it answers."""

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
        config = config.model_copy(update={"weights": "none"})  # what it starts from costs the same
        self._message = {
            "config": config.model_dump(mode="json"),
            "cache": str(cache),
            "device": device,
            "threads": max(1, int(cpus)),
            "parts": [part.model_dump(mode="json") for part in config.own.parts],
            "code": None if code is None else {"files": dict(code.files), "folder": code.folder},
        }
        self._tick, self._how = tick, how

    def __call__(self, trials: int) -> Seen:
        import ray

        task = ray.remote(num_gpus=1, num_cpus=1, max_retries=0)(side_by_side)
        answer, until = task.remote(trials, self._message, **self._how), time.monotonic() + PATIENCE
        while not ray.wait([answer], timeout=1.0)[0] and time.monotonic() < until:
            self._tick()
        try:
            seen: Seen = ray.get(answer, timeout=0.1)
            return seen
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, BadRequest):
                raise error.cause from None
            raise BadRequest(f"resources.gpus: auto: could not be measured: {str(error).splitlines()[-1]}") from None
        except ray.exceptions.GetTimeoutError:
            raise BadRequest(f"resources.gpus: auto: no GPU answered for {PATIENCE:.0f} s; give a number") from None


def main() -> None:
    """One trial: its first steps, then as many seconds as asked for."""
    from resnetlab.vision.data import prepare
    from resnetlab.vision.training.loop import Training

    message = json.loads(sys.stdin.readline())
    cache, code = Path(message["cache"]), message.get("code")
    folder = Source(**code).unpack(cache / "code") if code else None
    parts = tuple(Part(**part) for part in message.get("parts", ()))
    config = of_images(trial_type(parts).model_validate(message["config"]))
    training = Training(config, prepare(config.data, cache), message["device"], message["threads"], code=folder)
    training.rehearse(WARM)
    print(json.dumps({"ready": True}), flush=True)
    seconds = json.loads(sys.stdin.readline())["seconds"]
    print(json.dumps({"rate": training.rehearse(seconds)}), flush=True)


if __name__ == "__main__":
    main()
