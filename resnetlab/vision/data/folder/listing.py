"""The image files of a tree, listed in the order of their numbers, and what lies among them and is passed over."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from unicodedata import normalize

from resnetlab.errors import BadData
from resnetlab.vision.data.split import SPLITS
from resnetlab.wording import natural, plural

RANK = {split: rank for rank, split in enumerate(SPLITS)}
OF_SYSTEMS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"}  # left by file managers
NO_IMAGES = frozenset(  # suffixes of files that are passed over; a file with any other must be an image
    re.findall(
        r"\S+",
        ".txt .md .rst .csv .tsv .json .jsonl .xml .yaml .yml .html .htm .pdf .doc .docx .xls .xlsx .db .log .ini .mat "
        ".npy .npz .pkl .pickle .parquet .h5 .hdf5 .pt .pth .zip .tar .gz .tgz .xz .bz2 .7z .rar .py .ipynb .sh .url",
    )
)
SPECIAL = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip


@dataclass
class Listing:
    """Image files in the order of their numbers.

    paths: absolute; below: the same from the root on, with `/`; splits: train, val or test; labels: class names;
    groups: names of what stays together, None where nothing does; classes: in the order of their numbers. stats: size
    in bytes and time of change in nanoseconds. said: lines for people about where all this is from. as_ever: whether
    folders train/<class>/ alone say everything.
    """

    root: Path
    paths: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    stats: list[tuple[int, int]] = field(default_factory=list)
    groups: list[str] | None = None
    classes: tuple[str, ...] = ()
    said: list[str] = field(default_factory=list)
    as_ever: bool = False

    @property
    def below(self) -> list[str]:
        """Each path from the root on."""
        return [below(self.root, path) for path in self.paths]

    def add(self, entries: Sequence[os.DirEntry[str]], split: str, label: str) -> None:
        """Files of one split and class."""
        self.paths += [entry.path for entry in entries]
        self.splits += [split] * len(entries)
        self.labels += [label] * len(entries)
        for entry in entries:
            state = stat_of(entry)
            self.stats.append((state.st_size, state.st_mtime_ns))

    def stat(self) -> None:
        """Look up all files whose paths alone are known. BadData for one that is no plain file."""
        self.stats = []
        for path in self.paths:
            try:
                found = os.stat(path)  # noqa: PTH116
            except OSError as error:
                raise BadData(f"{path}: cannot be read ({error.strerror})") from None
            if kind := special(found.st_mode):
                raise BadData(f"{path}: {kind}, not an image file")
            self.stats.append((found.st_size, found.st_mtime_ns))

    def sort(self) -> None:
        """By split, class and path, with numbers in names of classes as numbers."""
        keys = {label: natural(label) for label in set(self.labels)}
        columns = list(zip(self.splits, self.labels, self.paths, strict=True))
        self._take(
            sorted(range(len(columns)), key=lambda at: (RANK[columns[at][0]], keys[columns[at][1]], columns[at][2]))
        )

    def keep(self, which: Sequence[bool]) -> int:
        """Only these images; returns how many were left out."""
        self._take([at for at, one in enumerate(which) if one])
        return len(which) - len(self.paths)

    def _take(self, order: Sequence[int]) -> None:
        for name in ("paths", "splits", "labels", "stats", "groups"):
            values = getattr(self, name)
            if values is not None:
                setattr(self, name, [values[at] for at in order])

    def files_hash(self) -> str:
        """32 hexadecimal digits over where the files lie below the root, their sizes and times of change."""
        found, start = blake2b(digest_size=16), len(str(self.root))
        for at in range(0, len(self.paths), 4096):
            lines = [
                f"{path[start:]}\0{size}\0{changed}\0"
                for path, (size, changed) in zip(self.paths[at : at + 4096], self.stats[at : at + 4096], strict=True)
            ]
            found.update("".join(lines).encode("utf-8", "surrogateescape"))
        return found.hexdigest()

    def labels_hash(self) -> str:
        """32 hexadecimal digits over splits, labels, groups and the order of the classes."""
        found = blake2b(repr(self.classes).encode("utf-8", "backslashreplace"), digest_size=16)
        for column in (self.splits, self.labels, self.groups or []):
            found.update(("\0".join(column) + "\1").encode("utf-8", "backslashreplace"))
        return found.hexdigest()


def special(mode: int) -> str:
    """What a file is that is no plain file, from its `st_mode`: `a named pipe`; empty for a plain file."""
    if stat.S_ISREG(mode):
        return ""
    return next((name for test, name in SPECIAL if test(mode)), "a special file")


class Passed:
    """What lies in a tree of images and is not read. beside: names beside the splits' folders, with why where that is
    more than that they are no split. read: files that are no images, and are read."""

    def __init__(self, read: Iterable[Path] = ()) -> None:
        self._read = frozenset(map(str, read))
        self.beside: list[str] = []
        self.names: Counter[str] = Counter()
        self.others: Counter[str] = Counter()

    def counts(self, entry: os.DirEntry[str]) -> bool:
        """Whether it is not read at all."""
        return entry.path not in self._read

    def other(self, entry: os.DirEntry[str]) -> None:
        """A file that is no image by its suffix."""
        if self.counts(entry):
            self.others[f"*{os.path.splitext(entry.name)[1].lower()}"] += 1  # noqa: PTH122

    def said(self) -> list[str]:
        lines = []
        if self.names:
            lines.append(f"passed over: {self.names.total():,} hidden or of file managers: {_counted(self.names)}")
        if self.others:
            n = self.others.total()
            lines.append(f"passed over: {plural(n, 'file')} among images that are none: {_counted(self.others)}")
        if self.beside:
            lines.append(f"passed over beside the splits: {listed(sorted(self.beside))}")
        return lines


def below(root: Path, path: str) -> str:
    """`path` from `root` on, with `/` between its parts."""
    return path[len(str(root)) :].replace(os.sep, "/").lstrip("/")


def visible(folder: Path | str, passed: Passed | None) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name, without hidden files and those of file managers."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        raise BadData(f"{folder}: cannot be read ({error.strerror})") from None
    kept = []
    for entry in found:
        if not entry.name.startswith(".") and entry.name.casefold() not in OF_SYSTEMS:
            kept.append(entry)
        elif passed is not None:
            passed.names[entry.name if not entry.name.startswith("._") else "._*"] += 1
    return sorted(kept, key=lambda entry: entry.name)


def may_be_image(name: str) -> bool:
    """False for a file whose suffix says that it is something else."""
    stem, dot, suffix = name.rpartition(".")
    return not stem or dot + suffix.lower() not in NO_IMAGES


def images_in(folder: Path | str, passed: Passed | None, need: str) -> list[os.DirEntry[str]]:
    """The image files of a folder of one class, by name. BadData where a folder or a special file is among them.

    need: what should lie there instead.
    """
    kept = []
    for entry in visible(folder, passed):
        if is_file(entry):
            if may_be_image(entry.name):
                kept.append(entry)
            elif passed is not None:
                passed.other(entry)
            continue
        if is_dir(entry):
            raise BadData(f"{entry.path}: a folder inside a class folder ({need})")
        raise BadData(f"{entry.path}: {special(stat_of(entry).st_mode)}, not an image file (remove it)")
    return kept


def walk(top: Path, passed: Passed | None) -> Iterator[os.DirEntry[str]]:
    """All image files below a folder, a folder's own first, in the order of their names. BadData for a link that leads
    back to a folder above it."""
    stack: list[tuple[str, frozenset[tuple[int, int]]]] = [(str(top), frozenset())]
    while stack:
        folder, above = stack.pop()
        try:
            state = os.stat(folder)  # noqa: PTH116
        except OSError as error:
            raise BadData(f"{folder}: cannot be read ({error.strerror})") from None
        here = (state.st_dev, state.st_ino)
        if here in above:
            raise BadData(f"{folder}: a link to a folder above it: the tree has no end (remove the link)")
        folders = []
        for entry in visible(folder, passed):
            if is_dir(entry):
                folders.append(entry.path)
            elif not is_file(entry):
                raise BadData(f"{entry.path}: {special(stat_of(entry).st_mode)}, not an image file (remove it)")
            elif may_be_image(entry.name):
                yield entry
            elif passed is not None:
                passed.other(entry)
        stack += [(path, above | {here}) for path in reversed(folders)]


def text_of(entry: os.DirEntry[str]) -> str:
    """The name of a class, the same in every locale. BadData where it is not UTF-8."""
    try:
        return os.fsencode(entry.name).decode()
    except UnicodeDecodeError:
        raise BadData(f"{entry.path!a}: the name of a class must be text in UTF-8 (rename the folder)") from None


def is_dir(entry: os.DirEntry[str]) -> bool:
    """False for a dangling link. BadData where a link leads round in a circle, or nowhere that may be entered."""
    try:
        return entry.is_dir()
    except OSError as error:
        raise BadData(f"{entry.path}: cannot be read ({error.strerror})") from None


def is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError as error:
        raise BadData(f"{entry.path}: cannot be read ({error.strerror})") from None


def stat_of(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError as error:
        raise BadData(f"{entry.path}: cannot be read ({error.strerror})") from None


def alike(names: Iterable[str]) -> list[str]:
    """Names that are one but for case, spaces at the ends, or how Unicode composes their signs."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(normalize("NFKC", name).casefold().strip(), []).append(name)
    return [name for same in kinds.values() if len(same) > 1 for name in same]


def listed(names: Iterable[str], most: int = 10) -> str:
    """The first of them, and how many they are where that is more."""
    names = list(names)
    return ", ".join(names[:most]) + (f", … {len(names):,} in all" if len(names) > most else "")


def _counted(names: Counter[str]) -> str:
    return listed([f"{name} ({n:,})" if n > 1 else name for name, n in sorted(names.items())])


def read_utf8(file: Path, where: str) -> str:
    """The text of a file. BadData, which begins with `where`, if it is not UTF-8 or cannot be read."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        number = file.read_bytes()[: error.start].count(b"\n") + 1
        raise BadData(f"{where}: line {number} is not text in UTF-8 (save the file as UTF-8)") from None
    except OSError as error:
        raise BadData(f"{where}: cannot be read ({error.strerror})") from None
