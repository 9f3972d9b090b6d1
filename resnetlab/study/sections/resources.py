"""The section `resources`: what one trial gets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from resnetlab.study.frozen import Frozen


class Resources(Frozen):
    """What one trial gets. Not part of a study's identity: it changes the speed, not the answer."""

    cpus: float = Field(1.0, gt=0.0, le=4096.0)
    gpus: float | Literal["auto"] = Field(
        0.0, description="0.25 puts four trials on one GPU; auto measures how many are worth it"
    )
    device: Literal["auto", "cpu", "cuda", "rocm", "xpu", "mps"] | None = Field(
        None, description="auto takes a GPU where there is one, else the CPU; by default, gpus decides"
    )
    epoch_timeout_s: float = Field(
        3600.0, gt=0.0, le=1e6, description="seconds that one epoch, with what comes before it, may take"
    )
    allow_slow_bf16: bool = Field(False, description="bf16 also where the CPU computes it in software, slowly")
    compile: bool = Field(False, description="torch.compile the network: seldom worth its seconds of compilation")

    @field_validator("gpus", mode="before")
    @classmethod
    def _gpus(cls, gpus: Any) -> Any:
        number = isinstance(gpus, (int, float)) and not isinstance(gpus, bool)
        if gpus == "auto" or (number and (gpus == 0 or 1e-4 <= gpus <= 1 or (gpus <= 64 and gpus == int(gpus) > 0))):
            return gpus
        shown = f"{gpus:g}" if number else repr(gpus)
        raise ValueError(f"{shown} (allowed: 0, 0.0001 to 1, or auto; whole numbers up to 64 for a task of your own)")

    @model_validator(mode="after")
    def _one_choice(self) -> Resources:
        if self.device == "cpu" and self.gpus:
            raise ValueError(f"device: cpu, but gpus: {self.gpus} (allowed: gpus: 0, or another device)")
        return self

    @property
    def on_gpu(self) -> bool:
        """Whether a trial gets a GPU: always, or, with `device: auto`, where there is one."""
        return bool(self.gpus) or self.device not in (None, "cpu")

    @property
    def needed_gpus(self) -> float:
        """GPUs without which no trial can run, with 1 for a share that is still to be measured."""
        if self.device == "auto" or not self.on_gpu:
            return 0.0
        return self.gpus if isinstance(self.gpus, float) and self.gpus else 1.0

    @property
    def shared(self) -> str:
        """What trials share with each other, which slows them down and makes their times unfit to compare; or ``."""
        if self.gpus == "auto" or 0 < self.gpus < 1:
            return "a GPU"
        return "a CPU core" if self.cpus < 1 else ""
