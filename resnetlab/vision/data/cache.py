"""Decoded datasets on disk: written whole or not at all, by one process, read by all through the page cache.

An entry is a folder `<cache>/<key>` with `images.npy` (N, H, W, C) uint8, `tables.npz` (labels, fixed splits, pixel
sums of each image) and `meta.json`, which says what the other two must be. It is made in a sibling folder under a lock
and renamed into place. An entry that is not what its meta.json says is made again.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np

from resnetlab.durable import flush, sync_directory
from resnetlab.errors import BadRequest
from resnetlab.vision.data.source import Append, Contents

FORMAT = 1
HEADER = 128  # bytes that NumPy takes for the header of an (N, H, W, C) uint8 array, whatever the numbers


@dataclass
class Entry:
    """A decoded dataset.

    images: (N, H, W, C) uint8. moments: (N, 2, C) int64, each image's sum of pixels and sum of squares.
    hash: 16 hexadecimal digits over images and contents.
    """

    images: np.ndarray
    moments: np.ndarray
    contents: Contents
    hash: str
    file: Path | None = None  # that `images` maps
    state: tuple[int, ...] = ()  # of the file when it was opened

    def unchanged(self) -> bool:
        """False where the file of images has been written to, cut, or replaced since it was opened."""
        return self.file is None or _state(self.file) == self.state

    @classmethod
    def of(cls, images: np.ndarray, contents: Contents) -> Entry:
        """An entry in memory."""
        images = np.ascontiguousarray(images, dtype=np.uint8)
        contents.check(len(images))
        images_hash = blake2b(images.data, digest_size=8).hexdigest()
        return cls(images, moments_of(images), contents, _hash(images_hash, images.shape, contents))


class Unusable(Exception):
    """A cache entry that is absent or is not what its meta.json says."""


def moments_of(images: np.ndarray) -> np.ndarray:
    """(N, H, W, C) uint8 -> (N, 2, C) int64: each image's sum of pixels and sum of squares, exact."""
    n, height, width, channels = images.shape
    out = np.empty((n, 2, channels), np.int64)
    for start in range(0, n, 256):
        pixels = images[start : start + 256].reshape(-1, height * width, channels)
        for channel in range(channels):  # each by itself and contiguous: NumPy then adds along the last axis
            values = np.ascontiguousarray(pixels[..., channel])
            out[start : start + 256, 0, channel] = values.sum(axis=1, dtype=np.int64)
            squares = np.multiply(values, values, dtype=np.uint16)
            out[start : start + 256, 1, channel] = squares.sum(axis=1, dtype=np.int64)
    return out


def load(cache: Path, key: str, write: Callable[[Append], Contents], whole: bool = False) -> Entry:
    """The entry `key`, made by `write` where it cannot be used as it is; one process makes it, others wait for it.

    whole: hash all images, rather than only where the file is not as old as its meta.json says (a second a gigabyte).
    Raises BadRequest where the cache cannot be written, and what `write` raises, leaving no part of an entry behind.
    """
    folder = cache / key
    try:
        return _read(folder, whole)
    except Unusable:
        pass
    with locked(cache, key):
        try:
            return _read(folder, whole)  # another process made it while this one waited
        except Unusable:
            _make(folder, write)
        return _read(folder, whole=False)


@contextmanager
def locked(cache: Path, key: str) -> Iterator[None]:
    """Hold the cache's lock `key`. It ends with the process at the latest, and leaves no file behind."""
    path, fresh = cache / f".{key}.lock", not cache.exists()
    try:
        file = _lock(path)
    except OSError as error:
        raise _cannot_write(cache, error) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()
        if fresh:
            with suppress(OSError):
                cache.rmdir()  # where nothing came of it


def _lock(path: Path) -> BinaryIO:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("ab")
        except FileNotFoundError:  # who failed before has just removed the folder
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever held the lock has unlinked the file: what was locked may be a file that nobody else will find.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()


