"""Ends what a Ray of the driver's own leaves running where the driver dies without a word, as by SIGKILL.

Ray's processes notice within seconds that their parents are gone, but two of them (the dashboard's and the runtime
environments' agent of Ray 2.60) then often wait a minute to tell so to a control service that is gone as well. So a
process of ours waits for the driver's end, and ends after `GRACE` seconds what still runs of its Ray. These are known
by the folder of their logs: Ray gives them other names, which overwrite their command lines and environments.
Linux only: elsewhere that minute is waited.

Run as a script, this file is that process: it imports nothing of ours, and starts in some 20 ms.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GRACE = 3.0  # seconds


@contextmanager
def reaped(grace: float = GRACE) -> Iterator[Callable[[str], None]]:
    """Gives what is to be told the folder of a Ray session. Its processes end at most `grace` seconds after the block,
    or after this process, whichever is first."""
    if not Path("/proc/self/fd").exists():
        yield lambda folder: None
        return
    words = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(grace)]
    nothing = subprocess.DEVNULL
    reaper = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=nothing, stderr=nothing, start_new_session=True)
    assert reaper.stdin is not None
    with reaper.stdin as pipe:

        def tell(folder: str) -> None:
            pipe.write(os.fsencode(folder))
            pipe.flush()

        yield tell


def processes(folder: str) -> list[int]:
    """Those that have a file below `folder` open."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # another user's, or just ended
                if any(file.readlink().is_relative_to(folder) for file in (entry / "fd").iterdir()):
                    found.append(int(entry.name))
    return found


def main(driver: int, grace: float) -> None:
    folder = os.fsdecode(sys.stdin.buffer.read())  # until nobody can write there any more
    if not folder:
        return
    deadline = time.monotonic() + grace
    while (left := set(processes(folder)) - {driver}) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
