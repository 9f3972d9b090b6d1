"""Damaged, wrong or memory-filling files in a results folder are refused by name, quickly."""

import hashlib
import inspect
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resnetlab.errors import FolderRefused
from resnetlab.storage import parquet, segment
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.schema import schema
from resnetlab.storage.store import read_table


def epochs(rows, trial="a", first=1):
    names = schema("epochs").names[2:]
    columns = {name: pa.array([1] * rows) if name == "peak_memory" else pa.array([0.5] * rows) for name in names}
    keys = {"trial_id": pa.array([trial] * rows), "epoch": pa.array(range(first, first + rows), pa.int64())}
    return pa.table({**keys, **columns}).cast(schema("epochs"))


def constant(rows):
    """Rows of predictions that are all alike."""
    zeros = pa.array(np.zeros(rows, np.int8))
    columns = []
    for field in schema("predictions"):
        value = pa.array(["a"] if field.type == pa.string() else [7], field.type)
        columns.append(pa.DictionaryArray.from_arrays(zeros, value))
    found = pa.table(columns, schema("predictions").names)
    return found.replace_schema_metadata(schema("predictions").metadata)


def write(tmp_path, table, name="epochs", **options):
    path = tmp_path / f"{name}.parquet"
    with pq.ParquetWriter(path, table.schema, **options) as writer:
        writer.write_table(table, row_group_size=1 << 30)
        writer.add_key_value_metadata(table.schema.metadata or {})
    return path


