"""What a results folder says, as one hash: equal for two sweeps that found the same, however long they took and where.

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

CIRCUMSTANCES = {"s", "J", "UTC", "images/s", "times"}  # units of what differs from run to run
CIRCUMSTANTIAL = {"reason", "peak_memory", "host", "device", "device_share", "threads", "settings"}
CIRCUMSTANTIAL |= {"git_revision", "versions", "plan_hash"}  # a plan names the revision that made it


def content_hash(folder: ResultsFolder) -> str:
    """Hash (64 hexadecimal digits) over all rows in canonical order, but for times, restarts, places and revisions."""
    state = sha256()
    for table in WRITTEN:
        state.update(table.encode() + b"\0")
        rows = read_table(folder, table)
        if rows is not None and len(rows):
            state.update(_text(lasting(rows, table)))
    return state.hexdigest()


def lasting(rows: pa.Table, table: str) -> pa.Table:
    """The columns that a repeated sweep repeats, factors and all."""
    fields = like(table, rows.schema)
    unit = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in fields}
    return rows.select([name for name in unit if unit[name] not in CIRCUMSTANCES and name not in CIRCUMSTANTIAL])


def _text(rows: pa.Table) -> memoryview:
    """As CSV: numbers in their shortest exact form, text in quotes, null as nothing."""
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(rows, sink)
    return memoryview(sink.getvalue())


if __name__ == "__main__":
    for place in sys.argv[1:]:
        print(content_hash(ResultsFolder.at(place)), place)
