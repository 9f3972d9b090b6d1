"""A table as the bytes of a Parquet file, checked as a whole when read, and never decoded into more than it may be.

Parquet leaves the bytes between the data and the footer free. There stand MARK and the SHA-256 of all other bytes, so
that any reader of Parquet reads the file and ours finds a flipped bit. Files without the mark are read unchecked.

What comes from elsewhere is refused before it fills the memory: rows are counted in the footer, and text is decoded to
a dictionary first, where a value that is repeated a million times stands once.
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
GROUP = 1 << 16  # rows of a row group: each costs the file some hundred bytes, which bounds what honest files decode to
FREE, RATIO, MOST = 64 << 20, 4000, 8 << 30  # decoded bytes: that any file may have, per byte of file, at most


def encode(table: pa.Table) -> bytes:
    """The bytes of a Parquet file with `table`, its checksum included."""
    sink = io.BytesIO()
    repeating = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
    pq.write_table(table, sink, compression="zstd", row_group_size=GROUP, use_dictionary=repeating)
    raw = sink.getbuffer()
    cut = _footer(raw)
    return b"".join([raw[:cut], MARK, _digest(raw, cut, cut), raw[cut:]])


def decode(raw: bytes, table: str, place: str) -> pa.Table:
    """The rows of `table` in such bytes, as this version has them. FolderRefused, naming `place`, where they are
    damaged, of another table or version, have a key twice, or would decode to more than such a file honestly can."""
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
        found = pq.ParquetFile(pa.BufferReader(raw), read_dictionary=text).read(use_threads=False)
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        raise FolderRefused(f"{place}: damaged: {str(error).splitlines()[0]}") from None
    allowed = _allowed(len(raw))
    size = sum(_decoded(found[name]) if name in text else found[name].nbytes for name in found.column_names)
    if size > allowed:
        raise FolderRefused(_too_large(place, size, len(raw)))
    if _repeats(found, KEYS[table]):
        raise FolderRefused(f"{place}: damaged: duplicate key ({', '.join(KEYS[table])})")
    return current(found.cast(file.schema_arrow), table, place)


def _footer(raw: memoryview) -> int:
    """Where the footer begins; 0 where there is none."""
    if len(raw) < 12 or bytes(raw[-4:]) != b"PAR1":
        return 0
    return max(0, len(raw) - 8 - int.from_bytes(raw[-8:-4], "little"))


def _digest(raw: bytes | memoryview, end: int, start: int) -> bytes:
    """Of all bytes but those from `end` to `start`."""
    state = sha256(memoryview(raw)[:end])
    state.update(memoryview(raw)[start:])
    return state.digest()


def _allowed(size: int) -> int:
    return min(MOST, FREE + RATIO * size)


def _check_size(metadata: pq.FileMetaData, size: int, place: str) -> None:
    """What the footer tells: eight bytes a number, at least four a text, and what the pages say that they hold."""
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
    """Bytes of a column of text once it is no dictionary any more."""
    size = 0
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
        size += 4 * len(chunk) + (pc.sum(lengths).as_py() or 0)
    return size


def _repeats(rows: pa.Table, keys: tuple[str, ...]) -> bool:
    """True where two rows have the same key."""
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
    if bool(np.all(np.diff(combined) > 0)):  # in the order of the dictionary, as they mostly are
        return False
    return len(np.unique(combined)) < len(combined)
