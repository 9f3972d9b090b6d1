"""Any tree of image files: folders named after classes, below folders of splits or not, or a table that names them."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from resnetlab.errors import BadData, BadRequest
from resnetlab.paths import user_path
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data.decode import Decoder
from resnetlab.vision.data.folder.faults import Faulty
from resnetlab.vision.data.folder.found_images import list_images
from resnetlab.vision.data.folder.listing import Listing, alike, listed
from resnetlab.vision.data.folder.naming import FIRST
from resnetlab.vision.data.source import Append, Contents

VERSION = 2  # raise it where decoding changes: what is in caches is then made again
CHUNK = 128  # files that a thread decodes at a time
SHARE = 0.95  # of what is free on the disk of the cache, that images may take
LOOK = 20  # images that `check` decodes at most


@dataclass(frozen=True, slots=True)
class ImageFile:
    path: str
    split: str
    label: str
    size: int  # bytes
    mtime: int  # nanoseconds


class ImageFolder:
    """Images of a tree, with splits and classes as its folders name them, a table, or a rule on their paths.

    Classes are numbered in the order of their names, numbers in them as numbers; in a tree train/<class>/ without any
    setting but size and mode by their characters, as ever. Every image becomes (size, size), or keeps its size where
    all have the same. Every one becomes RGB or grey as `mode` says, or by what all have in common. Hidden files, those
    of file managers, files whose suffix says that they are no images, and what lies beside the folders of the splits
    are passed over, and said; any other file that is not an image is an error.
    """

    labels: tuple[str, ...] = ("class",)
    label: str = "class"

    def __init__(self, config: DataConfig, cache: Path) -> None:
        if not config.root:
            raise BadRequest("dataset.root: folder needs it (a folder with train/<class>/ in it)")
        self.root = user_path(config.root, "dataset.root")
        self.config = config
        self.cache = cache
        self.size = config.size
        self.mode = config.mode
        if config.table is None:
            for name in ("path_column", "label_column", "split_column"):
                if getattr(config, name) is not None:
                    raise BadRequest(f"dataset.{name}: {getattr(config, name)!r}, but there is no dataset.table")
        elif config.class_from is not None:
            raise BadRequest("dataset.class_from: the table says the classes (leave out this setting, or the table)")

    def check(self) -> None:
        """The files as they are named, and the first image of each class (of LOOK classes at most)."""
        found = self._found
        seen: dict[str, str] = {}
        for path, label, split in zip(found.paths, found.labels, found.splits, strict=True):
            seen.setdefault(f"{split}\0{label}", path)
        first = list(seen.values())
        _, faults = self._decoder(first).read(first[:: -(-len(first) // LOOK)])
        if len(faults) > self.config.skip:
            raise Faulty(faults, 0, self.root, self.config.skip)

    def fetch(self) -> None:
        """Nothing to get: the files are the user's."""

    def fingerprint(self) -> Any:
        return self._fingerprint(self._found)

    def _fingerprint(self, found: Listing) -> Any:
        files = [VERSION, PIL.__version__, str(self.root.resolve()), self.size, self.mode, found.files_hash()]
        return files if self._plain(found) else [*files, found.labels_hash(), self.config.skip]

    def _plain(self, found: Listing) -> bool:
        """True where the folders alone say all, as they always did: the order of classes is then that of characters."""
        config = self.config
        asked = (config.table, config.class_from, config.group, config.class_names)
        return all(one is None for one in asked) and not config.skip and found.as_ever

    def remarks(self, notes: Mapping[str, Any]) -> list[str]:
        """Where the splits come from, what was passed over, and what was left out."""
        found, lines = self._found, []
        lines += found.said
        if skipped := notes.get("skipped"):
            kinds = ", ".join(f"{n:,} {kind}" for kind, n in skipped["kinds"].items())
            lines.append(
                f"left out, as skip: {self.config.skip} allows: {skipped['count']:,} of {skipped['of']:,} images "
                f"({kinds}): {listed(skipped['files'], FIRST)}"
            )
        if same := alike(found.classes):
            lines.append(f"classes whose names are nearly one: {listed(map(repr, same))}")
        return lines

    def names(self, notes: Mapping[str, Any]) -> tuple[list[str], list[str] | None]:
        """Of each image that was decoded, in order: its path below the root, and its group, where there are groups."""
        left = set(notes.get("skipped", {}).get("files", ()))
        found = self._found
        kept = [number for number, name in enumerate(found.below) if name not in left] if left else None
        paths, groups = found.below, found.groups
        if kept is None:
            return paths, groups
        return [paths[number] for number in kept], None if groups is None else [groups[number] for number in kept]

    def write(self, append: Append) -> Contents:
        """Decode with a thread for each core: most of the time is in Pillow's decoders, which run side by side."""
        found = self._found
        decoder, faults = self._decoder(found.paths), []
        kept = np.ones(len(found.paths), bool)
        self._room(len(found.paths), decoder)
        for start, (images, broken) in zip(
            range(0, len(found.paths), CHUNK),
            _in_threads(decoder.read, [found.paths[i : i + CHUNK] for i in range(0, len(found.paths), CHUNK)]),
            strict=True,
        ):
            faults += broken
            places = {path: start + at for at, path in enumerate(found.paths[start : start + CHUNK])}
            kept[[places[fault.path] for fault in broken]] = False
            if len(faults) <= self.config.skip and len(images):
                append(images)
        if len(faults) > self.config.skip or not kept.any():
            raise Faulty(faults, len(found.paths), self.root, self.config.skip)
        decoder.finish()
        if self._fingerprint(list_images(self.root, self.config)) != self._fingerprint(found):
            raise BadData(f"{self.root}: files changed while they were read")
        return self._contents(found, kept, decoder, faults)

    def _room(self, images: int, decoder: Decoder) -> None:
        """BadRequest where the decoded images would fill the disk of the cache."""
        try:
            height, width, channels = decoder.shape
        except Faulty:  # not one can be decoded, which is said with the others
            return
        need = images * height * width * channels
        free = shutil.disk_usage(next(place for place in (self.cache, *self.cache.parents) if place.exists())).free
        if need > SHARE * free:
            raise BadRequest(
                f"{self.cache}: the decoded images take {need / 1e9:,.1f} GB ({images:,} of {width}×{height} pixels), "
                f"and {free / 1e9:,.1f} GB are free there (set RESNETLAB_CACHE to a folder on a larger disk, or a "
                "smaller dataset.size)"
            )

    def _contents(self, found: Listing, kept: np.ndarray, decoder: Decoder, faults: list[Any]) -> Contents:
        number = {name: i for i, name in enumerate(found.classes)}
        labels = np.array([number[label] for label in found.labels], np.int64)[kept]
        split = np.array(found.splits)[kept]
        fixed = {name: np.flatnonzero(split == name) for name in ("val", "test") if (split == name).any()}
        lacking = set(range(len(found.classes))) - set(labels[split == "train"].tolist())
        if lacking:
            names = [found.classes[one] for one in sorted(lacking)]
            raise BadData(f"{self.root}: all training images of {listed(names)} are left out (dataset.skip)")
        notes: dict[str, Any] = {"changes": dict(sorted(decoder.changes.items()))} if decoder.changes else {}
        if faults:
            notes["skipped"] = Faulty(faults, len(found.paths), self.root, 0).as_notes()
        groups = None
        if found.groups is not None:
            groups = np.unique(found.groups, return_inverse=True)[1].astype(np.int64)[kept]
        return Contents({"class": (labels, found.classes)}, fixed, notes, groups)

    def files(self) -> Iterator[ImageFile]:
        """All image files, in the order of their numbers."""
        found = self._found
        columns = zip(found.paths, found.splits, found.labels, found.stats, strict=True)
        for path, split, label, (size, changed) in columns:
            yield ImageFile(path, split, label, size, changed)

    def _decoder(self, paths: list[str]) -> Decoder:
        return Decoder(self.size, self.mode, paths[0], paths)

    @cached_property
    def _found(self) -> Listing:
        """The files as they lay when this reader was first asked."""
        return list_images(self.root, self.config)


def _in_threads(function: Any, items: list[Any]) -> Iterator[Any]:
    """function(item) of each item in order, with little more than one item a thread begun ahead of its turn."""
    threads = len(os.sched_getaffinity(0))
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
