"""A results folder behind a URL: moto's S3 server, and failures of the connection."""

import pytest
import s3_here
from pyarrow import fs
from test_store import epoch_row, trial_row

from resnetlab.errors import CannotWrite, StorageLost
from resnetlab.storage import results_folder as folders
from resnetlab.storage.content_hash import content_hash
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store, read_table

needs_s3 = pytest.mark.skipif(s3_here.MISSING is not None, reason=str(s3_here.MISSING))


@pytest.fixture(scope="module")
def s3():
    with s3_here.S3() as server:
        yield server


@pytest.fixture
def way(s3):
    with s3_here.Way((s3.host, s3.port)) as way:
        yield way


@needs_s3
def test_a_folder_is_the_same_behind_a_url(s3, tmp_path):
    for root in (ResultsFolder.at(tmp_path), ResultsFolder.at(s3.url("same"))):
        folder = root.sub("study")
        assert not folder.exists() and folder.names("segments") == [] and folder.read("a.json") is None
        assert folder.create("segments/1", b"one") and not folder.create("segments/1", b"two")
        folder.write("a.json", b"{}")
        folder.write("a.json", b'{"b": 1}')
        again = ResultsFolder.at(folder.place)  # as a worker opens it
        assert again.read("segments/1") == b"one" and again.read_json("a.json") == {"b": 1}
        assert -2 < folder.age("segments/1") < 300
        folder.delete("segments/1")
        folder.delete("segments/1")
        assert folder.names("segments") == [] and folder.names() == ["a.json"]
        folder.clear("segments")
        folder.remove()
        assert not folder.exists()


def test_a_url_keeps_its_options_and_does_not_show_them():
    folder = ResultsFolder.at("s3://bkt/results?region=us-east-1&scheme=http").sub("study")
    assert folder.url == "s3://bkt/results/study"
    assert folder.place == "s3://bkt/results/study?region=us-east-1&scheme=http"


def test_what_fsspec_reads_is_storage_too(tmp_path):
    folder = ResultsFolder.at(f"fsspec+file://{tmp_path}/x")
    folder.write("a/b", b"1")
    assert (tmp_path / "x/a/b").read_bytes() == b"1" and folder.names("a") == ["b"] and folder.create("c", b"2")


def fill(folder, between=lambda i: None):
    store = Store(folder, ("kernel",))
    for i in range(12):
        between(i)
        store.add("trials", trial_row(f"t{i % 3}", i % 3, epochs_run=i // 3 + 1))
        store.add("epochs", epoch_row(f"t{i % 3}", i // 3 + 1))
        store.flush()
        if i % 4 == 3:
            store.publish()
    store.close()
    return content_hash(folder)


@needs_s3
def test_the_same_tables_come_out_of_a_storage_that_fails_in_passing(s3, way, tmp_path):
    wanted = fill(ResultsFolder.at(tmp_path))
    assert fill(ResultsFolder.at(s3.url("good"))) == wanted

    def change(i):
        way.mode = {4: "bad", 5: "open"}.get(i, way.mode)

    assert fill(ResultsFolder.at(s3.url("bad", way.port)), change) == wanted
    assert way.failed > 3
    assert len(read_table(ResultsFolder.at(s3.url("bad")), "epochs")) == 12


@needs_s3
def test_a_bucket_that_is_not_there_is_not_asked_twice(s3, monkeypatch):
    monkeypatch.setattr(folders.time, "sleep", lambda seconds: pytest.fail("it waited to ask again"))
    with pytest.raises(CannotWrite, match=r"s3://other/x.*NO_SUCH_BUCKET"):
        ResultsFolder.at(s3.url("x").replace("bkt", "other")).write("a", b"1")


class Broken(fs.FileSystemHandler):
    """Fails the first `failures` calls for what stands in it."""

    def __init__(self, failures, error):
        self.failures, self.error, self.calls = failures, error, 0

    def get_file_info_selector(self, selector):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return []

    def get_type_name(self):
        return "broken"


Broken.__abstractmethods__ = frozenset()


def test_patience_ends_and_comes_back(monkeypatch):
    monkeypatch.setattr(folders, "PATIENCE", 3.0)
    broken = Broken(10**9, OSError("AWS Error NETWORK_CONNECTION during ListObjectsV2 operation"))
    folder = ResultsFolder(fs.PyFileSystem(broken), "x", "s3://bkt/x")
    with pytest.raises(StorageLost, match=r"s3://bkt/x: the storage does not answer: .*NETWORK_CONNECTION") as caught:
        folder.names()
    assert caught.value.exit_code == 75 and broken.calls > 2
    before = broken.calls
    with pytest.raises(StorageLost):
        folder.names()
    assert broken.calls == before + 1  # who has given up does not wait again …
    broken.failures = 0
    assert folder.names() == []
    broken.calls, broken.failures = 0, 2
    assert folder.names() == []  # … until it was there again


def test_a_refusal_is_final():
    broken = Broken(10**9, OSError("AWS Error ACCESS_DENIED during ListObjectsV2 operation: no"))
    with pytest.raises(CannotWrite, match="s3://bkt/x: refused by the storage: AWS Error ACCESS_DENIED"):
        ResultsFolder(fs.PyFileSystem(broken), "x", "s3://bkt/x").names()
    assert broken.calls == 1
