"""Format counts, durations and levels for the terminal, for errors and for the report."""

from __future__ import annotations

import re
from typing import Any


def plural(n: int | float, noun: str) -> str:
    """`1 epoch`, `2 epochs`, `1,000 epochs`, `0.5 CPUs`. noun: in the singular, with a plural in -s."""
    number = f"{n:g}" if isinstance(n, float) else f"{n:,}"
    return f"{number} {noun}" if n == 1 else f"{number} {noun}s"


def duration(seconds: float, tenths: bool = False) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`. tenths: below ten seconds show `0.8 s`."""
    if tenths and seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def seconds_of(text: str) -> float:
    """Seconds of a duration as people write it: `90s`, `40m`, `1h30m`.

    Raises:
        ValueError: it is written otherwise, or is 0.
    """
    found = _DURATION.fullmatch(text.replace(" ", ""))
    hours, minutes, seconds = (float(part or 0) for part in found.groups()) if found else (0.0, 0.0, 0.0)
    whole = 3600 * hours + 60 * minutes + seconds
    if not whole:
        raise ValueError(f"{text!r} is no duration (allowed: hours, minutes and seconds, such as 90s, 40m or 1h30m)")
    return whole


def level_text(level: Any) -> str:
    """A level as users write it in a study file."""
    return {True: "on", False: "off"}[level] if isinstance(level, bool) else f"{level}"


def natural(name: str) -> tuple[Any, ...]:
    """Sorts numbers in names as numbers, before letters: 2, 10, a."""
    parts = filter(None, re.split(r"(\d+)", name))
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)
