"""Any tree of image files: `train/<class>/*`, optionally `val/<class>/*` and `test/<class>/*`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from resnetlab.config import DataConfig
from resnetlab.data.decode import Decoder
from resnetlab.data.source import Append, Contents
from resnetlab.data.split import SPLITS
from resnetlab.errors import BadData, BadRequest

VERSION = 1  # raise it where decoding changes: what is in caches is then made again
CHUNK = 128  # files that a thread decodes at a time
LOOK = 20  # images that `check` decodes at most


@dataclass(frozen=True, slots=True)
class ImageFile:
    path: str
    split: str
    label: str
    size: int  # bytes
    mtime: int  # nanoseconds


class Folder:
    """Images in folders named after their classes; classes are numbered in the order of their names.

    Every image becomes (size, size), or keeps its size where all have the same. Every one becomes RGB or grey as `mode`
    says, or by what all have in common. Hidden files are ignored; any other file that is not an image is an error.
    """

    labels: tuple[str, ...] = ("class",)
    label: str = "class"
    reads = frozenset({"root", "size", "mode"})

    def __init__(self, config: DataConfig, cache: Path) -> None:
        if not config.root:
            raise BadRequest("dataset.root: folder needs it (a folder with train/<class>/ in it)")
        self.root = Path(config.root).expanduser().absolute()
        self.size = config.size
        self.mode = config.mode

    def check(self) -> None:
        """The folders, and the first image of each class (of LOOK classes at most)."""
        first = []
        for classes in self._tree().values():
            for folder in classes.values():
                entry = min(_entries(folder), key=lambda entry: entry.name, default=None)
                if entry is None:
                    raise BadData(f"{folder}: this class folder is empty (dataset.root: {self.root})")
                first.append(entry.path)
        Decoder(self.size, self.mode, first[0]).many(first[:: -(-len(first) // LOOK)])

    def fetch(self) -> None:
        """Nothing to get: the files are the user's."""

    def fingerprint(self) -> Any:
        files = blake2b(digest_size=16)
        for (
            file
        ) in self._files():  # hashed one by one: every worker does this, and lists of a million files stay with it
            files.update(
                f"{file.path[len(str(self.root)) :]}\0{file.size}\0{file.mtime}\0".encode("utf-8", "surrogateescape")
            )
        return [VERSION, PIL.__version__, str(self.root.resolve()), self.size, self.mode, files.hexdigest()]

    def write(self, append: Append) -> Contents:
        """Decode with a thread for each core: most of the time is in Pillow's decoders, which run side by side."""
        before = self.fingerprint()
        files = list(self._files())
        paths = [file.path for file in files]
        decoder = Decoder(self.size, self.mode, paths[0])
        for images in _in_threads(decoder.many, [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]):
            append(images)
        if self.fingerprint() != before:
            raise BadData(f"{self.root}: files changed while they were read")
        classes = tuple(self._tree()["train"])
        number = {name: i for i, name in enumerate(classes)}
        labels = np.array([number[file.label] for file in files], np.int64)
        split = np.array([file.split for file in files])
        fixed = {name: np.flatnonzero(split == name) for name in ("val", "test") if (split == name).any()}
        return Contents({"class": (labels, classes)}, fixed)

    def _files(self) -> Iterator[ImageFile]:
        """All image files, ordered by split, class and name."""
        for split, classes in self._tree().items():
            for label, folder in classes.items():
                for entry in sorted(_entries(folder), key=lambda entry: entry.name):
                    stat = _stat(entry)
                    yield ImageFile(entry.path, split, label, stat.st_size, stat.st_mtime_ns)

    def _tree(self) -> dict[str, dict[str, Path]]:
        """Split -> class -> folder, both in order. BadData where this is not such a tree."""
        if not self.root.is_dir():
            raise BadData(f"dataset.root: {self.root} is not a folder")
        tree = {split: _classes(self.root / split) for split in SPLITS if (self.root / split).is_dir()}
        if "train" not in tree:
            raise BadData(f"dataset.root: {self.root} has no folder train/ (need train/<class>/ with images)")
        known = tree["train"]
        if len(known) < 2:
            raise BadData(f"{self.root / 'train'}: need two class folders or more, found {', '.join(known) or 'none'}")
        for classes in tree.values():
            for label, folder in classes.items():
                if label not in known:
                    raise BadData(f"{folder}: {label!r} is not a class of train/ ({_listed(known)})")
        return tree


def _classes(folder: Path) -> dict[str, Path]:
    """Class -> folder for one split's folder."""
    found = {}
    for entry in sorted(_visible(folder), key=lambda entry: entry.name):
        if not entry.is_dir():
            raise BadData(f"{entry.path}: a file between class folders (need {folder.name}/<class>/<image>)")
        found[_text(entry)] = Path(entry.path)
    return found


def _text(entry: os.DirEntry[str]) -> str:
    """The name of a class, the same in every locale. BadData where it is not UTF-8."""
    try:
        return os.fsencode(entry.name).decode()
    except UnicodeDecodeError:
        raise BadData(f"{entry.path}: need a class folder whose name is UTF-8") from None


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The files of a class folder, in no order."""
    for entry in _visible(folder):
        if entry.is_dir():
            raise BadData(f"{entry.path}: a folder inside a class folder (need {folder.parent.name}/<class>/<image>)")
        yield entry


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise BadData(f"{folder}: cannot be read ({error.strerror})") from None


def _stat(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError as error:
        raise BadData(f"{entry.path}: cannot be read ({error.strerror})") from None


def _listed(names: Any, most: int = 10) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f", … {len(names)} in all" if len(names) > most else "")


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
