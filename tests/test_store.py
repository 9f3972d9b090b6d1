"""The store: rows are durable, unique, and readable at any time."""

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resnetlab.errors import FolderRefused
from resnetlab.storage import store as store_module
from resnetlab.storage.content_hash import content_hash
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.schema import schema
from resnetlab.storage.store import Store, read_table, write_table


def epoch_row(trial: str, epoch: int) -> dict:
    numbers = dict.fromkeys(schema("epochs").names[2:], 0.5)
    return {**numbers, "trial_id": trial, "epoch": epoch, "peak_memory": 1}


def trial_row(trial: str, number: int, **more) -> dict:
    return {"trial_id": trial, "number": number, "status": "running", "kernel": 3, **more}


def test_rows_are_unique_and_in_canonical_order(tmp_path):
    store = Store(ResultsFolder.at(tmp_path), ("kernel",))
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
    first = Store(ResultsFolder.at(tmp_path))
    first.add("epochs", epoch_row("a", 1))
    first.publish()
    first.add("epochs", epoch_row("a", 2))
    first.flush()
    first.lease.release()  # but no publish: as after a crash
    second = Store(ResultsFolder.at(tmp_path))
    assert not second.add("epochs", epoch_row("a", 1))
    assert not second.add("epochs", epoch_row("a", 2))
    assert second.add("epochs", epoch_row("a", 3))
    second.close()
    assert len(pq.read_table(tmp_path / "epochs.parquet")) == 3


def test_a_crash_between_publishing_and_deleting_a_segment_doubles_nothing(tmp_path):
    store = Store(ResultsFolder.at(tmp_path))
    store.add("epochs", epoch_row("a", 1))
    store.flush()
    (name,) = store.folder.names("segments")
    blob = store.folder.read(f"segments/{name}")
    store.close()
    store.folder.write(f"segments/{name}", blob)
    assert len(read_table(store.folder, "epochs")) == 1
    assert Store(ResultsFolder.at(tmp_path)).read("epochs").num_rows == 1


def test_a_second_driver_is_refused_and_named(tmp_path):
    store = Store(ResultsFolder.at(tmp_path))
    with pytest.raises(FolderRefused, match=rf"pid {os.getpid()}"):
        Store(ResultsFolder.at(tmp_path))
    store.close()
    Store(ResultsFolder.at(tmp_path)).close()


def test_a_driver_that_was_overtaken_stops_before_it_writes(tmp_path):
    store = Store(ResultsFolder.at(tmp_path))
    store.folder.create("lease/000002.json", json.dumps({"host": "elsewhere", "pid": 7, "released": False}).encode())
    store.add("epochs", epoch_row("a", 1))
    with pytest.raises(FolderRefused, match="taken over by host elsewhere, pid 7"):
        store.flush()


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_damaged_files_are_refused_by_name(tmp_path, damage):
    store = Store(ResultsFolder.at(tmp_path))
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
        Store(ResultsFolder.at(tmp_path))


def test_another_schema_version_is_refused(tmp_path):
    table = schema("epochs").empty_table()
    old = {**table.schema.metadata, b"resnetlab.version": b"0"}
    pq.write_table(table.replace_schema_metadata(old), tmp_path / "epochs.parquet")
    with pytest.raises(FolderRefused, match=r"epochs.parquet: schema version 0 \(allowed: 2 to 6\)"):
        read_table(ResultsFolder.at(tmp_path), "epochs")


def test_trials_of_before_studies_were_extended_are_of_version_one(tmp_path):
    rows = pa.Table.from_pylist([{"trial_id": "a", "kernel": 3}], schema("trials", ("kernel",)))
    old = rows.drop_columns(["study_version"])
    version = {**rows.schema.metadata, b"resnetlab.version": b"4"}
    pq.write_table(old.replace_schema_metadata(version), tmp_path / "trials.parquet")
    found = read_table(ResultsFolder.at(tmp_path), "trials")
    assert found["study_version"].to_pylist() == [1] and found.schema.names == rows.schema.names


def test_rows_with_further_factors_are_read_beside_those_without(tmp_path):
    store = Store(ResultsFolder.at(tmp_path), ("kernel",))
    store.add("trials", {"trial_id": "a", "kernel": 3, "number": 0})
    store.close()
    wider = Store(ResultsFolder.at(tmp_path), ("kernel", "blocks"))
    wider.add("trials", {"trial_id": "b", "kernel": 5, "blocks": 2, "number": 1})
    wider.flush()
    wanted = [("a", 3, None), ("b", 5, 2)]
    for _ in range(2):
        rows = read_table(ResultsFolder.at(tmp_path), "trials").to_pylist()
        assert [(row["trial_id"], row["kernel"], row["blocks"]) for row in rows] == wanted
        wider.publish()
    wider.close()


