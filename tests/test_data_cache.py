"""The data cache: written whole or not at all, once for several processes, never trusted when damaged."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from resnetlab.errors import BadData, BadRequest
from resnetlab.vision.data import cache as cache_module
from resnetlab.vision.data.cache import load, moments_of
from resnetlab.vision.data.source import Contents

IMAGES = np.random.default_rng(0).integers(0, 256, (100, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(100) % 4


def write(append):
    append(IMAGES[:70])
    append(IMAGES[70:])
    labels = {"kind": (LABELS, ("a", "b", "c", "é")), "other": (LABELS // 2, ("x", "y"))}
    return Contents(labels, {"test": np.arange(90, 100)}, {"note": ["kept"]})


def refuse(append):
    raise AssertionError("made again")


def hidden(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_what_was_written_is_read(tmp_path):
    made = load(tmp_path / "cache", "key", write)
    read = load(tmp_path / "cache", "key", refuse)
    for entry in (made, read):
        assert np.array_equal(entry.images, IMAGES)
        assert isinstance(entry.images, np.memmap)
        assert entry.images.mode == "c"
        assert np.array_equal(entry.moments, moments_of(IMAGES))
        assert np.array_equal(entry.contents.labels["other"][0], LABELS // 2)
        assert entry.contents.labels["kind"][1] == ("a", "b", "c", "é")
        assert entry.contents.fixed["test"].tolist() == list(range(90, 100))
        assert entry.contents.notes == {"note": ["kept"]}
    assert made.hash == read.hash
    assert made.hash == cache_module.Entry.of(IMAGES, read.contents).hash
    assert hidden(tmp_path / "cache") == []


def test_a_change_in_one_process_reaches_no_other(tmp_path):
    first = load(tmp_path, "key", write)
    first.images[0] = 7
    assert np.array_equal(load(tmp_path, "key", refuse).images, IMAGES)


def test_moments_are_exact():
    images = np.full((3, 300, 300, 2), 255, np.uint8)
    assert moments_of(images)[0].tolist() == [[90000 * 255] * 2, [90000 * 255 * 255] * 2]


def cut(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def lengthen(path):
    with path.open("ab") as file:
        file.write(b"\0")


def garble(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def edit_meta(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE = {
    "images cut": lambda entry: cut(entry / "images.npy"),
    "images lengthened": lambda entry: lengthen(entry / "images.npy"),
    "images absent": lambda entry: (entry / "images.npy").unlink(),
    "images of another type": lambda entry: np.save(entry / "images.npy", IMAGES.view(np.int8)),
    "images of another shape": lambda entry: np.save(entry / "images.npy", IMAGES.reshape(100, 5, 6, 3)),
    "images empty": lambda entry: (entry / "images.npy").write_bytes(b""),
    "tables cut": lambda entry: cut(entry / "tables.npz"),
    "tables garbled": lambda entry: garble(entry / "tables.npz"),
    "tables absent": lambda entry: (entry / "tables.npz").unlink(),
    "meta cut": lambda entry: cut(entry / "meta.json"),
    "meta absent": lambda entry: (entry / "meta.json").unlink(),
    "meta a list": lambda entry: (entry / "meta.json").write_text("[]"),
    "meta of another format": lambda entry: edit_meta(entry / "meta.json", format=99),
    "meta with another class": lambda entry: edit_meta(
        entry / "meta.json", labels={"kind": ["a", "b", "c", "d"], "other": ["x", "y"]}
    ),
    "meta without a label": lambda entry: edit_meta(entry / "meta.json", labels={"kind": ["a", "b", "c", "é"]}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_made_again(tmp_path, damage):
    good = load(tmp_path, "key", write).hash
    damage(tmp_path / "key")
    again = load(tmp_path, "key", write)
    assert again.hash == good
    assert np.array_equal(again.images, IMAGES)
    assert load(tmp_path, "key", refuse).hash == good


def test_failing_to_make_an_entry_leaves_nothing(tmp_path):
    def fail(append):
        append(IMAGES)
        raise BadData("file 3 is damaged")

    with pytest.raises(BadData, match="file 3 is damaged"):
        load(tmp_path / "cache", "key", fail)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "cache").mkdir()
    with pytest.raises(BadData, match="file 3 is damaged"):
        load(tmp_path / "cache", "key", fail)
    assert list((tmp_path / "cache").iterdir()) == []


def test_images_of_two_shapes_are_a_mistake_of_the_source(tmp_path):
    def mixed(append):
        append(IMAGES)
        append(IMAGES[:, :-1])

    with pytest.raises(ValueError, match=r"need uint8 images \(6, 5, 3\)"):
        load(tmp_path, "key", mixed)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BadRequest, match=r"cannot be written.*RESNETLAB_CACHE"):
        load(tmp_path / "file", "key", write)


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module, "flush", full)
    with pytest.raises(BadRequest, match="No space left"):
        load(tmp_path, "key", write)
    assert list(tmp_path.iterdir()) == []


def _slowly(append):
    with Path(os.environ["MADE"]).open("a") as file:
        file.write("x")
    time.sleep(0.3)
    return write(append)


def _ask(folder, start):
    start.wait()
    raise SystemExit(0 if load(folder, "key", _slowly).images.sum() == IMAGES.sum() else 1)


def test_of_ten_processes_one_makes_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MADE", str(tmp_path / "made"))
    context = multiprocessing.get_context("fork")
    start = context.Event()
    processes = [context.Process(target=_ask, args=(tmp_path / "cache", start)) for _ in range(10)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * 10
    assert (tmp_path / "made").read_text() == "x"
    assert hidden(tmp_path / "cache") == []


def test_a_killed_maker_blocks_nobody(tmp_path):
    code = f"""
import os, sys, time
from pathlib import Path
import numpy as np
from resnetlab.vision.data.cache import load
def write(append):
    append(np.zeros((50, 4, 4, 1), np.uint8))
    print("half", flush=True)
    time.sleep(600)
load(Path({str(tmp_path)!r}), "key", write)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    maker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert maker.stdout.readline() == "half\n"
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    assert not (tmp_path / "key").exists()
    assert np.array_equal(load(tmp_path, "key", write).images, IMAGES)
    assert hidden(tmp_path) == []
