"""Images that are nearly those of another split: scaled, recoloured or compressed anew.

Perceptual hashes (Zauner 2010: the signs of the lowest 8×8 frequencies of a discrete cosine transform against their
median) find candidates, whose grey pixels must then correlate. The two limits were set on CIFAR-10, in which Barz and
Denzler (2020, J. Imaging 6:41) found near duplicates by eye.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

LEAST = 16  # pixels a side: smaller images are alike by chance
FREQUENCIES = 8  # of each axis
BITS = FREQUENCIES**2
DISTANCE = 4  # bits in which two hashes may differ
BANDS = DISTANCE + 1  # of bits: two hashes so near are equal in one of them
CORRELATION = 0.85  # of the grey pixels of two images
CHUNK = 1024  # images that are read at a time
PAIRS = 1 << 20  # candidates that are compared at a time
ONES = np.array([value.bit_count() for value in range(256)], np.uint8)  # of each byte
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def hashes(images: np.ndarray) -> np.ndarray:
    """(N, H, W, C) uint8 -> (N,) uint64."""
    from scipy.fft import dctn  # images that are in the cache already are not to wait for the import

    found = np.empty(len(images), np.uint64)
    for start, pixels in _chunks(images):
        low = dctn(_smaller(_grey(pixels)), axes=(1, 2), norm="ortho")[:, :FREQUENCIES, :FREQUENCIES].reshape(
            len(pixels), BITS
        )
        bits = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)
        found[start : start + len(pixels)] = bits.view(np.uint64)[:, 0]
    return found


def near(images: np.ndarray, hashed: np.ndarray, ours: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n, 2) int64: pairs of an image of `ours` and one of `others` that are nearly the same.

    images: (N, H, W, C) uint8; hashed: their `hashes`; ours, others: image numbers.
    """
    found = []
    for mine, theirs in _candidates(hashed[ours], hashed[others]):
        pairs = np.stack([ours[mine], others[theirs]], axis=1)
        found.append(pairs[_correlation(images, pairs) >= CORRELATION])
    return np.unique(np.concatenate(found), axis=0) if found else np.empty((0, 2), np.int64)


def _candidates(ours: np.ndarray, others: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions of pairs whose hashes differ in DISTANCE bits at most; a pair may come several times."""
    edges = np.linspace(0, BITS, BANDS + 1).astype(int).tolist()
    for low, high in pairwise(edges):
        mask = np.uint64(((1 << (high - low)) - 1) << low)
        order = np.argsort(others & mask, kind="stable")
        ranked = (others & mask)[order]
        first = np.searchsorted(ranked, ours & mask, "left")
        count = np.searchsorted(ranked, ours & mask, "right") - first
        ends = np.cumsum(count)
        start = 0
        while start < len(ours):
            stop = max(start + 1, int(np.searchsorted(ends, (ends[start - 1] if start else 0) + PAIRS)))
            many = count[start:stop]
            mine = np.repeat(np.arange(start, start + len(many)), many)
            offset = np.arange(len(mine)) - np.repeat(np.cumsum(many) - many, many)
            theirs = order[first[mine] + offset]
            close = _ones(ours[mine] ^ others[theirs]) <= DISTANCE
            if close.any():
                yield mine[close], theirs[close]
            start = stop


def _ones(values: np.ndarray) -> np.ndarray:
    """(n,) uint64 -> (n,) how many bits are set."""
    return np.asarray(ONES[values.view(np.uint8).reshape(-1, 8)].sum(axis=1))


def _correlation(images: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(n, 2) image numbers -> (n,) correlations of their grey pixels, 0 where one has no contrast."""
    found = np.empty(len(pairs))
    for start in range(0, len(pairs), CHUNK):
        sides = []
        for column in pairs[start : start + CHUNK].T:
            grey = _grey(images[column]).reshape(len(column), -1)
            grey -= grey.mean(axis=1, keepdims=True)
            sides.append(grey / np.maximum(np.linalg.norm(grey, axis=1, keepdims=True), 1e-3))
        found[start : start + CHUNK] = (sides[0] * sides[1]).sum(axis=1)
    return found


def _grey(pixels: np.ndarray) -> np.ndarray:
    """(n, H, W, C) uint8 -> (n, H, W) float32."""
    if pixels.shape[-1] < 3:
        return np.asarray(pixels[..., 0].astype(np.float32))
    return np.asarray(pixels[..., :3].astype(np.float32) @ GREY)


def _smaller(grey: np.ndarray) -> np.ndarray:
    """Means of blocks, so that 32 to 63 pixels a side are left of more."""
    by = max(1, min(grey.shape[1:]) // 32)
    n, height, width = grey.shape[0], grey.shape[1] // by, grey.shape[2] // by
    cut = grey[:, : height * by, : width * by]
    return cut if by == 1 else np.asarray(cut.reshape(n, height, by, width, by).mean(axis=(2, 4)))


def _chunks(images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The images a few at a time, with the number of the first. Those of a file are read and not mapped: mapped pages
    would count as this process's memory."""
    name = getattr(images, "filename", None)
    if name is None or not isinstance(images, np.memmap):
        for start in range(0, len(images), CHUNK):
            yield start, images[start : start + CHUNK]
        return
    with Path(name).open("rb") as file:
        file.seek(images.offset)
        for start in range(0, len(images), CHUNK):
            count = min(CHUNK, len(images) - start)
            yield start, np.fromfile(file, np.uint8, count * images[0].size).reshape(count, *images.shape[1:])
