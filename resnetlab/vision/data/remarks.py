"""What people should know of a dataset before they believe what was measured on it, as lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

import numpy as np

from resnetlab.vision.data import near_duplicates
from resnetlab.vision.data.dataset import Dataset, some
from resnetlab.vision.data.folder.tracks import tracks_said
from resnetlab.vision.data.split import SPLITS, thinned

LONG = {"train": "training", "val": "validation", "test": "test"}


def remarks(dataset: Dataset, seed: int, fractions: Sequence[float] = ()) -> Iterator[str]:
    """Images that were changed in reading, and classes without images.

    Args:
        dataset: the data, opened.
        seed: the split seed.
        fractions: the values of data_fraction that trials may have; the smallest counts.
    """
    if changes := dataset.notes.get("changes"):
        yield changed(changes, len(dataset.images))
    yield from _absent(dataset, seed, min([1.0, *fractions]))


def doubts(dataset: Dataset, seed: int, names: Sequence[str] = (), photographs: bool = False) -> Iterator[str]:
    """What lets test accuracy say less than it seems to: images that occur again in another split or class, and names
    that look like frames of sequences.

    names: of the files, by image. photographs: look for images that are nearly those of another split, too; drawings
    of one thing are nearly the same without being copies.
    """
    same = same_images(dataset)
    yield from _repeated(dataset, seed, same)
    if photographs and min(dataset.shape[:2]) >= near_duplicates.LEAST:
        yield from _nearly(dataset, seed, same, names)
    if names and dataset.groups is None:
        yield from tracks_said(names, [dataset.classes[label] for label in dataset.labels.tolist()])


def changed(changes: Mapping[str, int], images: int) -> str:
    """`not read as it lies in the files: CMYK converted to RGB (3 of 24 images); …`, from how many were so changed."""
    parts = [f"{what} ({number:,} of {images:,} images)" for what, number in changes.items()]
    return f"not read as it lies in the files: {'; '.join(parts)}"


def _absent(dataset: Dataset, seed: int, fraction: float) -> Iterator[str]:
    """Classes that lack images in a split."""
    for name in SPLITS:
        index, why = dataset.split(name, seed), ""
        if name == "train":
            limit = dataset.config.limit
            why = f", with limit: {limit}" if limit == len(index) else ""
            if fraction < 1:
                index = index[thinned(dataset.labels[index], fraction, seed)]
                why += f", with data_fraction: {fraction}"
        held = np.bincount(dataset.labels[index], minlength=dataset.n_classes)
        lacking = [dataset.classes[number] for number in np.flatnonzero(held == 0)]
        if lacking:
            number = len(lacking)
            yield (
                f"{number:,} of {dataset.n_classes:,} classes {'has' if number == 1 else 'have'} no {LONG[name]} "
                f"image{why}: {some(lacking)}"
            )


def _nearly(dataset: Dataset, seed: int, same: np.ndarray, names: Sequence[str]) -> Iterator[str]:
    """Images that are nearly one of another split. same: as of `same_images`, for those that are not said again."""
    splits = {name: dataset.split(name, seed) for name in SPLITS}
    hashed = near_duplicates.hashes(dataset.images)
    for name, others in (("val", ("train",)), ("test", ("train", "val"))):
        for other in others:
            pairs = near_duplicates.near(dataset.images, hashed, splits[name], splits[other])
            pairs = pairs[(same[pairs[:, 0]] < 0) | (same[pairs[:, 0]] != same[pairs[:, 1]])]
            if number := len(np.unique(pairs[:, 0])):
                one, twin = (names[at] if names else f"image {at}" for at in pairs[0].tolist())
                yield (
                    f"{number:,} of {len(splits[name]):,} {LONG[name]} images {'is' if number == 1 else 'are'} nearly "
                    f"the same as {LONG[other]} images (by perceptual hash; e.g. {one} and {twin})"
                )


def _repeated(dataset: Dataset, seed: int, group: np.ndarray) -> Iterator[str]:
    """Images that are identical, pixel by pixel, to one of another split or another class. group: of `same_images`."""
    splits = {name: dataset.split(name, seed) for name in SPLITS}
    for name, others in (("val", ("train",)), ("test", ("train", "val"))):
        ours = group[splits[name]]
        for other in others:
            shared = int(np.isin(ours[ours >= 0], group[splits[other]]).sum())
            if shared:
                yield (
                    f"{shared:,} of {len(ours):,} {LONG[name]} images {'is' if shared == 1 else 'are'} identical to "
                    f"{LONG[other]} images"
                )
    pairs = np.unique(np.stack([group, dataset.labels])[:, group >= 0], axis=1)
    groups, classes = np.unique(pairs[0], return_counts=True)
    if mixed := groups[classes > 1].tolist():
        names = [dataset.classes[number] for number in pairs[1][pairs[0] == mixed[0]]]
        yield (
            f"{len(mixed):,} image{'s occur' if len(mixed) > 1 else ' occurs'} under more than one class, e.g. one of "
            f"{some(names)}"
        )


def same_images(dataset: Dataset) -> np.ndarray:
    """(N,) int64: equal for images that are identical, -1 for one that has no twin.

    Only images whose sums of pixels and of squares agree are read and compared.
    """
    moments = dataset.moments.reshape(len(dataset.images), -1).astype(np.uint64)
    mixed = np.zeros(len(moments), np.uint64)
    for column in moments.T:  # a column at a time: rows are slow to sort
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    _, inverse, counts = np.unique(mixed, return_inverse=True, return_counts=True)
    group = np.full(len(moments), -1, np.int64)
    first: dict[bytes, int] = {}
    for number in np.flatnonzero(counts[inverse] > 1).tolist():
        earlier = first.setdefault(blake2b(dataset.images[number], digest_size=16).digest(), number)
        if earlier != number:
            group[earlier] = group[number] = earlier
    return group