def test_tables_of_the_version_before_are_read_under_todays_names(tmp_path):
    row = {"trial_id": "a", "kernel": 3, "batch_size": 8, "config": '{"batch_size":8,"weights":"\\"batch\\":"}'}
    now = pa.Table.from_pylist([row], schema("trials", ("kernel", "batch_size")))
    version = {**now.schema.metadata, b"resnetlab.version": b"2", b"resnetlab.through": b"7"}
    old = now.rename_columns([name.replace("batch_size", "batch") for name in now.column_names])
    config = pa.array([row["config"].replace("batch_size", "batch")])
    old = old.set_column(old.schema.get_field_index("config"), "config", config).replace_schema_metadata(version)
    pq.write_table(old, tmp_path / "trials.parquet")
    found = read_table(ResultsFolder.at(tmp_path), "trials")
    assert found.schema.equals(now.schema) and found.equals(now)
    assert found.schema.metadata[b"resnetlab.through"] == b"7"

    for other in (old.drop_columns(["host"]), old.append_column("batch_size", old["batch"])):
        pq.write_table(other.replace_schema_metadata(version), tmp_path / "trials.parquet")
        with pytest.raises(FolderRefused, match="columns differ from schema version 2"):
            read_table(ResultsFolder.at(tmp_path), "trials")
    twice = now.append_column("kernel", now["kernel"]).replace_schema_metadata(now.schema.metadata)
    pq.write_table(twice, tmp_path / "trials.parquet")
    with pytest.raises(FolderRefused, match="columns differ from schema version 6"):
        read_table(ResultsFolder.at(tmp_path), "trials")
    wrong = old.set_column(old.schema.get_field_index("config"), "config", pa.array([1]))
    pq.write_table(wrong.replace_schema_metadata(version), tmp_path / "trials.parquet")
    with pytest.raises(FolderRefused, match="types differ from schema version 2"):
        read_table(ResultsFolder.at(tmp_path), "trials")


def _write_forever(path, acknowledged):
    store = Store(ResultsFolder.at(path))
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
        rows = read_table(ResultsFolder.at(tmp_path), "epochs")["epoch"].to_pylist()
        assert rows == list(range(1, len(rows) + 1))
        assert len(rows) >= acknowledged.value


@pytest.mark.parametrize("lost", ["epochs.parquet", "trials.parquet", "segments/00000002"])
def test_a_file_whose_rows_stand_nowhere_else_is_missed(tmp_path, lost):
    store = Store(ResultsFolder.at(tmp_path), ("kernel",))
    store.add("trials", trial_row("a", 0))
    for epoch in range(1, 5):
        store.add("epochs", epoch_row("a", epoch))
        store.flush()
        if epoch == 2:
            store.publish()
    store.lease.release()
    (tmp_path / lost).unlink()
    with pytest.raises(FolderRefused, match=rf"{lost}: is missing"):
        Store(ResultsFolder.at(tmp_path), ("kernel",))


HELD = {"host": "elsewhere", "pid": 7, "process": "x", "token": "t", "since": 0.0, "renewals": 0, "released": False}


@contextmanager
def renewing(folder, every):
    """A driver on another host that holds the folder."""
    over = threading.Event()

    def renew():
        count = 0
        while not over.wait(every):
            count += 1
            folder.write("lease/000001.json", json.dumps(HELD | {"renewals": count}).encode())

    thread = threading.Thread(target=renew)
    thread.start()
    yield
    over.set()
    thread.join()


def test_a_driver_on_another_host_that_renews_its_lease_keeps_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("resnetlab.storage.lease.RENEW", 0.2)
    folder = ResultsFolder.at(tmp_path)
    folder.create("lease/000001.json", json.dumps(HELD).encode())
    with renewing(folder, every=0.2):
        for clock in (0, -1e9, 1e9):  # what this machine believes the time to be changes nothing
            monkeypatch.setattr(time, "time", lambda clock=clock: 1.7e9 + clock)
            with pytest.raises(FolderRefused, match=r"held by another sweep \(host elsewhere, pid 7, since"):
                Store(folder)


def test_a_dead_driver_on_another_host_holds_the_folder_until_its_lease_expires(tmp_path, monkeypatch):
    monkeypatch.setattr("resnetlab.storage.lease.RENEW", 0.1)
    monkeypatch.setattr("resnetlab.storage.lease.EXPIRES", 1.0)
    folder, said = ResultsFolder.at(tmp_path), []
    folder.create("lease/000001.json", json.dumps(HELD).encode())
    began = time.monotonic()
    Store(folder, say=said.append).close()
    assert time.monotonic() - began > 0.9
    (line,) = said
    assert "may be dead (host elsewhere, pid 7" in line and "1 s at most" in line


