"""One cycle (Smith & Topin 2018, arXiv:1708.07120), with the shape and the ends of torch's OneCycleLR."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from resnetlab.builtin import BuiltIn
from resnetlab.vision.parts.schedules.cosine import half_wave

START = 1 / 25  # multiplier at the first step
END = START / 1e4  # and at the end


def one_cycle(
    done: float,
    *,
    warmup_part: Annotated[float, Field(ge=0.0, lt=1.0, description="one-cycle: part of the run that rises")] = 0.3,
) -> float:
    """1/25 rising to 1 over `warmup_part`, then falling to 1/250,000, both by half a cosine wave. Momentum stays."""
    if done < warmup_part:
        return half_wave(START, 1.0, done / warmup_part)
    return half_wave(1.0, END, (done - warmup_part) / (1 - warmup_part))


PARTS = (BuiltIn("one-cycle", one_cycle),)
