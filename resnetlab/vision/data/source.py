"""What a reader of one kind of data must offer, and what it hands over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol, runtime_checkable

import numpy as np

Append = Callable[[np.ndarray], None]


@dataclass
class Contents:
    """What a source's images are.

    labels: for each label its numbers (N,) int64 and class names; splits are stratified by the first.
    fixed: the splits that the source itself prescribes (val, test), as image numbers (n,) int64.
    notes: JSON-like, for people. groups: (N,) int64, equal for images that drawn splits keep together; None: for none.
    """

    labels: dict[str, tuple[np.ndarray, tuple[str, ...]]]
    fixed: dict[str, np.ndarray] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    groups: np.ndarray | None = None

    def check(self, n: int) -> None:
        """ValueError where this cannot describe `n` images."""
        for name, (labels, classes) in self.labels.items():
            if labels.shape != (n,) or not n or labels.min() < 0 or labels.max() >= len(classes):
                raise ValueError(f"label {name!r}: need {n} numbers from 0 to {len(classes) - 1}")
        taken = np.concatenate([np.empty(0, np.int64), *self.fixed.values()])
        if not self.fixed.keys() <= {"val", "test"}:
            raise ValueError(f"fixed splits can be val and test, got {sorted(self.fixed)}")
        if len(np.unique(taken)) != len(taken) or (len(taken) and (taken.min() < 0 or taken.max() >= n)):
            raise ValueError(f"fixed splits must be disjoint image numbers below {n}")
        if self.groups is not None and self.groups.shape != (n,):
            raise ValueError(f"need a group for each of {n} images, got {self.groups.shape}")

    def digest(self) -> str:
        """16 hexadecimal digits over labels, class names, fixed splits, and groups where there are any."""
        state = blake2b(digest_size=8)
        for name, (labels, classes) in self.labels.items():
            state.update(repr((name, labels.shape, classes)).encode())
            state.update(labels.astype("<i8").tobytes())
        for name, index in sorted(self.fixed.items()):
            state.update(repr((name, index.shape)).encode())
            state.update(index.astype("<i8").tobytes())
        if self.groups is not None:
            state.update(self.groups.astype("<i8").tobytes())
        return state.hexdigest()


@runtime_checkable
class Named(Protocol):
    """A source whose images are files, or frames of something."""

    def names(self, notes: Mapping[str, Any]) -> tuple[list[str], list[str] | None]:
        """Of each image that was decoded, in order: its path, and the name of its group where there are groups.

        notes: those that `write` left. Raises as `check` does.
        """


class Source(Protocol):
    """A reader of one kind of data. `label` is the chosen one of `labels`. Its settings are declared by its file in
    `vision.parts.datasets`."""

    labels: tuple[str, ...]
    label: str

    def check(self) -> None:
        """BadRequest or BadData for what can be found at once."""

    def fetch(self) -> None:
        """Get the source's files, where they are absent and that was asked for."""

    def fingerprint(self) -> Any:
        """A JSON-like value that differs wherever the decoded arrays may."""

    def remarks(self, notes: Mapping[str, Any]) -> list[str]:
        """Lines for people about the files as they lie now: which are read, and which are passed over.

        notes: those that `write` left when the data was decoded. Raises as `check` does.
        """

    def write(self, append: Append) -> Contents:
        """Decode: hand over all images in order, in chunks (n, H, W, C) uint8, then say what they are.

        Turns every failure to read the source into BadData, but lets what `append` raises pass.
        """
