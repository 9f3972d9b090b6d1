"""The dataset that trials train on: images and labels as arrays, three disjoint splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np

from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data.cache import Entry
from resnetlab.vision.data.source import Contents
from resnetlab.vision.data.split import SPLITS, draw_splits

NAMED = 4  # things that a message lists


class Dataset:
    """All images of one source with one of its labels.

    images: (N, H, W, C) uint8, memory-mapped where it comes from the cache: processes of one machine share its pages.
    labels: (N,) int64, numbers into `classes`.
    hash: 16 hexadecimal digits over images, labels, fixed splits, class names and the choice of label.
    moments: (N, 2, C) int64, each image's sum of pixels and sum of squares.
    groups: (N,) int64, equal for images that drawn splits keep together; None where each is by itself.
    notes: what the source wants people to know, e.g. which fonts it left out and why.
    unchanged(): False where the cache's file was written to, cut or replaced since it was opened.
    """

    def __init__(self, entry: Entry, label: str, config: DataConfig) -> None:
        self.images: np.ndarray = entry.images
        self.labels, self.classes = entry.contents.labels[label]
        self.hash: str = blake2b(f"{entry.hash} {label}".encode(), digest_size=8).hexdigest()
        self.notes = entry.contents.notes
        self.groups = entry.contents.groups
        self.unchanged = entry.unchanged
        self.config = config
        self._strata = [labels for labels, _ in entry.contents.labels.values()]
        self._fixed = entry.contents.fixed
        self.moments = entry.moments
        self._splits: dict[int, dict[str, np.ndarray]] = {}

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray,
        labels: np.ndarray,
        classes: Sequence[str],
        fixed: Mapping[str, np.ndarray] | None = None,
        config: DataConfig | None = None,
        groups: np.ndarray | None = None,
    ) -> Dataset:
        """A dataset in memory.

        images: (N, H, W, C) uint8; labels: (N,) ints into `classes`; fixed: `val` and `test` (n,) where they are not to
        be drawn; config: the fractions and the limit; groups: (N,) ints, equal for images that drawn splits keep
        together. ValueError where these do not fit together.
        """
        splits = {name: np.asarray(index, np.int64) for name, index in (fixed or {}).items()}
        contents = Contents(
            {"class": (np.asarray(labels, np.int64), tuple(classes))},
            splits,
            groups=None if groups is None else np.asarray(groups, np.int64),
        )
        return cls(Entry.of(images, contents), "class", config or DataConfig(name="folder"))

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of each image."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    @property
    def prescribed(self) -> frozenset[str]:
        """The splits that the source itself prescribes, whatever the seed: of val and test."""
        return frozenset(self._fixed)

    def split(self, name: str, seed: int) -> np.ndarray:
        """(n,) int64 sorted: the images of split `name` (train, val or test) under the split seed `seed`.

        Drawn splits are stratified by the source's first label, whichever label is trained on: glyphs have the same
        splits for `character` and `font`, so that what was a test image stays one when a network moves between them.
        BadData where a split would be empty.
        """
        if name not in SPLITS:
            raise KeyError(f"{name!r} is not a split ({', '.join(SPLITS)})")
        if seed not in self._splits:
            self._splits[seed] = draw_splits(self._strata, self._fixed, self.config, seed, self.groups)
        return self._splits[seed][name].copy()

    def statistics(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (C,) float32 of the training split's pixels, in [0, 1] scale.

        From sums kept with each image, so that no image is read. The deviation is at least one grey level: dividing by
        it is safe for a constant channel.
        """
        index = self.split("train", seed)
        pixels = len(index) * self.shape[0] * self.shape[1]
        mean, square = self.moments[index].sum(axis=0) / pixels
        std = np.sqrt(np.maximum(square - mean**2, 1.0))
        return (mean / 255).astype(np.float32), (std / 255).astype(np.float32)


def changes(then: Sequence[str], now: Sequence[str]) -> str:
    """How one list of class names became the other: `1 are gone: x; 2 are new: y, z`; nothing where they are equal."""
    if list(then) == list(now):
        return ""
    gone, new = sorted(set(then) - set(now)), sorted(set(now) - set(then))
    parts = [f"{len(names)} are {word}: {some(names)}" for names, word in ((gone, "gone"), (new, "new")) if names]
    return "; ".join(parts) or "in another order"


def some(names: Sequence[str]) -> str:
    """The first few, as messages list them."""
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