def test_a_driver_on_another_host_that_ends_while_one_waits_lets_it_in(tmp_path, monkeypatch):
    monkeypatch.setattr("resnetlab.storage.lease.RENEW", 0.2)
    folder = ResultsFolder.at(tmp_path)
    folder.create("lease/000001.json", json.dumps(HELD).encode())
    release = json.dumps(HELD | {"released": True}).encode()
    Store(folder, say=lambda line: folder.write("lease/000001.json", release)).close()


def test_a_lease_from_before_the_storages_clock_was_set_back_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("resnetlab.storage.lease.RENEW", 0.1)
    folder = ResultsFolder.at(tmp_path)
    folder.create("lease/000001.json", json.dumps(HELD).encode())
    os.utime(tmp_path / "lease/000001.json", (4e9, 4e9))
    Store(folder).close()


def test_a_lease_that_was_deleted_and_taken_again_is_noticed(tmp_path):
    store = Store(ResultsFolder.at(tmp_path))
    (tmp_path / "lease/000001.json").unlink()
    second = Store(ResultsFolder.at(tmp_path))  # takes the same number
    store.add("epochs", epoch_row("a", 1))
    with pytest.raises(FolderRefused, match="taken over"):
        store.flush()
    second.add("epochs", epoch_row("a", 1))
    second.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_lease_that_cannot_be_read_holds_nothing(tmp_path, content):
    (tmp_path / "lease").mkdir()
    (tmp_path / "lease/000003.json").write_bytes(content)
    store = Store(ResultsFolder.at(tmp_path))
    assert store.lease.fence == 4
    store.close()


def test_a_silent_driver_renews_its_lease(tmp_path, monkeypatch):
    store = Store(ResultsFolder.at(tmp_path))
    before = (tmp_path / "lease/000001.json").read_bytes()
    monkeypatch.setattr("resnetlab.storage.lease.RENEW", 0.0)
    store.tick()
    assert (tmp_path / "lease/000001.json").read_bytes() != before


def test_what_killed_writers_left_is_cleared_away(tmp_path):
    store = Store(ResultsFolder.at(tmp_path))
    store.close()
    for place in (tmp_path, tmp_path / "segments", tmp_path / "checkpoints"):
        place.mkdir(exist_ok=True)
        (place / ".x.abc.aside").write_text("half")
    Store(ResultsFolder.at(tmp_path)).close()
    assert not list(tmp_path.rglob("*.aside"))


def test_content_is_the_same_whatever_the_time_and_the_order(tmp_path):
    for name, order in (("one", ["a", "b"]), ("other", ["b", "a"])):
        store = Store(ResultsFolder.at(tmp_path / name), ("kernel",))
        for trial in order:
            store.add("trials", trial_row(trial, "ab".index(trial), host=name, train_seconds=len(name) / 7))
            store.add("epochs", {**epoch_row(trial, 1), "train_seconds": len(name) / 7})
        store.close()
    one, other = ResultsFolder.at(tmp_path / "one"), ResultsFolder.at(tmp_path / "other")
    assert content_hash(one) == content_hash(other)
    store = Store(other, ("kernel",))
    store.add("epochs", epoch_row("c", 1))
    store.close()
    assert content_hash(one) != content_hash(other)


def test_thousands_of_segments_are_read_in_packs(tmp_path, monkeypatch):
    """As many rows, and the same, whether packs are cut here or there, and whether a table was published among them."""
    found = []
    for pack, published in ((10_000, None), (7, None), (7, 30), (16, 40)):
        monkeypatch.setattr(store_module, "PACK", pack)
        place = tmp_path / f"{pack}-{published}"
        store = Store(ResultsFolder.at(place), ("kernel",))
        for number in range(60):
            store.add("trials", trial_row(f"t{number % 5}", number % 5, epochs_run=number))
            store.add("epochs", epoch_row(f"t{number % 5}", number // 5 + 1))
            store.flush()
            if number == published:  # as if it had crashed between two tables
                merged = store.read("epochs")
                write_table(store.folder, "epochs", merged, through=number)
        found.append([store.read(table).to_pylist() for table in ("trials", "epochs")])
        store.close()
        assert not store.folder.names("segments")
        found.append([read_table(store.folder, table).to_pylist() for table in ("trials", "epochs")])
    assert all(one == found[0] for one in found) and len(found[0][1]) == 60
    assert [row["epochs_run"] for row in found[0][0]] == [55, 56, 57, 58, 59]
