"""Rows of a running sweep: taken in memory, acknowledged in segments, published as Parquet.

`add` takes a row; `flush` writes all rows since the last flush as one segment (aside, fsync, rename), after which they
are never lost; `publish` merges the segments into `trials.parquet`, `epochs.parquet`, … that anyone may read at any
moment. A row whose key stands already is dropped (`trials`: replaces the old one), so a trial that repeats an epoch
after a crash leaves one row. Each Parquet file names the last segment that it contains, so a crash between publishing
and deleting a segment doubles nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from resnetlab.errors import FolderRefused
from resnetlab.tables import parquet, segment
from resnetlab.tables.folder import Folder
from resnetlab.tables.lease import Lease
from resnetlab.tables.schema import KEYS, current, factors_of, schema

WRITTEN = ("trials", "epochs", "rungs", "classes", "predictions")
_THROUGH = b"resnetlab.through"


class Store:
    """The one writer of a results folder. Raises FolderRefused where another sweep holds it."""

    def __init__(self, folder: Folder, factors: tuple[str, ...] = ()):
        self.folder = folder
        self.lease = Lease(folder)
        folder.tidy("", "segments", "lease", "checkpoints")
        self._schemas = {table: schema(table, factors if table == "trials" else ()) for table in WRITTEN}
        self._pending: dict[str, list[dict[str, Any]]] = {table: [] for table in WRITTEN}
        self._trials: dict[str, dict[str, Any]] = {}
        self._changed: dict[str, None] = {}  # trials whose row is newer than the last segment, in order
        self._keys: dict[str, set[tuple[Any, ...]]] = {table: set() for table in WRITTEN}
        self._next = 0
        self._flushed = self._published = time.monotonic()
        self._publish_every = 5.0
        self._recover()

    def _recover(self) -> None:
        numbers = {_number(name) for name in self.folder.names("segments")}
        through = dict.fromkeys(WRITTEN, -1)
        for table in WRITTEN:
            found = read_table(self.folder, table)
            if found is None:
                continue
            if table == "trials":
                self._trials = {row["trial_id"]: row for row in found.to_pylist()}
            elif table in ("classes", "predictions"):
                self._keys[table] = {(trial,) for trial in pc.unique(found["trial_id"]).to_pylist()}
            else:
                self._keys[table] = set(zip(*(found[key].to_pylist() for key in KEYS[table]), strict=True))
            through[table] = through_of(found.schema)
        last = max([*through.values(), *numbers])
        for table, merged in through.items():
            lost = set(range(merged + 1, last + 1)) - numbers
            if lost:
                what = f"{table}.parquet" if merged < 0 else f"segments/{min(lost):08d}"
                raise FolderRefused(f"{self.folder.url}/{what}: is missing, and its rows stand nowhere else")
        self._next = last + 1

    @property
    def trials(self) -> Mapping[str, dict[str, Any]]:
        """The newest row of each trial by `trial_id`, in the order in which they were first added."""
        return self._trials

    def read(self, table: str) -> pa.Table:
        """All acknowledged rows of `table`, in canonical order."""
        found = read_table(self.folder, table)
        return self._schemas[table].empty_table() if found is None else found

    def has(self, table: str, *key: Any) -> bool:
        """True where a row with this key was added (`classes`, `predictions`: any row of this trial)."""
        return key in self._keys[table]

    def add(self, table: str, row: Mapping[str, Any]) -> bool:
        """Take one row; False, and nothing is changed, where its key stands already. `trials` rows replace."""
        if table == "trials":
            known = self._trials.get(row["trial_id"]) or dict.fromkeys(self._schemas[table].names)
            self._trials[row["trial_id"]] = known | row
            self._changed[row["trial_id"]] = None
            return True
        key = tuple(row[name] for name in KEYS[table])
        if key in self._keys[table]:
            return False
        self._keys[table].add(key)
        self._pending[table].append(dict(row))
        return True

    def add_all(self, table: str, trial_id: str, columns: Mapping[str, Any]) -> bool:
        """Take all of a trial's `classes` or `predictions` rows at once, as columns; False where it has them."""
        if (trial_id,) in self._keys[table]:
            return False
        self._keys[table].add((trial_id,))
        names = list(columns)
        rows = zip(*columns.values(), strict=True)
        self._pending[table] += [{"trial_id": trial_id, **dict(zip(names, row, strict=True))} for row in rows]
        return True

    def flush(self) -> None:
        """Acknowledge: after this the rows added so far survive the death of process and machine."""
        pending = self._pending | {"trials": [self._trials[trial_id] for trial_id in self._changed]}
        tables = {name: pa.Table.from_pylist(rows, self._schemas[name]) for name, rows in pending.items() if rows}
        if tables:
            self.lease.check()
            if not self.folder.create(f"segments/{self._next:08d}", segment.encode(tables)):
                raise FolderRefused(f"{self.folder.url}: another sweep writes here; this one stops")
            self._next += 1
            self._pending = {table: [] for table in WRITTEN}
            self._changed = {}
        self._flushed = time.monotonic()

    def tick(self) -> None:
        """Call often: flushes every half second, publishes every few seconds, at most 2% of the time."""
        now = time.monotonic()
        self.lease.renew()
        if now - self._flushed > 0.5:
            self.flush()
        if now - self._published > self._publish_every:
            self.publish()
            self._published = time.monotonic()
            self._publish_every = max(5.0, 50 * (self._published - now))

    def publish(self) -> None:
        """Merge all segments into the Parquet files, then delete them."""
        self.flush()
        names = self.folder.names("segments")
        if not names:
            return
        for table in WRITTEN:
            self.lease.check()
            write_table(self.folder, table, self.read(table), through=_number(names[-1]))
        for name in names:
            self.folder.delete(f"segments/{name}")

    def close(self) -> None:
        """Publish and let the next driver in."""
        try:
            self.publish()
        finally:
            self.lease.release()


