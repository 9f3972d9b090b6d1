"""The server of `resnetlab serve`: on loopback alone, until Ctrl-C."""

from __future__ import annotations

import getpass
import platform
import secrets
import socket

import uvicorn

from resnetlab.commands import short
from resnetlab.errors import BadRequest
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.web.app import app

HOST = "127.0.0.1"
PORT = 8642


def serve(place: str, port: int = PORT, read_only: bool = False) -> None:
    """Serve the studies of the folder at `place` (a path or URL) to whoever has the URL that is printed, until Ctrl-C.

    Args:
        place: a folder that holds results folders, or one of them.
        port: on 127.0.0.1; 0 for any that is free.
        read_only: no page can pause or stop a sweep.

    Raises:
        BadRequest: there is no such folder, or the port cannot be had.
    """
    root = ResultsFolder.at(place, "RESULTS")
    if not root.exists():
        raise BadRequest(f"RESULTS {root.url}: there is no such folder")
    listening = _listen(port)
    port, token = listening.getsockname()[1], secrets.token_urlsafe(32)
    pages = app(root, token, f"resnetlab-{port}", lambda: server.should_exit, read_only)
    config = uvicorn.Config(
        pages, log_level="warning", access_log=False, server_header=False, proxy_headers=False, ws="none",
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    server = uvicorn.Server(config)
    tunnel = f"ssh -N -L {port}:{HOST}:{port} {getpass.getuser()}@{platform.node()}"
    print(
        f"studies of {short(root.url)}: http://{HOST}:{port}/?token={token}\n"
        f"from another machine: {tunnel}, then the same URL\n"
        "Ctrl-C ends it; sweeps go on",
        flush=True,
    )
    try:
        server.run([listening])
    except KeyboardInterrupt:  # which uvicorn passes on once it has ended
        print("\nended")
    finally:
        listening.close()


def _listen(port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise BadRequest(f"--port {port}: no port has this number (allowed: 0 to 65535; 0 for any that is free)")
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()  # before the URL is printed
    except OSError as error:
        listening.close()
        why = (error.strerror or str(error)).lower()
        raise BadRequest(f"--port {port}: {why} (allowed: a free port, or 0 for any)") from None
    return listening
