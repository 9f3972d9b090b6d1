"""A results folder, on a disk or behind a URL, whose files are replaced as a whole.

Behind a URL, transient errors are retried for `PATIENCE` seconds. A lease takes longer to expire, so a driver that
waited for its storage still holds its folder.
"""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from pyarrow import fs

from resnetlab import durable
from resnetlab.durable import ASIDE
from resnetlab.errors import BadRequest, CannotWrite, FolderRefused, StorageLost
from resnetlab.paths import user_path
from resnetlab.provenance import without_secrets

MOST, MOST_JSON = 4 << 30, 64 << 20  # bytes: larger blobs are not read
SCHEMES = "a path, file://, s3://, gs://, abfss://, hdfs://, fsspec+…://"
SECRET_RULE = (
    "a password or key in a URL would stand in logs and lists of processes; give it in the environment (s3: "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, gs: GOOGLE_APPLICATION_CREDENTIALS) or in the provider's own file"
)
CHECKSUM = "sha256"  # key of a JSON blob that holds the hash of the rest
PATIENCE = 30.0  # seconds of retries, besides what the client of the file system waits
PERMANENT = re.compile(  # errors that no retry changes, as Arrow's file systems word them
    "ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH"
    r"|HTTP status 4(?!08|29)\d\d|PERMISSION_DENIED|UNAUTHENTICATED"
)

T = TypeVar("T")


