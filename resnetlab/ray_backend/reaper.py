"""Kill what is left of a local Ray after its driver was killed (by SIGKILL, for example).

Ray's processes notice within seconds that their parents are gone, but two of them (the agents of the dashboard and of
the runtime environments, in Ray 2.60) then often wait a minute for a control service that is gone as well. So a helper
process waits for the driver's end, and kills what still runs of its Ray `GRACE` seconds later. It finds these processes
by the log folder in which they have files open, because Ray overwrites their command lines and environments.
Linux only: elsewhere they end after that minute.

Run as a script, this file is the helper process: it imports nothing else of this package, and starts in about 20 ms.
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
    """Yield a function to call with the folder of a Ray session. The processes of that session end at most `grace`
    seconds after the `with` block, or after this process, whichever ends first."""
    if not Path("/proc/self/fd").exists():
        yield lambda folder: None
        return
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(grace)]
    nothing = subprocess.DEVNULL
    reaper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=nothing, stderr=nothing, start_new_session=True)
    assert reaper.stdin is not None
    with reaper.stdin as pipe:

        def reap(folder: str) -> None:
            pipe.write(os.fsencode(folder))
            pipe.flush()

        yield reap


def processes(folder: str) -> list[int]:
    """The ids of the processes that have a file below `folder` open."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # another user's, or just ended
                if any(file.readlink().is_relative_to(folder) for file in (entry / "fd").iterdir()):
                    pids.append(int(entry.name))
    return pids


def main(driver: int, grace: float) -> None:
    """Wait until process `driver` is gone, then end the processes of its Ray session within `grace` seconds."""
    folder = os.fsdecode(sys.stdin.buffer.read())  # returns when the driver has closed its end of the pipe
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
