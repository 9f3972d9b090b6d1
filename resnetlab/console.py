"""Standard output and standard error, as every script in `sweeps/` has them: the one place that owns both.

A stream that fails stops no work. A reader that has left, as `head` and a pager do, wanted no more: nothing is said. A
stream that takes no more, as a full disk, has lost something: the script does its work, says so at its end, and exits
with 1. Characters that the terminal's encoding lacks are replaced.
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

ERRORS = "resnetlab.spelt"  # of codecs: what becomes of a character that an encoding lacks
SPELT = str.maketrans(
    {"…": "...", "−": "-", "–": "-", "—": "-", "·": "|", "×": "x", "±": "+/-", "≥": ">=", "≤": "<=", "→": "->"}
    | {"’": "'", "‘": "'", "“": '"', "”": '"', "\xa0": " ", "\u202f": " ", "\u2009": " "}
)
LEFT = {errno.EPIPE, errno.EIO, errno.ECONNRESET, errno.EBADF}  # nobody reads any more; EIO: a terminal hung up


def _spelt(error: UnicodeError) -> tuple[str | bytes, int]:
    """A minus stays a minus; a byte of a file name that is no text goes out as it is, so that the name can be copied;
    any other character becomes `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter, after = error.object[error.start], error.start + 1
    if "\udc80" <= letter <= "\udcff":
        return bytes([ord(letter) - 0xDC00]), after
    return letter.translate(SPELT).encode("ascii", "replace").decode(), after


codecs.register_error(ERRORS, _spelt)


class _Descriptor(io.RawIOBase):
    """Writes to a file descriptor, which it does not close. What fails is dropped and noted in `error`."""

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
            except BlockingIOError:  # whoever shares the terminal has set it so
                select.select([], [self._number], [])
            except OSError as error:
                self.error = error
                break
        return size


def writer(number: int, encoding: str | None = None) -> TextIO:
    """Text to the file descriptor `number`, in the encoding of standard output unless another is given."""
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
    """As standard error would have it, for whoever writes to its file descriptor."""
    return text.encode(encoding_of(sys.stderr), ERRORS)


@contextmanager
def streams() -> Iterator[None]:
    """While this lasts, the standard streams are as this module says. Around all that a script does.

    Raises SystemExit(1) at the end where standard output took not all of it, and nothing else went wrong.
    """
    _occupy()
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
            _told(out)
        raise
    else:
        out.flush()
        _told(out)
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def _occupy() -> None:
    """Open /dev/null where a standard stream is closed: else the next file that is opened would take its number, and
    with it whatever is printed by code that does not ask Python."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _told(out: TextIO) -> None:
    error = out.buffer.raw.error  # type: ignore[attr-defined]
    if error is not None and error.errno not in LEFT:
        print(f"error: standard output: {error.strerror}: what was printed is not complete", file=sys.stderr)
        raise SystemExit(1)


def in_notebook() -> bool:
    """True in a Jupyter kernel: it shows what is written to its `sys.stdout`, which is not file descriptor 1."""
    from rich.console import Console

    return Console().is_jupyter


def screen(file: TextIO | None = None, **options: Any) -> Console:
    """A rich console on `file`, or on standard output. In a notebook it writes plain text: rich would show HTML, piece
    by piece, or the codes of a terminal, which Jupyter's environment asks for."""
    from rich.console import Console

    return Console(file=file, force_jupyter=False, **{"force_terminal": False if in_notebook() else None} | options)


@contextmanager
def people_on_stderr(wanted: bool) -> Iterator[None]:
    """Keep stdout for what a script reads: while this lasts, whatever is printed goes to stderr, where `wanted`."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def print_json(content: Any) -> None:
    """One line of JSON on stdout, in ASCII: whoever reads it need not know the locale."""
    print(json.dumps(content))
