"""Which of two levels is the one asked about: what a difference is called, whatever incumbent the search finds.

Two runs of one study can end with different incumbents. Were each comparison "the other level less the incumbent's",
its name and sign would change with it. So they follow the study file: hypotheses as they are written, else the
baseline's level is the reference, else (where the design leaves that one out) the level that the file names first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from resnetlab.study import Study
from resnetlab.study.frozen import Frozen


class Swap(Frozen):
    """One comparison: `level` in place of `reference`."""

    factor: str
    level: Any
    reference: Any


def around(centre: Mapping[str, Any], compared: Mapping[str, Sequence[Any]]) -> list[Swap]:
    """Each alternative level against that of the design's centre: how plans without an orientation of their own, and
    runs that were made elsewhere, are compared."""
    return [
        Swap(factor=factor, level=level, reference=centre[factor])
        for factor, levels in compared.items()
        for level in levels
    ]


def as_written(study: Study, centre: Mapping[str, Any], compared: Mapping[str, Sequence[Any]]) -> list[Swap]:
    """The same levels of the same factors, oriented by the study file."""
    there = {factor: [centre[factor], *levels] for factor, levels in compared.items()}
    return [swap for factor, levels in there.items() for swap in _of_factor(study, factor, levels)]


def _of_factor(study: Study, factor: str, there: Sequence[Any]) -> Iterator[Swap]:
    ordered = [level for level in study.space[factor].levels if _among(level, there)]
    baseline = study.baseline_values().get(factor)
    reference = baseline if baseline is not None and _among(baseline, ordered) else ordered[0]
    written = [(found.level, found.reference) for found in study.declared if found.factor == factor]
    for level in ordered:
        if level == reference:
            continue
        one, other = level, reference
        if next((pair for pair in written if set(pair) == {level, reference}), (one, other)) == (other, one):
            one, other = other, one
        yield Swap(factor=factor, level=one, reference=other)


def _among(level: Any, levels: Sequence[Any]) -> bool:
    return any(level == other for other in levels)


def triples(oriented: Iterable[Swap]) -> list[tuple[str, Any, Any]]:
    """(factor, level, reference) of each, as names of contrasts are made of."""
    return [(found.factor, found.level, found.reference) for found in oriented]
