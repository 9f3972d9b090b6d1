"""The store: rows are durable, unique and readable at any moment."""

import json
import multiprocessing
import os
import random
import signal
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resnetlab.errors import FolderRefused
from resnetlab.tables.folder import Folder
from resnetlab.tables.schema import schema
from resnetlab.tables.store import Store, read_table


def epoch_row(trial: str, epoch: int) -> dict:
    numbers = dict.fromkeys(schema("epochs").names[2:], 0.5)
    return {**numbers, "trial_id": trial, "epoch": epoch, "peak_memory": 1}


def trial_row(trial: str, number: int, **more) -> dict:
    return {"trial_id": trial, "number": number, "status": "running", "kernel": 3, **more}


def test_rows_are_unique_and_in_canonical_order(tmp_path):
    store = Store(Folder.at(tmp_path), ("kernel",))
    assert store.add("epochs", epoch_row("b", 2))
    assert store.add("epochs", epoch_row("b", 1))
    assert not store.add("epochs", epoch_row("b", 2))
    store.flush()
    store.add("epochs", epoch_row("a", 1))
    store.add("trials", trial_row("b", 0))
    store.add("trials", trial_row("b", 0, status="complete"))
    store.close()
    epochs = pq.read_table(tmp_path / "epochs.parquet")
    assert epochs.select(["trial_id", "epoch"]).to_pylist() == [
        {"trial_id": "a", "epoch": 1},
        {"trial_id": "b", "epoch": 1},
        {"trial_id": "b", "epoch": 2},
    ]
    trials = pq.read_table(tmp_path / "trials.parquet").to_pylist()
    assert [(row["trial_id"], row["status"], row["kernel"]) for row in trials] == [("b", "complete", 3)]


def test_a_second_store_takes_up_where_the_first_stopped(tmp_path):
    first = Store(Folder.at(tmp_path))
    first.add("epochs", epoch_row("a", 1))
    first.publish()
    first.add("epochs", epoch_row("a", 2))
    first.flush()
    first.lease.release()  # but no publish: as after a crash
    second = Store(Folder.at(tmp_path))
    assert not second.add("epochs", epoch_row("a", 1))
    assert not second.add("epochs", epoch_row("a", 2))
    assert second.add("epochs", epoch_row("a", 3))
    second.close()
    assert len(pq.read_table(tmp_path / "epochs.parquet")) == 3


def test_a_crash_between_publishing_and_deleting_a_segment_doubles_nothing(tmp_path):
    store = Store(Folder.at(tmp_path))
    store.add("epochs", epoch_row("a", 1))
    store.flush()
    (name,) = store.folder.names("segments")
    blob = store.folder.read(f"segments/{name}")
    store.close()
    store.folder.write(f"segments/{name}", blob)
    assert len(read_table(store.folder, "epochs")) == 1
    assert Store(Folder.at(tmp_path)).read("epochs").num_rows == 1


def test_a_second_driver_is_refused_and_named(tmp_path):
    store = Store(Folder.at(tmp_path))
    with pytest.raises(FolderRefused, match=rf"pid {os.getpid()}"):
        Store(Folder.at(tmp_path))
    store.close()
    Store(Folder.at(tmp_path)).close()


def test_a_driver_that_was_overtaken_stops_before_it_writes(tmp_path):
    store = Store(Folder.at(tmp_path))
    store.folder.create("lease/000002.json", json.dumps({"host": "elsewhere", "pid": 7, "released": False}).encode())
    store.add("epochs", epoch_row("a", 1))
    with pytest.raises(FolderRefused, match="taken over by host elsewhere, pid 7"):
        store.flush()


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_damaged_files_are_refused_by_name(tmp_path, damage):
    store = Store(Folder.at(tmp_path))
    store.add("epochs", epoch_row("a", 1))
    store.flush()
    store.lease.release()
    (segment,) = (tmp_path / "segments").iterdir()
    raw = bytearray(segment.read_bytes())
    if damage == "truncate":
        raw = raw[:-10]
    elif damage == "empty":
        raw = bytearray()
    else:
        raw[-20] ^= 1
    segment.write_bytes(raw)
    with pytest.raises(FolderRefused, match=segment.name):
        Store(Folder.at(tmp_path))


def test_another_schema_version_is_refused(tmp_path):
    table = schema("epochs").empty_table()
    old = {**table.schema.metadata, b"resnetlab.version": b"0"}
    pq.write_table(table.replace_schema_metadata(old), tmp_path / "epochs.parquet")
    with pytest.raises(FolderRefused, match=r"epochs.parquet: schema version 0 \(allowed: 1 to 2\)"):
        read_table(Folder.at(tmp_path), "epochs")


def test_tables_of_the_version_before_are_read_with_nulls_for_what_came_later(tmp_path):
    later = ["settings", "weights_hash", "prefix_cached", "prefix_seconds", "energy"]
    now = pa.Table.from_pylist([{"trial_id": "a", "kernel": 3}], schema("trials", ("kernel",)))
    old = now.drop_columns(later)
    version = {**old.schema.metadata, b"resnetlab.version": b"1", b"resnetlab.through": b"7"}
    pq.write_table(old.replace_schema_metadata(version), tmp_path / "trials.parquet")
    found = read_table(Folder.at(tmp_path), "trials")
    assert found.schema.equals(now.schema)
    assert found.select(later).to_pylist() == [dict.fromkeys(later)]
    assert found.schema.metadata[b"resnetlab.through"] == b"7"

    fewer = now.drop_columns([*later, "host"]).replace_schema_metadata(version)
    pq.write_table(fewer, tmp_path / "trials.parquet")
    with pytest.raises(FolderRefused, match="columns differ from schema version 1"):
        read_table(Folder.at(tmp_path), "trials")


def _write_forever(path, acknowledged):
    store = Store(Folder.at(path))
    epoch = max(store.read("epochs")["epoch"].to_pylist(), default=0)
    while True:
        epoch += 1
        store.add("epochs", epoch_row("a", epoch))
        store.flush()
        acknowledged.value = epoch
        if epoch % 3 == 0:
            store.publish()


def test_sigkill_at_random_moments_loses_and_doubles_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    acknowledged = context.Value("q", 0)
    rng = random.Random(1)
    for _ in range(12):
        before = acknowledged.value
        writer = context.Process(target=_write_forever, args=(tmp_path, acknowledged))
        writer.start()
        while acknowledged.value == before:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.05)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        rows = read_table(Folder.at(tmp_path), "epochs")["epoch"].to_pylist()
        assert rows == list(range(1, len(rows) + 1))
        assert len(rows) >= acknowledged.value
