"""Store the rows of a running sweep: `add` holds them in memory, `flush` makes them durable, `publish` merges them.

`flush` writes all rows since the last flush as one segment (by fsync and rename), after which they cannot be lost;
`publish` merges the segments into `trials.parquet`, `epochs.parquet`, …, which can be read at any time. A row whose key
exists is dropped (in `trials`, it replaces the old one), so a trial that repeats an epoch after a crash leaves one row.
Each Parquet file names the last segment that it contains, so a crash between publishing and deleting a segment
duplicates no row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from resnetlab.errors import FolderRefused
from resnetlab.storage import parquet, segment
from resnetlab.storage.layout import CHECKPOINTS, ERRORS, KEPT, PRINTED
from resnetlab.storage.lease import Lease
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.schema import KEYS, current, like, schema
from resnetlab.study.metrics import Metric

WRITTEN = ("trials", "epochs", "rungs", "classes", "predictions")  # the tables that a sweep writes
WHOLE = ("classes", "predictions")  # tables to which all rows of a trial are added at once
PACK = 256  # segments that are merged at once when read
MOST_ROWS = 1 << 20  # epochs or rungs of one trial
_THROUGH = b"resnetlab.through"


class Store:
    """The one writer of a results folder. Raises FolderRefused if another sweep holds it.

    factors, own, measures: the study's columns, as `schema` takes them. say: as in Lease.
    """

    def __init__(
        self,
        folder: ResultsFolder,
        factors: tuple[str, ...] = (),
        say: Callable[[str], None] = lambda line: None,
        own: Mapping[str, str] | None = None,
        measures: Sequence[Metric] = (),
    ):
        self.folder = folder
        self.lease = Lease(folder, say)
        folder.tidy("", "segments", "lease", CHECKPOINTS, KEPT, ERRORS, PRINTED)
        self._schemas = {table: schema(table, factors, own, measures) for table in WRITTEN}
        self._pending = {table: _Columns(self._schemas[table]) for table in WRITTEN if table != "trials"}
        self._trials: dict[str, dict[str, Any]] = {}
        self._changed: dict[str, None] = {}  # trials whose row is newer than the last segment, in order
        self._keys: dict[str, dict[str, int]] = {table: {} for table in WRITTEN}  # by trial, a bit per row: see `_bit`
        self._next = 0
        self._flushed = self._published = time.monotonic()
        self._publish_every = 5.0
        self.publish_seconds = 0.0  # spent publishing so far
        self._recover()

    def _recover(self) -> None:
        """Read back which rows the folder holds."""
        numbers = {_number(name) for name in self.folder.names("segments")}
        through = dict.fromkeys(WRITTEN, -1)
        for table in WRITTEN:
            rows = read_table(self.folder, table)
            if rows is None:
                continue
            if table == "trials":
                self._trials = {row["trial_id"]: row for row in rows.to_pylist()}
            elif table in WHOLE:
                self._keys[table] = dict.fromkeys(pc.unique(rows["trial_id"]).to_pylist(), 1)
            else:
                self._keys[table] = _bits(rows, KEYS[table][1], f"{self.folder.url}/{table}.parquet")
            through[table] = through_of(rows.schema)
        self._next = _last_segment(self.folder, through, numbers) + 1

    @property
    def trials(self) -> Mapping[str, dict[str, Any]]:
        """The newest row of each trial by `trial_id`, in the order in which they were first added."""
        return self._trials

    def read(self, table: str) -> pa.Table:
        """All flushed rows of `table`, in canonical order."""
        rows = read_table(self.folder, table)
        return self._schemas[table].empty_table() if rows is None else rows

    def has(self, table: str, *key: Any) -> bool:
        """True if a row with this key was added (tables in WHOLE: any row of the trial)."""
        return bool(self._keys[table].get(key[0], 0) & _bit(table, key))

    def add(self, table: str, row: Mapping[str, Any]) -> bool:
        """Add a row; returns False, and changes nothing, if its key exists. A row of `trials` replaces the old one."""
        if table == "trials":
            known = self._trials.get(row["trial_id"]) or dict.fromkeys(self._schemas[table].names)
            self._trials[row["trial_id"]] = {**known, **row}
            self._changed[row["trial_id"]] = None
            return True
        key = tuple(row[name] for name in KEYS[table])
        bits, bit = self._keys[table].get(key[0], 0), _bit(table, key)
        if bits & bit:
            return False
        self._keys[table][key[0]] = bits | bit
        self._pending[table].add(row)
        return True

    def add_all(self, table: str, trial_id: str, columns: Mapping[str, Any]) -> bool:
        """Add all rows of a trial to a table in WHOLE, as columns; returns False if the trial has rows already."""
        if trial_id in self._keys[table]:
            return False
        self._keys[table][trial_id] = 1
        self._pending[table].add_all({"trial_id": trial_id}, columns)
        return True

    def flush(self) -> None:
        """Write all added rows to a segment: after this they survive the end of this process and a power cut."""
        tables = {name: columns.table() for name, columns in self._pending.items() if len(columns)}
        if self._changed:
            rows = [self._trials[trial_id] for trial_id in self._changed]
            tables = {"trials": pa.Table.from_pylist(rows, self._schemas["trials"])} | tables
        if tables:
            self.lease.check()
            if not self.folder.create(f"segments/{self._next:08d}", segment.encode(tables)):
                raise FolderRefused(f"{self.folder.url}: another sweep writes here; this one stops")
            self._next += 1
            for columns in self._pending.values():
                columns.clear()
            self._changed = {}
        self._flushed = time.monotonic()

    def tick(self) -> None:
        """Flush every half second and publish every few seconds (at most 2% of the time): to be called often."""
        now = time.monotonic()
        self.lease.renew()
        if now - self._flushed > 0.5:
            self.flush()
        if now - self._published > self._publish_every:
            self.publish()
            self._published = time.monotonic()
            self.publish_seconds += self._published - now
            self._publish_every = max(5.0, 50 * (self._published - now))

    def publish(self) -> None:
        """Merge all segments into the Parquet files, then delete them."""
        self.flush()
        segments = _segments(self.folder)
        if not segments:
            return
        through = segments[-1][0]
        for table in WRITTEN:
            self.lease.check()
            merged = _merged(self.folder, table, segments)
            write_table(self.folder, table, self._schemas[table].empty_table() if merged is None else merged, through)
        del segments, merged
        for name in self.folder.names("segments"):
            if _number(name) <= through:
                self.folder.delete(f"segments/{name}")
        pa.default_memory_pool().release_unused()

    def close(self) -> None:
        """Publish, and release the lease."""
        try:
            self.publish()
        finally:
            self.lease.release()


class _Columns:
    """Rows that are not flushed yet, by column."""

    def __init__(self, schema: pa.Schema):
        self._schema = schema
        self._columns: dict[str, list[Any]] = {name: [] for name in schema.names}

    def __len__(self) -> int:
        return len(self._columns["trial_id"])

    def add(self, row: Mapping[str, Any]) -> None:
        for name, values in self._columns.items():
            values.append(row.get(name))

    def add_all(self, shared: Mapping[str, Any], columns: Mapping[str, Any]) -> None:
        """Add rows as columns of equal length. shared: values of further columns, the same in each row."""
        count = len(next(iter(columns.values())))
        for name, values in self._columns.items():
            values.extend(columns[name] if name in columns else [shared.get(name)] * count)

    def table(self) -> pa.Table:
        return pa.Table.from_pydict(self._columns, self._schema)

    def clear(self) -> None:
        for values in self._columns.values():
            values.clear()


def _bit(table: str, key: tuple[Any, ...]) -> int:
    """The bit of a row among its trial's: that of its epoch or rung number; the lowest for tables in WHOLE."""
    return 1 if table in WHOLE else 1 << int(key[1])


