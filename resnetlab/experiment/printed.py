"""What a trial's code prints, kept beside where it goes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

MOST = 64_000  # characters between two reports: the last ones are kept


class Printed:
    """What Python code wrote to stdout and stderr since `take` was last called, in the order in which it did."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0

    def add(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)
        if self._length > 2 * MOST:
            self._parts = [self._last()]
            self._length = len(self._parts[0])

    def take(self) -> str:
        """At most `MOST` characters, the last ones; a line before them says so where there were more."""
        text = self._last()
        self._parts, self._length = [], 0
        return text

    def _last(self) -> str:
        text = "".join(self._parts)
        return text if len(text) <= MOST else "…\n" + text[2 - MOST :]


class _Both:
    """A stream that writes to another one, and to `printed`; all else is the other's."""

    def __init__(self, stream: TextIO, printed: Printed):
        self._stream, self._printed = stream, printed

    def write(self, text: str) -> int:
        self._printed.add(text)
        return self._stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def kept(printed: Printed) -> Iterator[None]:
    """Inside the block, what is printed goes into `printed` as well. Not what C code writes, or other processes."""
    out, errors = (cast(TextIO, _Both(stream, printed)) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        yield
