"""Encode a table as a Parquet file with a checksum, and decode such a file within bounds of memory.

Parquet leaves the bytes between the data and the footer free. We put MARK and the SHA-256 of all other bytes there:
any Parquet reader can read the file, and ours finds a flipped bit. Files without the mark are read unchecked.

A file from elsewhere that would decode to far more than its size is refused before it fills the memory: rows are
counted in the footer, and text is first decoded to a dictionary, which holds a repeated value once.
"""

from __future__ import annotations

import io
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from resnetlab.errors import FolderRefused
from resnetlab.storage.schema import KEYS, current

MARK = b"resnetlab sha256"
DIGEST = sha256().digest_size
GROUP = 1 << 16  # rows of a row group: each costs some hundred bytes, which bounds how far our own files expand
FREE, RATIO, MOST = 64 << 20, 4000, 8 << 30  # decoded bytes allowed: to any file, plus per byte of file; at most


def encode(table: pa.Table) -> bytes:
    """The bytes of a Parquet file that holds `table` and its checksum."""
    sink = io.BytesIO()
    repeating = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
    pq.write_table(table, sink, compression="zstd", row_group_size=GROUP, use_dictionary=repeating)
    raw = sink.getbuffer()
    cut = _footer(raw)
    return b"".join([raw[:cut], MARK, _digest(raw, cut, cut), raw[cut:]])


def decode(raw: bytes, table: str, place: str) -> pa.Table:
    """The rows in the bytes of a Parquet file, in the current schema. table: the name of the expected table.

    Raises FolderRefused, naming `place`, if the file is damaged, holds another table, an unknown version or a duplicate
    key, or would decode to more than is allowed for its size.
    """
    cut = _footer(memoryview(raw))
    start = cut - DIGEST - len(MARK)
    if start > 0 and raw[start : start + len(MARK)] == MARK and raw[cut - DIGEST : cut] != _digest(raw, start, cut):
        raise FolderRefused(f"{place}: damaged: its {len(raw)} bytes do not match their checksum")
    try:
        file = pq.ParquetFile(pa.BufferReader(raw))
        current(file.schema_arrow.empty_table(), table, place)
        text = [field.name for field in file.schema_arrow if field.type == pa.string()]
        _check_size(file.metadata, len(raw), place)
        # By this thread alone: a process that ends while Arrow's threads start may abort (apache/arrow#34314).
        rows = pq.ParquetFile(pa.BufferReader(raw), read_dictionary=text).read(use_threads=False)
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        raise FolderRefused(f"{place}: damaged: {str(error).splitlines()[0]}") from None
    allowed = _allowed(len(raw))
    size = sum(_decoded(rows[name]) if name in text else rows[name].nbytes for name in rows.column_names)
    if size > allowed:
        raise FolderRefused(_too_large(place, size, len(raw)))
    if _repeats(rows, KEYS[table]):
        raise FolderRefused(f"{place}: damaged: duplicate key ({', '.join(KEYS[table])})")
    return current(rows.cast(file.schema_arrow), table, place)


def _footer(raw: memoryview) -> int:
    """Offset of the footer; 0 if there is none."""
    if len(raw) < 12 or bytes(raw[-4:]) != b"PAR1":
        return 0
    return max(0, len(raw) - 8 - int.from_bytes(raw[-8:-4], "little"))


def _digest(raw: bytes | memoryview, end: int, start: int) -> bytes:
    """SHA-256 of all bytes except those from `end` to `start`."""
    state = sha256(memoryview(raw)[:end])
    state.update(memoryview(raw)[start:])
    return state.digest()


def _allowed(size: int) -> int:
    """How many bytes a file of `size` bytes may decode to."""
    return min(MOST, FREE + RATIO * size)


def _check_size(metadata: pq.FileMetaData, size: int, place: str) -> None:
    """Refuse by the footer alone: at least four bytes per value, and the page sizes that it states."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    pages = sum(group.total_byte_size for group in groups)
    least = max(metadata.num_rows * metadata.num_columns * 4, pages)
    if least > _allowed(size):
        raise FolderRefused(_too_large(place, least, size))


def _too_large(place: str, decoded: int, size: int) -> str:
    return (
        f"{place}: refused: its {size:,} bytes decode to {decoded:,} bytes or more (allowed for a file of this size: "
        f"{_allowed(size):,})"
    )


def _decoded(column: pa.ChunkedArray) -> int:
    """Bytes of a dictionary-encoded text column once it is decoded."""
    size = 0
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
        size += 4 * len(chunk) + (pc.sum(lengths).as_py() or 0)
    return size


def _repeats(rows: pa.Table, keys: tuple[str, ...]) -> bool:
    """True if two rows have the same key."""
    if len(rows) < 2:
        return False
    codes = []
    for key in keys:
        column = rows[key].combine_chunks()
        column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        column = column.unify_dictionaries() if isinstance(column, pa.ChunkedArray) else column
        codes.append(pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64))
    combined = codes[0]
    for code in codes[1:]:
        combined = combined * (int(code.max()) + 2) + code
    if bool(np.all(np.diff(combined) > 0)):  # already sorted, as rows usually are
        return False
    return len(np.unique(combined)) < len(combined)
