"""Half a cosine wave from 1 to 0."""

from math import cos, pi

from resnetlab.builtin import BuiltIn


def cosine(done: float) -> float:
    return half_wave(1.0, 0.0, done)


def half_wave(start: float, end: float, part: float) -> float:
    """From `start` to `end` as `part` goes from 0 to 1."""
    return end + (start - end) * (1 + cos(pi * part)) / 2


PARTS = (BuiltIn("cosine", cosine),)
