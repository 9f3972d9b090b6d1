"""Processes that have imported torch before they are asked for.

A user's own code is read and tried in processes of its own (`references.probe`, `rehearsal`), each of which imports
torch: seconds, of which a hundred tests of what these processes answer need none. `Popen` stands in for
`subprocess.Popen`, where this is called as those two modules do: the process comes from multiprocessing's fork server,
which has imported it, and is in a session of its own, with the environment, the path and the streams asked for.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

PRELOADED = ["torch", "resnetlab.vision.models", "resnetlab.vision.training.loop", "resnetlab.sweep.own_search"]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(PRELOADED)


class Popen:
    """Such a process, with what the two modules ask of `subprocess.Popen`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        start_new_session: bool,
        env: Mapping[str, str] | None = None,
    ):
        assert (stdin, stdout, stderr) == (subprocess.PIPE,) * 3 and start_new_session and command[0] == sys.executable
        given, self._write = SERVER.Pipe(duplex=False)
        (out, said), (errors, complained) = SERVER.Pipe(duplex=False), SERVER.Pipe(duplex=False)
        words = [word for word in command[1:] if word != "-B"]
        job = words, dict(os.environ if env is None else env), str(Path.cwd()), given, said, complained
        self._process = SERVER.Process(target=_run, args=job)
        self._process.start()
        for one in (given, said, complained):
            one.close()
        self._said = [b"", b""]
        self._readers = [
            threading.Thread(target=self._read, args=(number, pipe), daemon=True)
            for number, pipe in enumerate((out, errors))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def _read(self, number: int, pipe: Connection) -> None:
        with os.fdopen(os.dup(pipe.fileno()), "rb") as stream, pipe:
            self._said[number] = stream.read()

    def communicate(self, words: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:
        if words is not None:
            # A process that ends before it has read all is no error here, as with `subprocess.Popen`.
            with contextlib.suppress(BrokenPipeError), os.fdopen(os.dup(self._write.fileno()), "wb") as stream:
                self._write.close()
                stream.write(words)
        end = None if timeout is None else time.monotonic() + timeout
        for reader in self._readers:
            reader.join(None if end is None else max(0.0, end - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
        self.wait()
        return self._said[0], self._said[1]

    def wait(self) -> int:
        self._process.join()
        return self._process.exitcode


def _run(words: list[str], env: dict[str, str], cwd: str, *streams: Connection) -> None:
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w")))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    own = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = dict.fromkeys([cwd, *own, *sys.path])
    sys.argv = [words[0], *words[2:]]
    if words[0] == "-m":
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
