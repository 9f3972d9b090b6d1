"""Processes that have imported torch before they are asked for.

A user's own code is read and tried in processes of its own (`references.probe`, `rehearsal`), each of which imports
torch: seconds, of which a hundred tests of what these processes answer need none. `Warm` is a process that has imported
it, and forks for each of them: the child is in a session of its own, with the environment, the path and the streams
that were asked for, and ends as it would have.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

MODULES = ("torch", "resnetlab.vision.models", "resnetlab.vision.training.loop", "resnetlab.sweep.own_search")
MOST = 2**20  # bytes of a request


class Warm:
    """A context manager. `popen` stands in for `subprocess.Popen`, where this is called as those two modules do."""

    def __enter__(self) -> Warm:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-B", __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        return self

    def __exit__(self, *error: object) -> None:
        self._ours.close()
        self._server.wait(60)

    def popen(
        self,
        command: Sequence[str],
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        start_new_session: bool,
        env: Mapping[str, str] | None = None,
    ) -> Forked:
        assert (stdin, stdout, stderr) == (subprocess.PIPE,) * 3 and start_new_session and command[0] == sys.executable
        job = {"words": list(command[1:]), "env": dict(os.environ if env is None else env), "cwd": str(Path.cwd())}
        (given, write), (read, out), (read_errors, errors) = os.pipe(), os.pipe(), os.pipe()
        told, tell = socket.socketpair()
        theirs = [given, out, errors, tell.fileno()]
        socket.send_fds(self._ours, [json.dumps(job).encode()], theirs)
        tell.close()
        for one in theirs[:3]:
            os.close(one)
        return Forked(told, os.fdopen(write, "wb"), os.fdopen(read, "rb"), os.fdopen(read_errors, "rb"))


class Forked:
    """Such a process, with what the two modules ask of a `Popen`."""

    def __init__(self, told: socket.socket, stdin: BinaryIO, stdout: BinaryIO, stderr: BinaryIO):
        self._told, self._stdin = told.makefile("r"), stdin
        told.close()
        self.pid = int(self._told.readline())
        self.returncode: int | None = None
        self._said = [b"", b""]
        self._readers = [
            threading.Thread(target=self._read, args=(number, stream), daemon=True)
            for number, stream in enumerate((stdout, stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, number: int, stream: BinaryIO) -> None:
        with stream:
            self._said[number] = stream.read()

    def communicate(self, words: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:
        if words is not None:
            try:
                with self._stdin:
                    self._stdin.write(words)
            except BrokenPipeError:
                pass  # as `Popen.communicate` does
        end = None if timeout is None else time.monotonic() + timeout
        for reader in self._readers:
            reader.join(None if end is None else max(0.0, end - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
        self.wait()
        return self._said[0], self._said[1]

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode


def serve(requests: socket.socket) -> None:
    for module in MODULES:
        __import__(module)
    while True:
        job, fds, *_ = socket.recv_fds(requests, MOST, 4)
        if not job:
            return
        child = os.fork()
        if not child:
            _run(json.loads(job), fds)
        with socket.socket(fileno=fds.pop()) as tell:
            for fd in fds:
                os.close(fd)
            tell.sendall(f"{child}\n".encode())
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            tell.sendall(f"{code}\n".encode())


def _run(job: dict, fds: list[int]) -> None:
    os.setsid()
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    os.closerange(3, max(fds) + 1)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    own = filter(None, job["env"].get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = dict.fromkeys([job["cwd"], *own, *sys.path])
    words = [word for word in job["words"] if word != "-B"]
    sys.argv = ["-" + words[0][1:], *words[2:]]
    if words[0] == "-m":
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    sys.exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