class ResultsFolder:
    """Named blobs under one root. Names are relative, with `/`. A reader sees the old blob or the new, never half.

    place: the path or URL, with which `at` opens the folder on any machine. url: the same without options, to show.
    _root: the path for Arrow, which takes paths as UTF-8 in every locale.
    """

    def __init__(self, filesystem: fs.FileSystem, root: str, place: str):
        self._fs, self._root, self.place = filesystem, root.rstrip("/"), place
        self.url = place.partition("?")[0] if "://" in place else place
        self._patience = PATIENCE

    @classmethod
    def at(cls, place: str | Path, option: str = "--storage") -> ResultsFolder:
        """Open a folder by its local path or URL (SCHEMES; `fsspec+…://` is for what fsspec reads).

        Raises BadRequest, naming the `option` that `place` was given for, if it cannot be opened.
        """
        text = str(place)
        if "://" not in text:
            path = user_path(text, option).resolve()
            try:
                root = os.fsencode(path).decode()
            except UnicodeDecodeError:
                raise BadRequest(f"{option} {path}: need a path that is UTF-8") from None
            return cls(fs.LocalFileSystem(), root, str(path))
        if (shown := without_secrets(text)) != text:
            raise BadRequest(f"{option} {shown}: {SECRET_RULE}")
        base, _, options = text.partition("?")
        if base.startswith("s3://"):  # one request per blob instead of three
            options = "&".join(part for part in (options, "allow_delayed_open=true") if part)
        try:
            filesystem, root = fs.FileSystem.from_uri(f"{base}?{options}" if options else base)
        except (ValueError, OSError, NotImplementedError, ImportError) as error:
            raise BadRequest(f"{option} {text}: cannot be opened: {_message(error)} (allowed: {SCHEMES})") from None
        local = isinstance(filesystem, fs.LocalFileSystem)
        return cls(filesystem, root, root if local else _joined(text))

    @property
    def path(self) -> Path | None:
        """The local directory; None for a folder behind a URL."""
        return Path(os.fsdecode(self._root.encode())) if isinstance(self._fs, fs.LocalFileSystem) else None

    def sub(self, name: str) -> ResultsFolder:
        """The folder `name` in this one."""
        return ResultsFolder(self._fs, f"{self._root}/{name}", _joined(self.place, name))

    def read(self, name: str, most: int = MOST) -> bytes | None:
        """The content of the blob, None if it does not exist. FolderRefused if it has more than `most` bytes."""

        def read_file() -> bytes:
            with self._fs.open_input_file(f"{self._root}/{name}") as file:
                if file.size() > most:
                    raise FolderRefused(f"{self.url}/{name}: has {file.size():,} bytes (allowed: {most:,})")
                return bytes(file.read())

        try:
            return self._retried(read_file)
        except (FileNotFoundError, NotADirectoryError):  # the second if a file has the folder's name
            return None

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The JSON object in a blob, None if it does not exist. FolderRefused, naming the blob, if it is damaged."""
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
        """Write a JSON object, indented, with a hash of its content by which `read_json` finds damage."""
        self.write(name, json.dumps(content | {CHECKSUM: _checksum(content)}, indent=2).encode())

    def write(self, name: str, data: bytes) -> None:
        """Replace the blob as a whole and durably (on a disk, by fsync and rename). Raises CannotWrite."""
        with self._writing(name):
            if self.path is None:
                self._retried(lambda: self._put(name, data))
                return
            durable.replace(self.path / name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Write the blob if it does not exist; returns False if it does. Raises CannotWrite.

        Atomic on a disk, but not behind a URL. There, a blob that already holds `data` counts as written, because an
        attempt whose answer was lost may have written it.
        """
        with self._writing(name):
            if self.path is None:
                held = self.read(name)
                if held is None:
                    self.write(name, data)
                return held is None or held == data
            return durable.create(self.path / name, data)

    def _put(self, name: str, data: bytes) -> None:
        path = f"{self._root}/{name}"
        try:
            stream = self._fs.open_output_stream(path)
        except FileNotFoundError:  # a file system behind a URL that has folders
            self._fs.create_dir(path.rpartition("/")[0])
            stream = self._fs.open_output_stream(path)
        with stream:
            stream.write(data)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Turn an OSError of the block into CannotWrite."""
        try:
            yield
        except CannotWrite:
            raise
        except OSError as error:
            raise CannotWrite(f"{self.url}/{name}: cannot be written: {_message(error)}") from None

    def _retried(self, call: Callable[[], T]) -> T:
        """Return what `call` returns. Behind a URL, transient errors are retried; then StorageLost is raised, and later
        calls get a single attempt each until one succeeds."""
        if self.path is not None:
            return call()
        deadline, pause = time.monotonic() + self._patience, 0.25
        while True:
            try:
                answer = call()
                self._patience = PATIENCE
                return answer
            except (FileNotFoundError, PermissionError):
                raise
            except OSError as error:
                if PERMANENT.search(str(error)):
                    raise CannotWrite(f"{self.url}: refused by the storage: {_message(error)}") from None
                if time.monotonic() + pause > deadline:
                    self._patience = 0.0
                    raise StorageLost(f"{self.url}: the storage does not answer: {_message(error)}") from None
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, 5.0)

    def age(self, name: str) -> float:
        """Seconds since the blob was written, by the storage's clock alone: negative if that clock was set back.

        Raises FileNotFoundError if there is no such blob.
        """
        parent, _, last = name.rpartition("/")
        probe = f"{parent}/.{last}.{secrets.token_hex(4)}{ASIDE}"
        self.write(probe, b"")
        try:
            paths = [f"{self._root}/{probe}", f"{self._root}/{name}"]
            now, then = self._retried(lambda: self._fs.get_file_info(paths))
        finally:
            self.delete(probe)
        if then.type == fs.FileType.NotFound:
            raise FileNotFoundError(name)
        return float(now.mtime_ns - then.mtime_ns) / 1e9

    def changed(self, name: str) -> float | None:
        """When the blob was written, in seconds since 1970 by the storage's clock; None if it does not exist."""
        info = self._fs.get_file_info(f"{self._root}/{name}")
        return None if info.type == fs.FileType.NotFound else float(info.mtime_ns) / 1e9

    def tidy(self, *subs: str) -> None:
        """Delete unfinished files that killed processes have left in `subs`."""
        for sub in subs:
            for name in self._files(sub):
                if name.startswith(".") and name.endswith(ASIDE):
                    self.delete(f"{sub}/{name}" if sub else name)

    def names(self, sub: str = "") -> list[str]:
        """Names of the blobs directly in `sub`, sorted, without those being written."""
        return sorted(name for name in self._files(sub) if not name.startswith("."))

    def everything(self, sub: str) -> list[str]:
        """The blobs in `sub` and in all folders below it, as paths in `sub`, sorted, without those being written."""
        root = f"{self._root}/{sub}"
        selector = fs.FileSelector(root, allow_not_found=True, recursive=True)
        found = self._retried(lambda: self._fs.get_file_info(selector))
        paths = [info.path[len(root) :].strip("/") for info in found if info.type == fs.FileType.File]
        return sorted(path for path in paths if not any(part.startswith(".") for part in path.split("/")))

    def _files(self, sub: str) -> list[str]:
        return [info.base_name for info in self._infos(sub) if info.type == fs.FileType.File]

    def _infos(self, sub: str) -> list[fs.FileInfo]:
        selector = fs.FileSelector(f"{self._root}/{sub}" if sub else self._root, allow_not_found=True)
        return list(self._retried(lambda: self._fs.get_file_info(selector)))

    def listing(self, sub: str = "") -> tuple[dict[str, tuple[int, int]], list[str]]:
        """What lies directly in `sub`, by one request: the blobs, each with its bytes and when it was written
        (nanoseconds since 1970 by the storage's clock), and the names of the folders. Neither has hidden names."""
        infos = [info for info in self._infos(sub) if not info.base_name.startswith(".")]
        blobs = {info.base_name: (info.size, info.mtime_ns) for info in infos if info.type == fs.FileType.File}
        return blobs, sorted(info.base_name for info in infos if info.type == fs.FileType.Directory)

    def delete(self, name: str) -> None:
        """Delete the blob, if it exists. Raises CannotWrite."""
        with self._writing(name), suppress(FileNotFoundError):
            self._retried(lambda: self._fs.delete_file(f"{self._root}/{name}"))

    def exists(self) -> bool:
        return bool(self._retried(lambda: self._fs.get_file_info(self._root)).type != fs.FileType.NotFound)

    def remove(self) -> None:
        """Delete the folder and everything in it."""
        self._retried(lambda: self._fs.delete_dir(self._root))

    def clear(self, sub: str) -> None:
        """Delete everything in `sub`."""
        self._retried(lambda: self._fs.delete_dir_contents(f"{self._root}/{sub}", missing_dir_ok=True))


def _joined(place: str, *names: str) -> str:
    """A path or URL with `names` appended before the options of a URL."""
    base, mark, options = place.partition("?") if "://" in place else (place, "", "")
    return "/".join((base.rstrip("/"), *names)) + mark + options


def _message(error: BaseException) -> str:
    """One line of an error's message."""
    return getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]


def _checksum(content: dict[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
