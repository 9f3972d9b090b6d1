"""Character Font Images (Lyman 2016, UCI repository, doi:10.24432/C5X61Q): a zip with one CSV file per font.

One 20x20 grey image a row, its pixels in the columns r0c0 … r19c19, its Unicode number in m_label, its font in font.
The archive is read in a stream, a few thousand rows at a time, and never unpacked to disk.
"""

from __future__ import annotations

import csv
import io
import stat
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np

from resnetlab.errors import BadData
from resnetlab.paths import user_path
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data.dataset import some
from resnetlab.vision.data.source import Append, Contents

VERSION = 1  # raise it where decoding changes: what is in caches is then made again
ARCHIVE = "fonts.zip"
SIDE = 20
PIXELS = tuple(f"r{row}c{column}" for row in range(SIDE) for column in range(SIDE))
NUMBERS = ("m_label", "h", "w", *PIXELS)  # columns that are read as whole numbers
ROWS = 2048  # read at a time
LINE = 2**16  # characters that a row can have at most; real ones have about 1,600
NAMED = 5  # bad rows that a message names
MOST_BAD = 0.01  # of a file's rows: beyond, it is not the file that it should be
MEMBERS, BYTES, RATIO = 10_000, 2**33, 200  # what an archive can hold at most: files, bytes in all, times its size
BROKEN = (BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, csv.Error)


