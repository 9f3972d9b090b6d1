"""Write files so that they survive a power cut: to a temporary name, flushed to the disk, then renamed.

The content of a file is safe once the file is fsynced, its name once its directory is.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import BinaryIO

ASIDE = ".aside"  # suffix of files that are being written


def replace(target: Path, data: bytes) -> None:
    """Make `data` the content of the file `target`: a reader sees the old file or the new, even after a power cut."""
    aside = _written_aside(target, data)
    try:
        aside.replace(target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def create(target: Path, data: bytes) -> bool:
    """Write the file if it does not exist; returns False if it does. Of several writers, only one succeeds."""
    aside = _written_aside(target, data)
    try:
        os.link(aside, target)  # fails if the name exists, and never shows half a file
    except FileExistsError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    sync_directory(target.parent)
    return True


def flush(file: BinaryIO) -> None:
    """Flush what was written to `file` to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Flush the names in the directory `path` to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _written_aside(target: Path, data: bytes) -> Path:
    """Write `data` to a new file beside `target`, durably, and return its path for the caller to rename."""
    _make_directory(target.parent)
    handle, aside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=ASIDE)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            os.fchmod(handle, 0o644)
            flush(stream)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return Path(aside)


def _make_directory(path: Path) -> None:
    """Make a directory and its parents, durably: a file is only as safe as every name on its path."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)