def _bits(rows: pa.Table, name: str, place: str) -> dict[str, int]:
    """By trial, the bits of all numbers in column `name`."""
    if not len(rows):
        return {}
    if rows["trial_id"].null_count or rows[name].null_count:
        raise FolderRefused(f"{place}: damaged: a key (trial_id, {name}) is null")
    ids = rows["trial_id"].combine_chunks().dictionary_encode()
    codes, numbers = ids.indices.to_numpy(), rows[name].to_numpy()
    if not 0 <= numbers.min() <= numbers.max() < MOST_ROWS:
        raise FolderRefused(f"{place}: {name} from {numbers.min()} to {numbers.max()} (allowed: 0 to {MOST_ROWS - 1})")
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    bits: dict[str, int] = {}
    for code, part in zip(codes[starts], np.split(numbers, starts[1:]), strict=True):
        trial_id = ids.dictionary[code].as_py()
        flags = np.zeros(part.max() + 1, dtype=bool)
        flags[part] = True
        packed = np.packbits(flags, bitorder="little").tobytes()
        bits[trial_id] = bits.get(trial_id, 0) | int.from_bytes(packed, "little")
    return bits


def read_table(folder: ResultsFolder, table: str) -> pa.Table | None:
    """All flushed rows of `table` in canonical order, None if there are none. FolderRefused if a file is damaged.

    Safe while a driver writes: segments are read before the Parquet file, so a segment that is merged and deleted in
    between is found in the file, and rows found in both are taken from the file.
    """
    return _merged(folder, table, _segments(folder))


