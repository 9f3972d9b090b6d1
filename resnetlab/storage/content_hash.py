"""Hash the results in a folder: equal for two sweeps with the same results, however long they took and where.

python -m resnetlab.storage.content_hash results/default
"""

from __future__ import annotations

import sys
from hashlib import sha256

import pyarrow as pa
import pyarrow.csv

from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.schema import like
from resnetlab.storage.store import WRITTEN, read_table

VARYING_UNITS = {"s", "J", "UTC", "images/s", "times"}  # of columns that differ from run to run
VARYING_COLUMNS = {"reason", "peak_memory", "host", "device", "device_share", "threads", "settings"}
VARYING_COLUMNS |= {"git_revision", "versions", "plan_hash"}  # a plan names the revision that made it
VARYING_COLUMNS |= {"study_version"}  # how often the study was extended


def content_hash(folder: ResultsFolder) -> str:
    """SHA-256 (64 hexadecimal digits) over all rows in canonical order, without columns that vary between runs: times,
    restarts, machines, versions."""
    state = sha256()
    for table in WRITTEN:
        state.update(table.encode() + b"\0")
        rows = read_table(folder, table)
        if rows is not None and len(rows):
            state.update(_csv(repeatable(rows, table)))
    return state.hexdigest()


def repeatable(rows: pa.Table, table: str) -> pa.Table:
    """The columns of `rows` that are the same when a sweep is repeated, factor columns included."""
    fields = like(table, rows.schema)
    unit = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in fields}
    return rows.select([name for name in unit if unit[name] not in VARYING_UNITS and name not in VARYING_COLUMNS])


def _csv(rows: pa.Table) -> memoryview:
    """Rows as CSV: numbers in their shortest exact form, text in quotes, null as an empty field."""
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(rows, sink)
    return memoryview(sink.getvalue())


if __name__ == "__main__":
    for place in sys.argv[1:]:
        print(content_hash(ResultsFolder.at(place)), place)