def refused(tmp_path, name="epochs"):
    """The message with which the table is refused, which takes little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FolderRefused) as caught:
        read_table(ResultsFolder.at(tmp_path), name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
    assert f"{tmp_path}/{name}.parquet" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "raw, words",
    [
        (b"", "damaged"),
        (b"PAR1", "damaged"),
        (b"<!DOCTYPE html><html>", "damaged"),
        (b"PAR1" + bytes(64) + b"\xff\xff\xff\x7fPAR1", "damaged"),
    ],
    ids=["zero bytes", "no footer", "a web page", "footer longer than the file"],
)
def test_what_is_no_parquet_is_refused(tmp_path, raw, words):
    (tmp_path / "epochs.parquet").write_bytes(raw)
    assert words in refused(tmp_path)


def test_a_file_without_its_end_is_refused(tmp_path):
    path = write(tmp_path, epochs(3))
    path.write_bytes(path.read_bytes()[:-9])
    assert "damaged" in refused(tmp_path)


def test_other_tables_versions_and_columns_are_refused(tmp_path):
    write(tmp_path, pa.table({"x": [1]}))
    assert "not a resnetlab table of epochs" in refused(tmp_path)
    write(tmp_path, schema("rungs").empty_table())
    assert "but of rungs" in refused(tmp_path)
    future = epochs(1).replace_schema_metadata({**schema("epochs").metadata, b"resnetlab.version": b"99"})
    write(tmp_path, future)
    assert "schema version 99 (allowed: 2 to" in refused(tmp_path)
    write(tmp_path, epochs(1).drop_columns(["lr"]))
    assert "columns differ" in refused(tmp_path)
    wrong = schema("epochs").set(1, pa.field("epoch", pa.string()))
    write(tmp_path, epochs(1).cast(wrong))
    assert "types differ" in refused(tmp_path)


@pytest.mark.parametrize("rows", [[epochs(2), epochs(1, first=2)], [epochs(1, "b"), epochs(2, "a"), epochs(1, "b")]])
def test_a_key_that_stands_twice_is_refused(tmp_path, rows):
    write(tmp_path, pa.concat_tables(rows))
    assert "duplicate key (trial_id, epoch)" in refused(tmp_path)


def test_rows_in_any_order_are_read(tmp_path):
    write(tmp_path, pa.concat_tables([epochs(3, "b"), epochs(3, "a")]))
    assert len(read_table(ResultsFolder.at(tmp_path), "epochs")) == 6


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux only")
def test_reading_starts_no_thread(tmp_path):
    """A process that ends while Arrow's threads begin is aborted: code -6 instead of its own."""
    write(tmp_path, epochs(3000))
    code = (
        "import sys; from pathlib import Path; from resnetlab.storage.results_folder import ResultsFolder\n"
        "from resnetlab.storage.store import read_table\n"
        "before = len(list(Path('/proc/self/task').iterdir()))\n"
        "assert len(read_table(ResultsFolder.at(sys.argv[1]), 'epochs')) == 3000\n"
        "sys.exit(len(list(Path('/proc/self/task').iterdir())) - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_kilobyte_does_not_become_half_a_gigabyte(tmp_path):
    rows = 20_000_000
    one_page = {"data_page_size": 1 << 30, "write_batch_size": rows, "store_schema": False}
    if "max_rows_per_page" in inspect.signature(pq.ParquetWriter).parameters:
        one_page["max_rows_per_page"] = rows
    path = write(tmp_path, constant(rows), "predictions", compression="zstd", write_statistics=False, **one_page)
    assert path.stat().st_size < 1500
    message = refused(tmp_path, "predictions")
    assert "decode to" in message and "allowed for a file of this size" in message


def test_a_long_text_repeated_does_not_become_half_a_gigabyte(tmp_path):
    """Its footer shows one megabyte: the text stands once, in the dictionary."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * (1 << 20)]))
    columns = {field.name: pa.array(range(2000)).cast(field.type) for field in list(schema("predictions"))[1:]}
    table = pa.table({"trial_id": text, **columns}).replace_schema_metadata(schema("predictions").metadata)
    path = write(tmp_path, table, "predictions", compression="zstd", store_schema=False)
    assert path.stat().st_size < 50_000 and pq.read_metadata(path).row_group(0).total_byte_size < 4 << 20
    assert "decode to" in refused(tmp_path, "predictions")


def test_an_honest_file_of_equal_rows_is_read(tmp_path):
    rows = constant(2_000_000).cast(schema("predictions"))
    rows = rows.set_column(1, schema("predictions").field("image"), pa.array(range(2_000_000)))
    raw = parquet.encode(rows)
    assert len(parquet.decode(raw, "predictions", "x")) == 2_000_000


def test_other_readers_read_our_files(tmp_path):
    (tmp_path / "epochs.parquet").write_bytes(parquet.encode(epochs(70_000)))
    assert pq.read_table(tmp_path / "epochs.parquet").num_rows == 70_000
    assert pq.ParquetFile(tmp_path / "epochs.parquet").read_row_group(1).num_rows == 70_000 - parquet.GROUP


def test_every_flipped_bit_of_a_table_is_found():
    raw, whole = bytearray(parquet.encode(epochs(3))), epochs(3)
    for at in range(len(raw)):
        raw[at] ^= 1 << at % 8
        try:
            assert parquet.decode(bytes(raw), "epochs", "x").equals(whole)  # only where the mark itself was hit
            assert parquet.MARK not in raw
        except FolderRefused:
            pass
        raw[at] ^= 1 << at % 8


def test_every_flipped_bit_of_a_segment_is_found():
    raw = bytearray(segment.encode({"epochs": epochs(2), "rungs": schema("rungs").empty_table()}))
    for at in range(len(raw)):
        raw[at] ^= 1 << at % 8
        with pytest.raises(FolderRefused, match=r"^x: "):
            segment.decode(bytes(raw), "x")
        raw[at] ^= 1 << at % 8


def test_a_segment_that_was_compressed_to_fill_the_memory_is_refused():
    sink = pa.BufferOutputStream()
    rows = constant(1_000_000).cast(schema("predictions"))
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(rows, max_chunksize=10_000)
    body = sink.getvalue().to_pybytes()
    rest = json.dumps({"version": 2, "tables": {"predictions": len(body)}}).encode() + b"\n" + body
    with pytest.raises(FolderRefused, match=r"decode to .* or more"):
        segment.decode(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest, "x")


def test_json_is_checked(tmp_path):
    folder = ResultsFolder.at(tmp_path)
    folder.write_json("data.json", {"hash": "abc", "n": 3})
    raw = bytearray((tmp_path / "data.json").read_bytes())
    assert folder.read_json("data.json") == {"hash": "abc", "n": 3}
    for at in range(len(raw)):
        raw[at] ^= 1
        (tmp_path / "data.json").write_bytes(raw)
        try:
            found = folder.read_json("data.json")
            assert {key: found[key] for key in ("hash", "n")} == {"hash": "abc", "n": 3}
        except FolderRefused as error:
            assert "data.json: damaged" in str(error)
        raw[at] ^= 1
    (tmp_path / "data.json").write_text("[" * 100_000)
    with pytest.raises(FolderRefused, match=r"data\.json: damaged"):
        folder.read_json("data.json")