def _merged(folder: ResultsFolder, table: str, segments: list[tuple[int, dict[str, pa.Table]]]) -> pa.Table | None:
    """The rows of the Parquet file of `table`, and of the `segments` that are not in it yet."""
    published = _read_parquet(folder, table)
    through = -1 if published is None else through_of(published.schema)
    fresh = [tables[table] for number, tables in segments if number > through and table in tables]
    if not fresh:
        return published
    fresh = [current(part, table, f"{folder.url}/segments") for part in fresh]
    metadata = dict(like(table, fresh[0].schema).metadata) | {_THROUGH: str(through).encode()}
    parts = ([published] if published is not None else []) + fresh
    return _canonical(_joined([part.replace_schema_metadata(metadata) for part in parts], table), table)


def check_complete(folder: ResultsFolder) -> None:
    """Raise FolderRefused if a table is damaged, or if flushed rows are in no file any more."""
    numbers = {_number(name) for name in folder.names("segments")}
    tables = {name: read_table(folder, name) for name in WRITTEN}
    through = {name: -1 if rows is None else through_of(rows.schema) for name, rows in tables.items()}
    _last_segment(folder, through, numbers)


def _last_segment(folder: ResultsFolder, through: Mapping[str, int], numbers: set[int]) -> int:
    """The number of the last segment, -1 for none. Raises FolderRefused if one that is needed is missing.

    through: of each table, the last segment that its Parquet file contains. numbers: of the segments that exist.
    """
    last = max([*through.values(), *numbers])
    for table, merged in through.items():
        lost = set(range(merged + 1, last + 1)) - numbers
        if lost:
            what = f"{table}.parquet" if merged < 0 else f"segments/{min(lost):08d}"
            raise FolderRefused(f"{folder.url}/{what}: is missing, and its rows stand nowhere else")
    return last


def check_study(names: Iterable[str | None], study: str, folder: ResultsFolder) -> None:
    """Raise FolderRefused if a trial is of another study. names: the studies of the trials; study: the folder's."""
    others = sorted({name for name in names if name is not None} - {study})
    if others:
        raise FolderRefused(
            f"{folder.url}/trials.parquet: holds trials of other studies: {', '.join(map(repr, others[:5]))} (allowed: "
            f"{study!r}, of which study.json is)"
        )


