"""A segment: rows of several tables in one blob with a hash, which is read whole or refused.

    <SHA-256 of the rest>\\n
    {"version": 2, "tables": {"epochs": 5120, "rungs": 800}}\\n
    <Arrow IPC stream of epochs><Arrow IPC stream of rungs>

It holds no pickles, and the hash finds any flipped bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from resnetlab.errors import FolderRefused
from resnetlab.storage.schema import KEYS

VERSION = 2


def encode(tables: Mapping[str, pa.Table]) -> bytes:
    """Encode `tables` as one blob."""
    bodies = {}
    for name, table in tables.items():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        bodies[name] = sink.getvalue().to_pybytes()
    header = {"version": VERSION, "tables": {name: len(part) for name, part in bodies.items()}}
    rest = b"".join([json.dumps(header).encode(), b"\n", *bodies.values()])
    return hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def decode(blob: bytes, place: str) -> dict[str, pa.Table]:
    """The tables in a blob. Raises FolderRefused, naming `place`, if it is damaged or has another version."""
    first, _, rest = blob.partition(b"\n")
    if hashlib.sha256(rest).hexdigest().encode() != first:
        raise FolderRefused(f"{place}: damaged: the content does not match its hash")
    head, _, body = rest.partition(b"\n")
    header = _header(head, place)
    if header["version"] != VERSION:
        raise FolderRefused(f"{place}: segment version {header['version']!r} (allowed: {VERSION})")
    tables, start = {}, 0
    for name, size in header["tables"].items():
        if name not in KEYS:
            raise FolderRefused(f"{place}: damaged: {name!r} is not a table (allowed: {', '.join(KEYS)})")
        tables[name] = _read(body[start : start + size], place)
        start += size
    return tables


def _read(part: bytes, place: str) -> pa.Table:
    """Read one stream batch by batch. We write them uncompressed, so one that decodes to more bytes is refused."""
    batches, size = [], 0
    try:
        with pa.ipc.open_stream(part) as reader:
            for batch in reader:
                size += batch.nbytes
                if size > len(part):
                    raise FolderRefused(f"{place}: refused: {len(part):,} bytes decode to {size:,} or more")
                batches.append(batch)
            return pa.Table.from_batches(batches, reader.schema)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FolderRefused(f"{place}: damaged: {str(error).splitlines()[0]}") from None


def _header(head: bytes, place: str) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(head)
        sizes = header["tables"].values()
        if "version" in header and all(isinstance(size, int) and size >= 0 for size in sizes):
            return header
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        pass
    raise FolderRefused(f"{place}: damaged: the header cannot be read")
