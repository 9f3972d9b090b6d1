"""A results folder, on a disk or behind a URL: whole files only, written aside and renamed."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from pyarrow import fs

from resnetlab.errors import BadRequest, CannotWrite, FolderRefused
from resnetlab.provenance import without_secrets

MOST, MOST_JSON = 4 << 30, 64 << 20  # bytes of a blob that is read
ASIDE = ".aside"  # end of the names of blobs that are being written
SCHEMES = "a path, file://, s3://, gs://, abfss://, hdfs://"
SECRET_RULE = (
    "a password or key in a URL would stand in logs and lists of processes; give it in the environment (s3: "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, gs: GOOGLE_APPLICATION_CREDENTIALS) or in the provider's own file"
)
CHECKSUM = "sha256"  # key of a JSON blob that holds the hash of the rest


class Folder:
    """Named blobs under one root. Names are relative, with `/`. A reader sees the old blob or the new, never half."""

    def __init__(self, filesystem: fs.FileSystem, root: str, url: str):
        self._fs, self._root, self.url = filesystem, root.rstrip("/"), url

    @classmethod
    def at(cls, place: str | Path) -> Folder:
        """A local path, or a URL that pyarrow reads (`file://`, `s3://`, `gs://`). BadRequest where it cannot be."""
        text = str(place)
        if "://" not in text:
            path = Path(text).expanduser().resolve()
            return cls(fs.LocalFileSystem(), str(path), str(path))
        if (shown := without_secrets(text)) != text:
            raise BadRequest(f"--storage {shown}: {SECRET_RULE}")
        try:
            filesystem, root = fs.FileSystem.from_uri(text)
        except (ValueError, OSError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise BadRequest(f"--storage {text}: cannot be opened: {reason} (allowed: {SCHEMES})") from None
        url = root if isinstance(filesystem, fs.LocalFileSystem) else text.rstrip("/")
        return cls(filesystem, root, url)

    @property
    def path(self) -> Path | None:
        """The local directory, None where the folder is behind a URL."""
        return Path(self._root) if isinstance(self._fs, fs.LocalFileSystem) else None

    def sub(self, name: str) -> Folder:
        return Folder(self._fs, f"{self._root}/{name}", f"{self.url}/{name}")

    def read(self, name: str, most: int = MOST) -> bytes | None:
        """The blob, or None where there is none. FolderRefused where it is larger than any of ours."""
        try:
            with self._fs.open_input_file(f"{self._root}/{name}") as file:
                if file.size() > most:
                    raise FolderRefused(f"{self.url}/{name}: has {file.size():,} bytes (allowed: {most:,})")
                return bytes(file.read())
        except FileNotFoundError:
            return None

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The JSON object in a blob, None where there is none. FolderRefused, naming it, where it is damaged."""
        raw = self.read(name, MOST_JSON)
        if raw is None:
            return None
        try:
            content = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise FolderRefused(f"{self.url}/{name}: damaged: not JSON ({error})") from None
        if not isinstance(content, dict):
            raise FolderRefused(f"{self.url}/{name}: damaged: need an object, got {type(content).__name__}")
        recorded = content.pop(CHECKSUM, None)
        if recorded is not None and recorded != _checksum(content):
            raise FolderRefused(
                f"{self.url}/{name}: damaged, or changed by hand: its content does not match its {CHECKSUM}"
            )
        return content

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """A JSON object that people can read, with a hash that finds damage."""
        self.write(name, json.dumps(content | {CHECKSUM: _checksum(content)}, indent=2).encode())

    def write(self, name: str, data: bytes) -> None:
        """Replace the blob as a whole, durably: on a disk fsync and rename. Raises CannotWrite."""
        with self._writing(name):
            if self.path is None:
                with self._fs.open_output_stream(f"{self._root}/{name}") as stream:
                    stream.write(data)
                return
            target = self.path / name
            aside = _write_aside(target, data)
            try:
                aside.replace(target)
            except BaseException:
                aside.unlink(missing_ok=True)
                raise
            _sync_directory(target.parent)

    def create(self, name: str, data: bytes) -> bool:
        """Write the blob only where there is none; False where there was one. Atomic on a disk, not behind a URL.

        Raises CannotWrite.
        """
        with self._writing(name):
            if self.path is None:
                if self.read(name) is not None:
                    return False
                self.write(name, data)
                return True
            target = self.path / name
            aside = _write_aside(target, data)
            try:
                os.link(aside, target)  # fails where the name exists, and shows the blob whole
            except FileExistsError:
                return False
            finally:
                aside.unlink(missing_ok=True)
            _sync_directory(target.parent)
            return True

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except CannotWrite:
            raise
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            raise CannotWrite(f"{self.url}/{name}: cannot be written: {reason}") from None

    def age(self, name: str) -> float:
        """Seconds since the blob was written by the clock of the storage, whatever the clocks of machines say.

        Negative where that clock was set back since. FileNotFoundError where there is no such blob.
        """
        parent, _, last = name.rpartition("/")
        probe = f"{parent}/.{last}.{secrets.token_hex(4)}{ASIDE}"
        self.write(probe, b"")
        try:
            now, then = self._fs.get_file_info([f"{self._root}/{probe}", f"{self._root}/{name}"])
        finally:
            self.delete(probe)
        if then.type == fs.FileType.NotFound:
            raise FileNotFoundError(name)
        return float(now.mtime_ns - then.mtime_ns) / 1e9

    def changed(self, name: str) -> float | None:
        """When the blob was written, seconds since 1970 by the storage's clock; None where there is none."""
        found = self._fs.get_file_info(f"{self._root}/{name}")
        return None if found.type == fs.FileType.NotFound else float(found.mtime_ns) / 1e9

    def tidy(self, *subs: str) -> None:
        """Delete what processes that were killed have left half written in `subs`."""
        for sub in subs:
            for name in self._files(sub):
                if name.startswith(".") and name.endswith(ASIDE):
                    self.delete(f"{sub}/{name}" if sub else name)

    def names(self, sub: str = "") -> list[str]:
        """The blobs directly in `sub`, sorted, without those being written."""
        return sorted(name for name in self._files(sub) if not name.startswith("."))

    def _files(self, sub: str) -> list[str]:
        selector = fs.FileSelector(f"{self._root}/{sub}" if sub else self._root, allow_not_found=True)
        return [info.base_name for info in self._fs.get_file_info(selector) if info.type == fs.FileType.File]

    def delete(self, name: str) -> None:
        try:
            self._fs.delete_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return

    def exists(self) -> bool:
        return bool(self._fs.get_file_info(self._root).type != fs.FileType.NotFound)

    def remove(self) -> None:
        """Delete the folder and everything in it."""
        self._fs.delete_dir(self._root)

    def clear(self, sub: str) -> None:
        """Delete everything in `sub`."""
        self._fs.delete_dir_contents(f"{self._root}/{sub}", missing_dir_ok=True)


def _write_aside(target: Path, data: bytes) -> Path:
    """A file beside `target` that holds `data`, durably; the caller gives it its name."""
    _make_directory(target.parent)
    handle, aside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=ASIDE)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return Path(aside)


def _make_directory(path: Path) -> None:
    """With its parents, durably: a file is as safe as the names on its path."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(exist_ok=True)
    _sync_directory(path.parent)


def _checksum(content: dict[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
