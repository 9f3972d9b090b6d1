"""S3 on this machine: moto's server in a process of its own, and a connection to it that can fail."""

from __future__ import annotations

import itertools
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pyarrow import fs

SERVER = Path(sys.prefix) / "moto/bin/moto_server"  # `make test` installs it there: its packages would change ours
ACCESS = {
    "AWS_ACCESS_KEY_ID": "here",
    "AWS_SECRET_ACCESS_KEY": "here",
    "AWS_EC2_METADATA_DISABLED": "true",
}
MISSING = None if SERVER.exists() else f"no {SERVER} (`make test` installs it)"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class S3:
    """moto's server with one bucket, `bkt`, on `host`. A context manager."""

    def __init__(self, host: str = "127.0.0.1"):
        self.host, self.port = host, free_port()

    def __enter__(self) -> S3:
        words = [str(SERVER), "-H", self.host, "-p", str(self.port)]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 300
        while True:
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
                break
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("moto's server does not come up") from None
                time.sleep(0.1)
        os.environ.update(ACCESS)
        made, root = fs.FileSystem.from_uri(self.url("", self.port) + "&allow_bucket_creation=true")
        made.create_dir(root.rstrip("/"))
        return self

    def __exit__(self, *error: Any) -> None:
        self._process.kill()
        self._process.wait(120)

    def url(self, name: str, port: int | None = None) -> str:
        """A URL of `name` in the bucket, by way of `port` (of a Way)."""
        return f"s3://bkt/{name}?endpoint_override={self.host}:{port or self.port}&scheme=http&region=us-east-1"


class Way(socketserver.ThreadingTCPServer):
    """A port from which bytes go to `target` and back. mode: `open`, `busy` (503), `closed` (connections are dropped),
    or `bad`, where three of four connections are busy, closed, or cut in a request. A context manager."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, target: tuple[str, int]):
        super().__init__((target[0], 0), _Connection)
        self.target, self.mode = target, "open"
        self.port = self.server_address[1]
        self.failed = 0
        self._fates = itertools.cycle(["busy", "cut", "closed", "open"])

    def __enter__(self) -> Way:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that break are what it is for."""

    def fate(self) -> str:
        """What becomes of a new connection."""
        fate = next(self._fates) if self.mode == "bad" else self.mode
        self.failed += fate != "open"
        return fate


class _Connection(socketserver.BaseRequestHandler):
    server: Way

    def handle(self) -> None:
        mode, fate = self.server.mode, self.server.fate()
        if fate == "closed":
            return
        if fate == "busy":
            self.request.recv(1 << 16)
            self.request.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        until = time.monotonic() + (0.02 if fate == "cut" else 2.0 if mode == "bad" else 1e9)
        with socket.create_connection(self.server.target) as there:
            back = threading.Thread(target=self._pass, args=(there, self.request, mode, until), daemon=True)
            back.start()
            self._pass(self.request, there, mode, until)
            back.join()

    def _pass(self, source: socket.socket, sink: socket.socket, mode: str, until: float) -> None:
        """Bytes from one to the other, until either ends, the time is over, or the way is changed."""
        source.settimeout(0.05)
        try:
            while self.server.mode == mode and time.monotonic() < until:
                try:
                    part = source.recv(1 << 16)
                except TimeoutError:
                    continue
                if not part:
                    break
                sink.sendall(part)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
