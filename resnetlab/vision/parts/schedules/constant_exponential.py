"""Constant at first, then exponentially down."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from resnetlab.builtin import BuiltIn

END = 0.01  # what it falls to by the end of the run


def constant_exponential(
    done: float,
    *,
    constant_part: Annotated[
        float, Field(ge=0.0, lt=1.0, description="constant-exponential: part at the peak rate")
    ] = 0.5,
) -> float:
    """1 for `constant_part`, then exponentially down to 1/100."""
    late = max(0.0, done - constant_part) / (1 - constant_part)
    return float(END**late)


PARTS = (BuiltIn("constant-exponential", constant_exponential),)