class CharacterFonts:
    """About 745,000 images (20, 20, 1) of 12,720 characters in 153 fonts; splits are drawn, 70/15/15 by default.

    Classes of `character` are named by number and sign (`U+0041 A`), those of `font` as the archive does. `root` is the
    archive, or a folder with `fonts.zip` in it. A row that is not as described is left out, and never in silence: the
    notes count all of them by kind and name the first. More than 1% of a file's rows, a missing column, or an archive
    that is truncated or altered, and the whole is refused.
    """

    labels: tuple[str, ...] = ("character", "font")

    def __init__(self, config: DataConfig, cache: Path) -> None:
        root = user_path(config.root, "dataset.root") if config.root else cache / "downloads"
        self.path = (root / ARCHIVE if root.is_dir() else root).absolute()
        self.label = config.label or self.labels[0]

    def check(self) -> None:
        if not self.path.is_file():
            raise BadData(
                f"dataset.root: {self.path} is not a file: need the zip archive of CSV files of Character Font Images "
                "(https://doi.org/10.24432/C5X61Q), or a folder with fonts.zip in it"
            )
        with self._opened() as archive:
            next(self._batches(archive, self._members(archive)[0], _BadRows()), None)

    def fetch(self) -> None:
        """Nothing to get: the archive is the user's."""

    def fingerprint(self) -> Any:
        found = self.path.stat()
        return [VERSION, str(self.path.resolve()), found.st_size, found.st_mtime_ns]

    def remarks(self, notes: Mapping[str, Any]) -> list[str]:
        """Which files of the archive are not read."""
        with self._opened() as archive:
            read = {info.filename for info in self._members(archive)}
            passed = sorted({info.filename for info in archive.infolist() if not info.is_dir()} - read)
        return [f"passed over in the archive: {len(passed):,} files that are not CSV: {some(passed)}"] if passed else []

    def write(self, append: Append) -> Contents:
        before, bad = self.fingerprint(), _BadRows()
        codes: list[np.ndarray] = []
        fonts: list[np.ndarray] = []
        number: dict[str, int] = {}
        with self._opened() as archive:
            members = self._members(archive)
            for member in members:
                for values, names in self._batches(archive, member, bad):
                    append(values[:, 3:].astype(np.uint8).reshape(-1, SIDE, SIDE, 1))
                    codes.append(values[:, 0].astype(np.int32))
                    fonts.append(np.array([number.setdefault(name, len(number)) for name in names], np.int32))
                bad.close(self._place(member))
        if not sum(map(len, codes)):
            raise BadData(f"{self.path}: its CSV files have no rows")
        if self.fingerprint() != before:
            raise BadData(f"{self.path}: changed while it was read")
        characters, character = np.unique(np.concatenate(codes), return_inverse=True)
        classes = sorted(number)
        rank = np.array([classes.index(name) for name in number])
        labels = {
            "character": (character.astype(np.int64), tuple(_sign(int(code)) for code in characters)),
            "font": (rank[np.concatenate(fonts)].astype(np.int64), tuple(classes)),
        }
        return Contents(labels, notes={"files": len(members)} | ({"bad rows": bad.as_notes()} if bad.count else {}))

    def _opened(self) -> ZipFile:
        try:
            return ZipFile(self.path)
        except BROKEN as error:
            with self.path.open("rb") as file:
                start = file.read(512).lstrip().lower()
            if start.startswith((b"<!doctype html", b"<html")):
                raise BadData(f"{self.path}: a web page, not a zip archive: download it again") from None
            if b"," in start.split(b"\n")[0] and not start.startswith(b"pk"):
                raise BadData(f"{self.path}: a CSV file, not a zip archive of CSV files: zip it first") from None
            raise self._broken(error) from None

    def _broken(self, error: Exception, member: ZipInfo | None = None) -> BadData:
        place = self._place(member) if member else str(self.path)
        return BadData(f"{place}: truncated, altered or not a zip archive ({error})")

    def _place(self, member: ZipInfo) -> str:
        return f"{self.path}: {member.filename}"

    def _members(self, archive: ZipFile) -> list[ZipInfo]:
        """The CSV files in the order of their names; nothing is read before all that the archive says is plausible."""
        files = [info for info in archive.infolist() if not info.is_dir()]
        for info in files:
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):  # 0: written where there are no links
                raise BadData(f"{self._place(info)}: refused: a link or a special file (allowed: plain files)")
            parts = info.filename.split("/")
            if ".." in parts or parts[0] == "" or "\\" in info.orig_filename or ":" in parts[0]:
                raise BadData(f"{self.path}: refused: an archive of images has no file {info.orig_filename!r}")
            if info.file_size > max(2**20, RATIO * info.compress_size):
                raise BadData(
                    f"{self._place(info)}: refused: {info.file_size:,} bytes from {info.compress_size:,} (allowed: "
                    f"{RATIO} times as many)"
                )
        if len(files) > MEMBERS or sum(info.file_size for info in files) > BYTES:
            raise BadData(f"{self.path}: refused: more than {MEMBERS:,} files or {BYTES:,} bytes")
        found = {info.filename: info for info in files if _is_csv(info.filename)}
        if not found:
            inner = next((info.filename for info in files if info.filename.lower().endswith(".zip")), None)
            advice = f": unpack it and give {inner}" if inner else ""
            raise BadData(f"{self.path}: no CSV file in it{advice}")
        if len(found) < sum(_is_csv(info.filename) for info in files):
            raise BadData(f"{self.path}: refused: two files in it have one name")
        return [found[name] for name in sorted(found)]

    def _columns(self, lines: Iterator[tuple[int, str]], member: ZipInfo) -> dict[str, int]:
        """Column -> position, from the first line."""
        header = next(csv.reader([next(lines, (1, ""))[1]]), [])
        missing = [name for name in ("font", *NUMBERS) if name not in header]
        if missing:
            raise BadData(
                f"{self._place(member)}: no column {', '.join(missing[:NAMED])}"
                + (f" and {len(missing) - NAMED} more" if len(missing) > NAMED else "")
            )
        if len(set(header)) < len(header):
            raise BadData(f"{self._place(member)}: two columns have one name")
        return {name: i for i, name in enumerate(header)}

    def _batches(self, archive: ZipFile, member: ZipInfo, bad: _BadRows) -> Iterator[tuple[np.ndarray, list[str]]]:
        """Values (n, 403) int64 of the columns NUMBERS and n font names, of the rows that are good."""
        try:
            with archive.open(member) as file:
                lines = _lines(file, self._place(member))
                columns = self._columns(lines, member)
                while rows := list(islice(lines, ROWS)):
                    bad.rows += len(rows)
                    yield _parse(rows, columns, lambda line, *why: bad.add(f"{member.filename} line {line}", *why))
        except BROKEN as error:
            raise self._broken(error, member) from None