def read_table(folder: Folder, table: str) -> pa.Table | None:
    """All acknowledged rows of `table` in canonical order, None where there are none. FolderRefused where damaged.

    Safe beside a running driver: segments are read before the Parquet file, so one that is merged and deleted in
    between is found in the file, and one found in both is taken from the file.
    """
    segments = _segments(folder)
    published = _read_parquet(folder, table)
    through = -1 if published is None else through_of(published.schema)
    fresh = [tables[table] for number, tables in segments if number > through and table in tables]
    if not fresh:
        return published
    fresh = [current(part, table, f"{folder.url}/segments") for part in fresh]
    wanted = schema(table, factors_of(fresh[0].schema) if table == "trials" else ())
    metadata = dict(wanted.metadata) | {_THROUGH: str(through).encode()}
    parts = ([published] if published is not None else []) + fresh
    merged = pa.concat_tables([part.replace_schema_metadata(metadata) for part in parts])
    return _canonical(merged, table)


def through_of(found: pa.Schema) -> int:
    """The last segment that the published part of a table contains, -1 for none."""
    return int((found.metadata or {}).get(_THROUGH, b"-1"))


def write_table(folder: Folder, table: str, rows: pa.Table, through: int | None = None) -> None:
    """Write `<table>.parquet` as a whole."""
    metadata = dict(schema(table, factors_of(rows.schema) if table == "trials" else ()).metadata)
    if through is not None:
        metadata[_THROUGH] = str(through).encode()
    folder.write(f"{table}.parquet", parquet.encode(rows.replace_schema_metadata(metadata)))


def _read_parquet(folder: Folder, table: str) -> pa.Table | None:
    raw = folder.read(f"{table}.parquet")
    return None if raw is None else parquet.decode(raw, table, f"{folder.url}/{table}.parquet")


def _segments(folder: Folder) -> list[tuple[int, dict[str, pa.Table]]]:
    """All segments with their numbers, oldest first."""
    found = []
    for name in folder.names("segments"):
        blob = folder.read(f"segments/{name}")
        if blob is not None:  # else merged and deleted by the driver since the folder was listed
            found.append((_number(name), segment.decode(blob, f"{folder.url}/segments/{name}")))
    return found


def _number(name: str) -> int:
    if not name.isdigit():
        raise FolderRefused(f"segments/{name}: not a segment's name")
    return int(name)


def _canonical(rows: pa.Table, table: str) -> pa.Table:
    """One row a key (trials: the newest; else the first), sorted by key (trials: by proposal number)."""
    which = "max" if table == "trials" else "min"
    numbered = rows.append_column("_at", pa.array(range(len(rows)), pa.int64()))
    keys = list(KEYS[table])
    unique = rows.take(numbered.group_by(keys).aggregate([("_at", which)])[f"_at_{which}"])
    order = ["number"] if table == "trials" else keys
    return unique.take(pc.sort_indices(unique, sort_keys=[(key, "ascending") for key in order]))