def _make(folder: Path, write: Callable[[Append], Contents]) -> None:
    """Write the entry beside its place and rename it; the caller holds its lock."""
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        part.mkdir()
        with _Writer(part) as writer:
            writer.finish(write(_ours(writer.append, folder.parent)))
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        sync_directory(folder.parent)
    except OSError as error:
        raise _cannot_write(folder.parent, error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _ours(append: Append, cache: Path) -> Append:
    """`append`, whose failures are the cache's and not those of the source that calls it."""

    def write(images: np.ndarray) -> None:
        try:
            append(images)
        except OSError as error:
            raise _cannot_write(cache, error) from None

    return write


class _Writer:
    """Writes an entry's files in one pass over the images, however many they turn out to be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = (folder / "images.npy").open("w+b")
        self.file.write(bytes(HEADER))
        self.shape: tuple[int, ...] = ()
        self.moments: list[np.ndarray] = []
        self.hash = blake2b(digest_size=8)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def append(self, images: np.ndarray) -> None:
        """Add (n, H, W, C) uint8. Through the file and not a map of it: a full disk is then an error, not a crash."""
        self.shape = self.shape or images.shape[1:]
        if images.shape[1:] != self.shape or images.dtype != np.uint8:
            raise ValueError(f"need uint8 images {self.shape}, got {images.dtype} {images.shape[1:]}")
        images = np.ascontiguousarray(images)
        self.file.write(images.data)
        self.hash.update(images.data)
        self.moments.append(moments_of(images))

    def finish(self, contents: Contents) -> None:
        """Write the header, the tables and meta.json, all flushed to the disk."""
        shape = (sum(map(len, self.moments)), *self.shape)
        contents.check(shape[0])
        self.file.seek(0)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)
        if self.file.tell() != HEADER:
            raise ValueError(f"NumPy's header for {shape} takes {self.file.tell()} bytes, not {HEADER}")
        flush(self.file)
        tables = {"moments": np.concatenate(self.moments)}
        tables |= {f"label/{name}": labels for name, (labels, _) in contents.labels.items()}
        tables |= {f"split/{name}": index.astype(np.int64) for name, index in contents.fixed.items()}
        if contents.groups is not None:
            tables["groups"] = contents.groups.astype(np.int64)
        packed = io.BytesIO()
        np.savez(packed, **tables)  # type: ignore[arg-type]
        images_hash = self.hash.hexdigest()
        meta = {
            "format": FORMAT,
            "shape": shape,
            "images": images_hash,
            "written": os.fstat(self.file.fileno()).st_mtime_ns,
            "tables": blake2b(packed.getbuffer(), digest_size=8).hexdigest(),
            "hash": _hash(images_hash, shape, contents),
            "labels": {name: list(classes) for name, (_, classes) in contents.labels.items()},
            "fixed": sorted(contents.fixed),
            "notes": contents.notes,
        }
        for name, data in {"tables.npz": packed.getvalue(), "meta.json": json.dumps(meta, indent=1).encode()}.items():
            with (self.folder / name).open("wb") as file:
                file.write(data)
                flush(file)
        sync_directory(self.folder)


def _read(folder: Path, whole: bool) -> Entry:
    """Open an entry: the tables are read and compared; of the mapped images shape, type, size and age of the file are,
    and all bytes where `whole`, or where the age is another."""
    try:
        state = _state(folder / "images.npy")
        meta = json.loads((folder / "meta.json").read_bytes())
        images = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)
        packed = (folder / "tables.npz").read_bytes()
        if (
            meta["format"] != FORMAT
            or list(images.shape) != meta["shape"]
            or images.dtype != np.uint8
            or (folder / "images.npy").stat().st_size != HEADER + images.size
            or blake2b(packed, digest_size=8).hexdigest() != meta["tables"]
            or ((whole or meta.get("written") != state[0]) and _images_hash(folder / "images.npy") != meta["images"])
        ):
            raise Unusable
        with np.load(io.BytesIO(packed), allow_pickle=False) as tables:
            contents = Contents(
                {name: (tables[f"label/{name}"], tuple(classes)) for name, classes in meta["labels"].items()},
                {name: tables[f"split/{name}"] for name in meta["fixed"]},
                meta["notes"],
                tables.get("groups"),
            )
            moments = tables["moments"]
        if meta["hash"] != _hash(meta["images"], images.shape, contents):
            raise Unusable
        return Entry(images, moments, contents, meta["hash"], folder / "images.npy", state)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, BadZipFile) as error:
        raise Unusable from error


def _state(file: Path) -> tuple[int, ...]:
    """What changes wherever a file is written to, cut or replaced; nothing where there is none."""
    try:
        stat = file.stat()
    except OSError:
        return ()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _images_hash(file: Path) -> str:
    state = blake2b(digest_size=8)
    with file.open("rb") as stream:
        stream.seek(HEADER)
        while block := stream.read(1 << 24):
            state.update(block)
    return state.hexdigest()


def _hash(images_hash: str, shape: tuple[int, ...], contents: Contents) -> str:
    text = f"{images_hash} {[int(side) for side in shape]} {contents.digest()}"
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _cannot_write(cache: Path, error: OSError) -> BadRequest:
    reason = error.strerror or str(error)
    return BadRequest(f"{cache}: the data cache cannot be written ({reason}); set RESNETLAB_CACHE to another folder")