def through_of(schema: pa.Schema) -> int:
    """The last segment that a table's Parquet file contains, from its metadata; -1 for none."""
    return int((schema.metadata or {}).get(_THROUGH, b"-1"))


def write_table(folder: ResultsFolder, table: str, rows: pa.Table, through: int | None = None) -> None:
    """Write `<table>.parquet`. through: the last segment whose rows it contains."""
    metadata = dict(like(table, rows.schema).metadata)
    if through is not None:
        metadata[_THROUGH] = str(through).encode()
    folder.write(f"{table}.parquet", parquet.encode(rows.replace_schema_metadata(metadata)))


def _read_parquet(folder: ResultsFolder, table: str) -> pa.Table | None:
    raw = folder.read(f"{table}.parquet")
    return None if raw is None else parquet.decode(raw, table, f"{folder.url}/{table}.parquet")


def _segments(folder: ResultsFolder) -> list[tuple[int, dict[str, pa.Table]]]:
    """All segments with their numbers, oldest first. `PACK` of them at a time are merged, under the last one's number.

    Many short trials leave thousands of segments between two publications, most of which repeat rows of `trials`.
    Part of a pack may be in the Parquet file already: its rows are the same there, or older.
    """
    packs: list[tuple[int, dict[str, pa.Table]]] = []
    pack: list[tuple[int, dict[str, pa.Table]]] = []
    for name in folder.names("segments"):
        blob = folder.read(f"segments/{name}")
        if blob is not None:  # else merged and deleted by the driver since the folder was listed
            pack.append((_number(name), segment.decode(blob, f"{folder.url}/segments/{name}")))
        if len(pack) == PACK:
            packs.append((pack[-1][0], _packed(folder, [tables for _, tables in pack])))
            pack = []
    return packs + pack


def _packed(folder: ResultsFolder, segments: list[dict[str, pa.Table]]) -> dict[str, pa.Table]:
    """All rows of these segments; of `trials`, only the newest row of each trial."""
    parts: dict[str, list[pa.Table]] = {}
    for tables in segments:
        for table, part in tables.items():
            parts.setdefault(table, []).append(current(part, table, f"{folder.url}/segments"))
    return {table: _canonical(_joined(each, table), table).combine_chunks() for table, each in parts.items()}


def _joined(parts: list[pa.Table], table: str) -> pa.Table:
    """All rows; null in the columns that older parts lack, where the study was extended by factors."""
    joined = pa.concat_tables(parts, promote_options="default")
    return joined if joined.schema.names == parts[0].schema.names else joined.select(like(table, joined.schema).names)


def _number(name: str) -> int:
    if not name.isdigit():
        raise FolderRefused(f"segments/{name}: not a segment's name")
    return int(name)


def _canonical(rows: pa.Table, table: str) -> pa.Table:
    """One row per key (trials: the newest; else the first), sorted by key (trials: by proposal number)."""
    if table != "trials":
        return _first_of_each(rows, KEYS[table])
    newest = _first_of_each(rows.take(np.arange(len(rows))[::-1]), KEYS[table])
    return newest.take(pc.sort_indices(newest, sort_keys=[("number", "ascending")]))


def _first_of_each(rows: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """The first row of each key, sorted by key."""
    places = np.zeros(len(rows), np.int64)  # of the rows among all possible keys
    most = 1
    for name in keys:
        column = rows[name].combine_chunks().dictionary_encode()
        count = len(column.dictionary) + 1  # null is the last
        if most * count > 1 << 62:
            places = np.unique(places, return_inverse=True)[1]
            most = len(places)
        rank = np.arange(count)
        rank[pc.array_sort_indices(column.dictionary).to_numpy()] = np.arange(count - 1)
        places = places * count + rank[pc.fill_null(column.indices, count - 1).to_numpy()]
        most *= count
    first = np.unique(places, return_index=True)[1]
    return rows if len(first) == len(rows) and bool(np.all(np.diff(first) == 1)) else rows.take(first)