class _BadRows:
    """Rows that were left out: how many of how many, how many of each kind, and which came first."""

    def __init__(self) -> None:
        self.count = self.rows = 0
        self.kinds: dict[str, int] = {}
        self.named: list[str] = []
        self._of_file: list[str] = []
        self._before = 0, 0

    def add(self, place: str, kind: str, why: str) -> None:
        self.count += 1
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if len(self.named) < NAMED:
            self.named.append(f"{place}: {why}")
        if len(self._of_file) < NAMED:
            self._of_file.append(f"{place}: {why}")

    def close(self, file: str) -> None:
        """The file is read. BadData where too many of its rows are bad for it to be what it should be."""
        bad, rows = self.count - self._before[0], self.rows - self._before[1]
        if bad > MOST_BAD * rows:
            rest = f"; and {bad - len(self._of_file)} more" if bad > len(self._of_file) else ""
            raise BadData(
                f"{file}: {bad:,} of {rows:,} rows are bad (allowed: {MOST_BAD:.0%}): {'; '.join(self._of_file)}{rest}"
            )
        self._of_file, self._before = [], (self.count, self.rows)

    def as_notes(self) -> dict[str, Any]:
        return {"count": self.count, "of": self.rows, "kinds": dict(sorted(self.kinds.items())), "first": self.named}


def _parse(
    rows: list[tuple[int, str]], columns: dict[str, int], report: Callable[[int, str, str], None]
) -> tuple[np.ndarray, list[str]]:
    """Values and font names of the good rows of (line number, text); the bad ones are reported.

    The fast way takes batches in which every row has as many fields as there are columns and every number is one; the
    other looks at each field.
    """
    wanted = [columns[name] for name in NUMBERS]
    font, commas = columns["font"], len(columns) - 1
    texts = [text for _, text in rows]
    if all(text.count(",") == commas and '"' not in text for text in texts):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # NumPy would take 1.5 for 1
                values = np.loadtxt(texts, np.int64, delimiter=",", usecols=wanted, comments=None, ndmin=2)
            names = [text.split(",", font + 1)[font].strip() for text in texts]
            if len(values) == len(texts) and all(names) and not _out_of_bounds(values):
                return values, names
        except (ValueError, OverflowError, Warning):
            pass
    kept, names = [], []
    for line, text in rows:
        fields = next(csv.reader([text]), [])
        why = _why_bad(fields, columns)
        if why:
            report(line, *why)
        else:
            kept.append([int(fields[column]) for column in wanted])
            names.append(fields[font].strip())
    return np.array(kept, np.int64).reshape(-1, len(NUMBERS)), names


def _out_of_bounds(values: np.ndarray) -> bool:
    label, size, pixels = values[:, 0], values[:, 1:3], values[:, 3:]
    return bool(((label < 0) | (label > 0x10FFFF)).any() or (size != SIDE).any() or (pixels >> 8).any())


def _why_bad(fields: list[str], columns: dict[str, int]) -> tuple[str, str] | None:
    """The kind of what is wrong with a row, and what it is."""
    if len(fields) != len(columns):
        return "wrong number of fields", f"{len(fields)} fields, need {len(columns)}"
    if not fields[columns["font"]].strip():
        return "no font", "font is empty"
    for name in NUMBERS:
        text = fields[columns[name]].strip()
        if not text.removeprefix("-").isdecimal() or not text.isascii():
            return "not a whole number", f"{name} is {text[:20]!r}, need a whole number"
        low, high = {"m_label": (0, 0x10FFFF), "h": (SIDE, SIDE), "w": (SIDE, SIDE)}.get(name, (0, 255))
        if not low <= int(text[:20]) <= high:
            return "out of range", f"{name} is {text[:20]}, need {low}" + (f" to {high}" if high > low else "")
    return None


def _lines(file: Any, place: str) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines that are not blank. BadData for one too long before it takes the memory."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline=None)
    number = 0
    while line := text.readline(LINE):
        number += 1
        if len(line) == LINE:
            raise BadData(f"{place} line {number}: more than {LINE:,} characters")
        if not line.isspace():
            yield number, line


def _is_csv(name: str) -> bool:
    return (
        name.lower().endswith(".csv") and not name.startswith("__MACOSX/") and not name.split("/")[-1].startswith(".")
    )


def _sign(code: int) -> str:
    """`U+0041 A`; the number alone where the sign cannot be shown."""
    sign = chr(code)
    return f"U+{code:04X} {sign}" if sign.isprintable() and not sign.isspace() else f"U+{code:04X}"
