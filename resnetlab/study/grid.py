"""The combinations of levels that a study's factors have: what a grid runs, and how many trials differ at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from resnetlab.study.seeding import stream
from resnetlab.study.space import Space

MOST = 100_000  # combinations that are looked at


def combinations(space: Space, integers: bool = False) -> list[dict[str, Any]]:
    """Every combination of levels, without the factors that are inactive in it. ValueError for more than `MOST`, or
    where a factor that is active is a range; integers: of other numbers than integers."""
    found: list[dict[str, Any]] = [{}]
    for factor in space.factors:
        grown: list[dict[str, Any]] = []
        for point in found:
            index = factor.branch(point)
            if index is None:
                grown.append(point)
                continue
            branch = factor.branches[index]
            levels = branch.levels
            if levels is None and integers and branch.integer and branch.high - branch.low < MOST:  # type: ignore[operator]
                levels = tuple(range(int(branch.low), int(branch.high) + 1))  # type: ignore[arg-type]
            if levels is None:
                raise ValueError(f"grid needs levels, but factors.{factor.name} is a range")
            grown += [point | {factor.name: level} for level in levels]
            if len(grown) > MOST:
                raise ValueError(f"a grid of these factors has more than {MOST:,} combinations (allowed: {MOST:,})")
        found = grown
    return found


def grid(
    space: Space, baseline: Mapping[str, Any], feasible: Callable[[Mapping[str, Any]], bool], seed: int
) -> list[dict[str, Any]]:
    """The combinations that can be run in an order drawn by the study's `seed`, the baseline first. ValueError as of
    `combinations`."""
    points = [point for point in combinations(space) if feasible(point)]
    random.Random(stream(seed, "grid")).shuffle(points)
    return [dict(baseline), *(point for point in points if point != baseline)]
