"""A segment: some rows of some tables in one blob, whole or refused.

    {"version": 1, "tables": {"epochs": 5120, "rungs": 800}, "sha256": "…"}\\n
    <Arrow IPC stream of epochs><Arrow IPC stream of rungs>

Columnar, without pickles, and checked: a flipped bit anywhere is found by the hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from resnetlab.errors import FolderRefused

MAX_BYTES = 1 << 30


def encode(tables: Mapping[str, pa.Table]) -> bytes:
    """The blob that holds `tables`."""
    bodies = {}
    for name, table in tables.items():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        bodies[name] = sink.getvalue().to_pybytes()
    body = b"".join(bodies.values())
    header = {
        "version": 1,
        "tables": {name: len(part) for name, part in bodies.items()},
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    return json.dumps(header).encode() + b"\n" + body


def decode(blob: bytes, place: str) -> dict[str, pa.Table]:
    """The tables in a blob. FolderRefused, naming `place`, where it is damaged or of another version."""
    head, newline, body = blob.partition(b"\n")
    header = _header(head) if newline else None
    if header is None:
        raise FolderRefused(f"{place}: damaged: the header cannot be read")
    if header.get("version") != 1:
        raise FolderRefused(f"{place}: segment version {header.get('version')!r} (allowed: 1)")
    if len(body) > MAX_BYTES or hashlib.sha256(body).hexdigest() != header.get("sha256"):
        raise FolderRefused(f"{place}: damaged: the content does not match its hash")
    tables, start = {}, 0
    for name, size in header["tables"].items():
        tables[name] = pa.ipc.open_stream(body[start : start + size]).read_all()
        start += size
    return tables


def _header(head: bytes) -> dict[str, Any] | None:
    try:
        header = json.loads(head)
    except ValueError:
        return None
    return header if isinstance(header, dict) else None
