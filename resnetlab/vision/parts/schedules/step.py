"""A drop after each further part of the run."""

from __future__ import annotations

from math import floor
from typing import Annotated

from pydantic import Field

from resnetlab.builtin import BuiltIn


def step(
    done: float,
    *,
    step_at: Annotated[float, Field(gt=0.0, lt=1.0, description="step: part of the run between two drops")] = 0.5,
    step_factor: Annotated[float, Field(ge=0.0, lt=1.0, description="step: multiply by this at each drop")] = 0.1,
) -> float:
    """1, times `step_factor` after each `step_at` of the run."""
    return float(step_factor ** floor(done / step_at + 1e-9))  # 0.3 / 0.1 is just below 3


PARTS = (BuiltIn("step", step),)
