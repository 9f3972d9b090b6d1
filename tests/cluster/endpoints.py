"""List what listens in a Ray cluster, and what each service answers to a client without the token.

A port that speaks gRPC is asked every method that Ray's protocols have, one that speaks HTTP the paths in PATHS. An
answer of any kind, an error about the question included, is an open door; only "unauthenticated" is a closed one.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

HEALTH = "/grpc.health.v1.Health/Check"
BY_HAND = ("Push", "Pull", "FreeObjects")  # of the object manager, whose protocol Ray does not ship for Python
PATHS = {
    "GET": (
        "/", "/metrics", "/api/version", "/api/jobs/", "/api/cluster_status", "/api/actors", "/api/v0/tasks", "/nodes",
        "/logical/actors", "/api/v0/logs", "/logs", "/api/serve/applications/", "/api/gcs_healthz", "/timezone",
        "/api/local_raylet_healthz", "/api/authentication_mode", "/worker/traceback", "/memory_profile",
    ),
    "POST": (
        "/api/jobs/", "/api/job_agent/jobs/", "/get_or_create_runtime_env", "/delete_runtime_env_if_possible",
        "/api/launch_rest",
    ),
}  # fmt: skip


@dataclass
class Endpoint:
    """One listening socket. address: as bound; owner: the process; beyond: reachable from other hosts."""

    address: str
    owner: str
    beyond: bool
    protocol: str = ""
    refused: int = 0
    answered: list[str] = field(default_factory=list)

    @property
    def control(self) -> list[str]:
        """What it answered that can change something, or tells what the cluster does, rather than its health."""
        harmless = {HEALTH, "GET /api/gcs_healthz", "GET /api/local_raylet_healthz", "GET /api/authentication_mode"}
        if self.protocol == "metrics":
            return []
        return [name for name in self.answered if name not in harmless | {"GET /"}]


def descendants(root: int) -> dict[int, str]:
    """Process ids below `root`, itself included, with their names."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        found[pid] = _name([word.decode(errors="replace") for word in words if word])
    return found


def _name(words: list[str]) -> str:
    script = next((word for word in words[1:] if word.endswith(".py")), None)
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1]
    return Path(script).name if script else Path(words[0]).name if words else "?"


def listening(pids: dict[int, str]) -> list[Endpoint]:
    """The TCP sockets on which these processes listen."""
    sockets = {}
    for pid, name in pids.items():
        for handle in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = str(handle.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                sockets[target[8:-1]] = name
    found = {}
    for line in subprocess.run(["ss", "-ltneH"], capture_output=True, text=True, check=True).stdout.splitlines():
        words = line.split()
        inode = next(word.removeprefix("ino:") for word in words if word.startswith("ino:"))
        if inode in sockets:
            address = words[3].replace("[::ffff:", "").replace("]", "")
            loopback = address.startswith(("127.", "::1", "[::1"))
            found[address] = Endpoint(address, sockets[inode], not loopback)
    return sorted(found.values(), key=lambda one: (one.owner, one.address))


def methods() -> list[tuple[str, bool, bool]]:
    """Every method of Ray's gRPC services: its name, and whether client and server stream."""
    import ray.core.generated as generated

    found = [(HEALTH, False, False), *((f"/ray.rpc.ObjectManagerService/{name}", False, False) for name in BY_HAND)]
    for module in pkgutil.iter_modules(generated.__path__):
        if module.name.endswith("_pb2"):
            services = importlib.import_module(f"ray.core.generated.{module.name}").DESCRIPTOR.services_by_name
            for service in services.values():
                for one in service.methods:
                    found.append((f"/{service.full_name}/{one.name}", one.client_streaming, one.server_streaming))
    return found


def probe(endpoint: Endpoint, timeout: float = 3.0) -> None:
    """Ask everything, without a token, and note what came."""
    host, _, port = endpoint.address.rpartition(":")
    place = f"{'127.0.0.1' if host in ('*', '0.0.0.0', '[::]', '::') else host}:{port}"
    if status(place, "GET", "/") is None:
        _ask_grpc(endpoint, place, timeout)
    else:
        _ask_http(endpoint, place)


def _ask_http(endpoint: Endpoint, place: str) -> None:
    endpoint.protocol = "metrics" if b"# HELP" in (_body(place, "/metrics") or b"") else "HTTP"
    for verb, paths in PATHS.items():
        for path in paths:
            code = status(place, verb, path)
            if code in (401, 403):
                endpoint.refused += 1
            elif code not in (None, 404, 405):
                endpoint.answered.append(f"{verb} {path}")


def status(place: str, verb: str, path: str) -> int | None:
    """The HTTP status with which host:port answers, None where it does not."""
    asked = urllib.request.Request(f"http://{place}{path}", method=verb, data=b"{}" if verb == "POST" else None)
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, HTTPException):
        return None


def _body(place: str, path: str) -> bytes | None:
    try:
        with urllib.request.urlopen(f"http://{place}{path}", timeout=5) as answer:
            return answer.read(65536)
    except (OSError, HTTPException):
        return None


def _ask_grpc(endpoint: Endpoint, place: str, timeout: float) -> None:
    import grpc

    endpoint.protocol = "gRPC"
    with grpc.insecure_channel(place) as channel:
        for name, client, server in methods():
            kind = f"{'stream' if client else 'unary'}_{'stream' if server else 'unary'}"
            try:
                answer = getattr(channel, kind)(name)(iter([b""]) if client else b"", timeout=timeout)
                if server:
                    next(answer, None)
                code = grpc.StatusCode.OK
            except grpc.RpcError as error:
                code = error.code()
            if code == grpc.StatusCode.UNAUTHENTICATED:
                endpoint.refused += 1
            elif code == grpc.StatusCode.UNAVAILABLE:
                endpoint.protocol = "neither HTTP nor gRPC"
                return
            elif code != grpc.StatusCode.UNIMPLEMENTED:
                endpoint.answered.append(name)


def table(endpoints: list[Endpoint]) -> list[str]:
    """One line an endpoint, for people."""
    rows = [("process", "bound to", "protocol", "refused without token", "answered without token")]
    for one in endpoints:
        host = one.address.rpartition(":")[0]
        shown = "every interface" if host in ("*", "0.0.0.0", "[::]", "::") else host
        answered = "any path: metrics" if one.protocol == "metrics" else ", ".join(one.answered) or "nothing"
        rows.append((one.owner, shown, one.protocol, str(one.refused), answered))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]) for row in rows
    ]
    return list(dict.fromkeys(lines))


def settled(root: int, seconds: float = 10.0) -> list[Endpoint]:
    """The endpoints under `root`, once no new one has come for a second."""
    deadline, before = time.monotonic() + seconds, -1
    while True:
        found = listening(descendants(root))
        if len(found) == before or time.monotonic() > deadline:
            return found
        before = len(found)
        time.sleep(1)
