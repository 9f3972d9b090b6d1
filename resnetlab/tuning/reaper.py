"""Ends what a Ray of the driver's own leaves running where the driver dies without a word, as by SIGKILL.

Ray's processes notice within seconds that their parents are gone, but two of them (the dashboard's and the runtime
environments' agent of Ray 2.60) then often wait a minute to tell so to a control service that is gone as well. So a
process of ours waits for the driver's end, and ends after `GRACE` seconds what still runs of its Ray. Linux only:
elsewhere that minute is waited.

Run as a script, this file is that process: it imports nothing of ours, and starts in some 20 ms.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NAME = "RESNETLAB_RAY"  # the variable that all processes of one Ray have in their environment
GRACE = 5.0  # seconds


@contextmanager
def reaped(grace: float = GRACE) -> Iterator[str]:
    """Whatever is started with `NAME` set to the value given here ends at most `grace` seconds after this process, or
    after the block, whichever is first."""
    mark = secrets.token_hex(8)
    if not Path("/proc/self/environ").exists():
        yield mark
        return
    words = [sys.executable, "-I", "-S", __file__, mark, str(grace)]
    reaper = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield mark
    finally:
        assert reaper.stdin is not None
        reaper.stdin.close()


def processes(mark: str) -> list[int]:
    """Those that have the mark."""
    wanted, found = f"{NAME}={mark}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # another user's, or just ended
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def main(mark: str, grace: float) -> None:
    sys.stdin.buffer.read()  # until nobody can write there any more
    deadline = time.monotonic() + grace
    while processes(mark) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in processes(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
