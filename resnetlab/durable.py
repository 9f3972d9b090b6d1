"""Files and names that outlast a power cut: written aside, flushed to the disk, then given their name.

A file's bytes last once it was fsynced, its name once its directory was.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import BinaryIO

ASIDE = ".aside"  # end of the names of files that are being written


def replace(target: Path, data: bytes) -> None:
    """Make `data` the content of the file `target`: a reader, and a power cut, see the old file or the new."""
    aside = _written_aside(target, data)
    try:
        aside.replace(target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def create(target: Path, data: bytes) -> bool:
    """Write the file only where there is none; False where there was one. Of several at once, one writes it."""
    aside = _written_aside(target, data)
    try:
        os.link(aside, target)  # fails where the name exists, and shows the file whole
    except FileExistsError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    sync_directory(target.parent)
    return True


def flush(file: BinaryIO) -> None:
    """Bring what was written to `file` to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Bring the names in the directory `path` to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _written_aside(target: Path, data: bytes) -> Path:
    """A file beside `target` that holds `data`, durably; the caller gives it its name."""
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
    """With its parents, durably: a file is as safe as the names on its path."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)
