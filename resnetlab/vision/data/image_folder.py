"""Any tree of image files: `train/<class>/*`, optionally `val/<class>/*` and `test/<class>/*`."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import PIL

from resnetlab.errors import BadData, BadRequest
from resnetlab.paths import user_path
from resnetlab.study.trial_config import DataConfig
from resnetlab.vision.data.decode import BadFiles, Decoder, special
from resnetlab.vision.data.source import Append, Contents
from resnetlab.vision.data.split import SPLITS

VERSION = 2  # raise it where decoding changes: what is in caches is then made again
CHUNK = 128  # files that a thread decodes at a time
LOOK = 20  # images that `check` decodes at most
OF_SYSTEMS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"}  # left by file managers
LIKE_SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "eval": "val",
    "test": "test", "testing": "test", "tests": "test",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageFile:
    path: str
    split: str
    label: str
    size: int  # bytes
    mtime: int  # nanoseconds


class ImageFolder:
    """Images in folders named after their classes; classes are numbered in the order of their names.

    Every image becomes (size, size), or keeps its size where all have the same. Every one becomes RGB or grey as `mode`
    says, or by what all have in common. Hidden files, those of file managers, and what lies beside the folders of the
    splits are passed over, and said; any other file that is not an image is an error, and so is a folder whose name
    is nearly that of a split.
    """

    labels: tuple[str, ...] = ("class",)
    label: str = "class"

    def __init__(self, config: DataConfig, cache: Path) -> None:
        if not config.root:
            raise BadRequest("dataset.root: folder needs it (a folder with train/<class>/ in it)")
        self.root = user_path(config.root, "dataset.root")
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
        # Hashed one by one: every worker does this, and lists of a million files stay with it.
        for file in self.files():
            files.update(
                f"{file.path[len(str(self.root)) :]}\0{file.size}\0{file.mtime}\0".encode("utf-8", "surrogateescape")
            )
        return [VERSION, PIL.__version__, str(self.root.resolve()), self.size, self.mode, files.hexdigest()]

    def remarks(self, notes: Mapping[str, Any]) -> list[str]:
        """Where the splits come from, and what was passed over."""
        passed = Passed()
        found = self._tree(passed)
        for classes in found.values():
            for folder in classes.values():
                deque(_entries(folder, passed), maxlen=0)
        own = ", ".join(f"{split} from {split}/" for split in found)
        drawn = " and ".join(split for split in ("val", "test") if split not in found)
        lines = [f"splits: {own}" + (f"; {drawn} drawn from train/" if drawn else ""), *passed.said()]
        if alike := _alike(found["train"]):
            lines.append(f"classes whose names are nearly one: {_listed(map(repr, alike))}")
        return lines

    def write(self, append: Append) -> Contents:
        """Decode with a thread for each core: most of the time is in Pillow's decoders, which run side by side."""
        before = self.fingerprint()
        files = list(self.files())
        paths = [file.path for file in files]
        decoder = Decoder(self.size, self.mode, paths[0], paths)
        broken: list[str] = []
        for images in _in_threads(
            _broken_or(decoder.many), [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
        ):
            if isinstance(images, BadFiles):
                broken += images.files
            elif not broken:
                append(images)
        if broken:
            raise BadFiles(broken)
        decoder.finish()
        if self.fingerprint() != before:
            raise BadData(f"{self.root}: files changed while they were read")
        classes = tuple(self._tree()["train"])
        number = {name: i for i, name in enumerate(classes)}
        labels = np.array([number[file.label] for file in files], np.int64)
        split = np.array([file.split for file in files])
        fixed = {name: np.flatnonzero(split == name) for name in ("val", "test") if (split == name).any()}
        notes = {"changes": dict(sorted(decoder.changes.items()))} if decoder.changes else {}
        return Contents({"class": (labels, classes)}, fixed, notes)

    def files(self) -> Iterator[ImageFile]:
        """All image files, ordered by split, class and name."""
        for split, classes in self._tree().items():
            for label, folder in classes.items():
                for entry in sorted(_entries(folder), key=lambda entry: entry.name):
                    stat = _stat(entry)
                    yield ImageFile(entry.path, split, label, stat.st_size, stat.st_mtime_ns)

    def _tree(self, passed: Passed | None = None) -> dict[str, dict[str, Path]]:
        """Split -> class -> folder, both in order. BadData where this is not such a tree. passed: is told the rest."""
        if not self.root.is_dir():
            raise BadData(f"dataset.root: {self.root} is not a folder")
        beside = {entry.name: entry for entry in _visible(self.root, passed)}
        if "train" not in beside:
            raise BadData(f"dataset.root: {self.root} has no folder train/ (need train/<class>/ with images)")
        tree = {split: _classes(beside.pop(split), passed) for split in SPLITS if split in beside}
        for name, entry in beside.items():
            like = LIKE_SPLITS.get(name.casefold())
            if like and _is_dir(entry):
                advice = "move it away, or merge the two" if like in tree else f"rename it to {like}/, or move it away"
                raise BadData(f"{entry.path}: only train/, val/ and test/ are read ({advice})")
            if passed is not None:
                passed.beside.append(name + "/" * _is_dir(entry))
        known = tree["train"]
        if len(known) < 2:
            found = ", ".join(known) or "none"
            raise BadData(f"{self.root / 'train'}: need two class folders or more, found {found}")
        for split, classes in tree.items():
            if not classes:
                raise BadData(
                    f"{self.root / split}: is empty (remove it, and the {split} split is drawn from train/; or fill it)"
                )
            for label, folder in classes.items():
                if label not in known:
                    raise BadData(f"{folder}: {label!r} is not a class of train/ ({_listed(known)})")
        return tree


class Passed:
    """What lies in a tree of images and is not read. beside: names beside the splits' folders."""

    def __init__(self) -> None:
        self.beside: list[str] = []
        self.names: Counter[str] = Counter()

    def said(self) -> list[str]:
        lines = []
        if self.names:
            names = [f"{name} ({n:,})" if n > 1 else name for name, n in sorted(self.names.items())]
            lines.append(f"passed over: {self.names.total():,} hidden or of file managers: {_listed(names)}")
        if self.beside:
            lines.append(f"passed over beside the splits: {_listed(sorted(self.beside))}")
        return lines


def _classes(split: os.DirEntry[str], passed: Passed | None) -> dict[str, Path]:
    """Class -> folder for one split's folder."""
    if not _is_dir(split):
        raise BadData(f"{split.path}: is not a folder (need {split.name}/<class>/<image>)")
    found = {}
    for entry in sorted(_visible(Path(split.path), passed), key=lambda entry: entry.name):
        if not _is_dir(entry):
            raise BadData(f"{entry.path}: a file between class folders (need {split.name}/<class>/<image>)")
        found[_text(entry)] = Path(entry.path)
    return found


def _text(entry: os.DirEntry[str]) -> str:
    """The name of a class, the same in every locale. BadData where it is not UTF-8."""
    try:
        return os.fsencode(entry.name).decode()
    except UnicodeDecodeError:
        raise BadData(f"{entry.path!a}: the name of a class must be text in UTF-8 (rename the folder)") from None


def _entries(folder: Path, passed: Passed | None = None) -> Iterator[os.DirEntry[str]]:
    """The files of a class folder, in no order."""
    for entry in _visible(folder, passed):
        if not _is_file(entry):
            if _is_dir(entry):
                need = f"need {folder.parent.name}/<class>/<image>"
                raise BadData(f"{entry.path}: a folder inside a class folder ({need})")
            raise BadData(f"{entry.path}: {special(_stat(entry).st_mode)}, not an image file (remove it)")
        yield entry


def _visible(folder: Path, passed: Passed | None) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name.casefold() not in OF_SYSTEMS:
                    yield entry
                elif passed is not None:
                    passed.names[entry.name if not entry.name.startswith("._") else "._*"] += 1
    except OSError as error:
        raise BadData(f"{folder}: cannot be read ({error.strerror})") from None


def _alike(names: Iterable[str]) -> list[str]:
    """Names that are one but for case, spaces at the ends, or how Unicode composes their signs."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(normalize("NFKC", name).casefold().strip(), []).append(name)
    return [name for same in kinds.values() if len(same) > 1 for name in same]


def _is_dir(entry: os.DirEntry[str]) -> bool:
    """False for a dangling link. BadData where a link leads round in a circle, or nowhere that may be entered."""
    try:
        return entry.is_dir()
    except OSError as error:
        raise BadData(f"{entry.path}: cannot be read ({error.strerror})") from None


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError as error:
        raise BadData(f"{entry.path}: cannot be read ({error.strerror})") from None


def _stat(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError as error:
        raise BadData(f"{entry.path}: cannot be read ({error.strerror})") from None


def _broken_or(many: Any) -> Any:
    """`many`, which returns rather than raises that files are broken: all of them are to be named."""

    def decode(paths: list[str]) -> Any:
        try:
            return many(paths)
        except BadFiles as error:
            return error

    return decode


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
