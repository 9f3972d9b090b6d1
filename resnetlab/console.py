"""Standard output and standard error of every command.

A stream that fails does not stop a command. If the reader has closed the stream, as `head` and pagers do, nothing is
reported. If a write failed otherwise, as on a full disk, the command finishes its work, reports that its output is
incomplete, and exits with 1. Characters that the terminal's encoding lacks are replaced.
"""

from __future__ import annotations

import codecs
import errno
import io
import json
import logging
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

ERRORS = "resnetlab.spelt"  # name of the codec error handler below
SPELT = str.maketrans(
    {
        "…": "...",
        "−": "-",
        "–": "-",
        "—": "-",
        "·": "|",
        "×": "x",
        "±": "+/-",
        "≥": ">=",
        "≤": "<=",
        "→": "->",
        "†": "+",
    }
    | {"’": "'", "‘": "'", "“": '"', "”": '"', "\xa0": " ", "\u202f": " ", "\u2009": " "}
)
LEFT = {errno.EPIPE, errno.EIO, errno.ECONNRESET, errno.EBADF}  # the reader is gone; EIO: a terminal was closed


def _spelt(error: UnicodeError) -> tuple[str | bytes, int]:
    """Codec error handler: spells a character in ASCII (SPELT), else as `?`. Undecodable bytes of file names are
    written as they are, so that the name can be copied."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter, after = error.object[error.start], error.start + 1
    if "\udc80" <= letter <= "\udcff":
        return bytes([ord(letter) - 0xDC00]), after
    return letter.translate(SPELT).encode("ascii", "replace").decode(), after


codecs.register_error(ERRORS, _spelt)


class _Descriptor(io.RawIOBase):
    """Writes to a file descriptor without closing it. Data that cannot be written is dropped; `error` tells why."""

    def __init__(self, number: int):
        self._number = number
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        try:
            return os.isatty(self._number)
        except OSError:
            return False

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            try:
                rest = rest[os.write(self._number, rest) :]
            except BlockingIOError:  # set by another process on the same terminal
                select.select([], [self._number], [])
            except OSError as error:
                self.error = error
                break
        return size


def writer(number: int, encoding: str | None = None) -> TextIO:
    """A text stream to the file descriptor `number`, in the encoding of standard output unless another is given."""
    raw = _Descriptor(number)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding or encoding_of(sys.stdout),
        errors=ERRORS,
        line_buffering=raw.isatty(),
    )


def encoding_of(stream: TextIO | None) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def encoded(text: str) -> bytes:
    """Text in the encoding of standard error, to write to its file descriptor."""
    return text.encode(encoding_of(sys.stderr), ERRORS)


@contextmanager
def streams() -> Iterator[None]:
    """Replace the standard streams inside a `with` block, around the whole command, as this module describes.

    Raises SystemExit(1) at the end if standard output is incomplete and nothing else went wrong.
    """
    _open_closed_streams()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where no home folder keeps its list of fonts
    before = sys.stdout, sys.stderr
    out, err = writer(1, encoding_of(sys.stdout)), writer(2, encoding_of(sys.stderr))
    err.reconfigure(line_buffering=True)  # type: ignore[attr-defined]
    for stream in before:
        if stream is not None:
            stream.flush()
    sys.stdout, sys.stderr = out, err
    try:
        yield
    except SystemExit as error:
        out.flush()
        if error.code in (None, 0):
            _report_incomplete(out)
        raise
    else:
        out.flush()
        _report_incomplete(out)
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def _open_closed_streams() -> None:
    """Open /dev/null for a closed standard stream: else the next opened file would get its number, and so the output of
    code that writes to that number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _report_incomplete(out: TextIO) -> None:
    error = out.buffer.raw.error  # type: ignore[attr-defined]
    if error is not None and error.errno not in LEFT:
        print(f"error: standard output: {error.strerror}: what was printed is not complete", file=sys.stderr)
        raise SystemExit(1)


def in_notebook() -> bool:
    """True in a Jupyter kernel: it shows what is written to its `sys.stdout`, which is not file descriptor 1."""
    from rich.console import Console

    return Console().is_jupyter


def screen(file: TextIO | None = None, **options: Any) -> Console:
    """A rich console on `file`, or on standard output. In a notebook it writes plain text instead of HTML or the escape
    codes of a terminal."""
    from rich.console import Console

    return Console(file=file, force_jupyter=False, **{"force_terminal": False if in_notebook() else None} | options)


@contextmanager
def people_on_stderr(redirect: bool) -> Iterator[None]:
    """If `redirect`, send what is printed inside a `with` block to stderr, to keep stdout for machines."""
    if not redirect:
        yield
        return
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def print_json(content: Any) -> None:
    """Print one line of JSON to stdout, in ASCII, so that it does not depend on the locale."""
    print(json.dumps(content))
