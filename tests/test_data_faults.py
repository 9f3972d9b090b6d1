"""Images that cannot be used: all found in one pass and said in one table, or left out up to a number."""

import shutil

import numpy as np
import pytest
from PIL import Image
from test_data_trees import counts, lines, opened, tree

from resnetlab.errors import BadData, BadRequest
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data import check
from resnetlab.vision.data.decode import Decoder
from resnetlab.vision.data.folder.faults import KINDS


def refused(root, match, **settings):
    """When it is decoded, with nothing left in the cache."""
    with pytest.raises(BadData, match=match) as error:
        opened(root, **settings)
    assert not (root.parent / "cache").exists() or not list((root.parent / "cache").iterdir())
    return str(error.value)


def damaged(root, each=300):
    """1,200 images, of which 9 cannot be used, far apart."""
    tree(root, [(f"{split}/{label}", each) for split in ("train", "test") for label in ("cat", "dog")])
    for name in ("train/cat/3", "train/cat/9", "train/dog/200", "test/dog/8"):
        (root / f"{name}.png").write_bytes(b"")
    for name in ("train/cat/100", "test/cat/150"):
        path = root / f"{name}.png"
        path.write_bytes(path.read_bytes()[:150])
    (root / "train/dog/77.png").write_text("<html>404</html>")
    Image.new("RGB", (9, 8)).save(root / "train/dog/78.png")
    Image.new("L", (8, 8)).save(root / "test/dog/79.png")
    return root


NAMES = [
    "train/cat/100.png", "train/cat/3.png", "train/cat/9.png", "train/dog/200.png", "train/dog/77.png",
    "train/dog/78.png", "test/cat/150.png", "test/dog/79.png", "test/dog/8.png",
]  # fmt: skip


def test_everything_that_is_wrong_is_said_at_once_after_one_pass(tmp_path, monkeypatch):
    root, seen = damaged(tmp_path / "x"), []
    read = Decoder.read
    monkeypatch.setattr(Decoder, "read", lambda decoder, paths: (seen.extend(paths), read(decoder, paths))[1])
    with pytest.raises(BadData) as error:
        opened(root)
    first, heading, *rows, advice = str(error.value).splitlines()
    assert first == f"{root}: 9 of 1,200 images cannot be used:"
    assert heading.split() == ["images", "what", "is", "wrong", "first"]
    assert [row.split()[0] for row in rows] == ["4", "2", "1", "1", "1"]
    assert "not an image: the file is empty" in rows[0]
    assert rows[0].endswith("train/cat/3.png, train/cat/9.png, train/dog/200.png, …")
    assert "damaged: " in rows[1] and rows[1].endswith("train/cat/100.png, test/cat/150.png")
    assert {row.split()[-1] for row in rows[2:]} == {"train/dog/77.png", "train/dog/78.png", "test/dog/79.png"}
    assert advice.endswith("repair or remove them; or go on without them: dataset.skip: 9")
    assert "set dataset.size to" in advice and "set dataset.mode to rgb or grey" in advice
    assert len(seen) - 1200 <= 4  # each once, besides those that `check` looks at
    assert not list((tmp_path / "cache").iterdir()) if (tmp_path / "cache").exists() else True


def test_a_study_goes_on_without_as_many_as_it_allows_and_records_them(tmp_path):
    root = damaged(tmp_path / "x")
    whole = opened(root, skip=9)
    assert [sum(counts(whole, split)) for split in ("train", "val", "test")] == [535, 59, 597]
    kept = [path for path in sorted((root / "train/cat").glob("*.png")) if f"train/cat/{path.name}" not in NAMES]
    assert all(np.array_equal(whole.images[at], np.asarray(Image.open(path))) for at, path in enumerate(kept))
    found = whole.notes["skipped"]
    assert (found["count"], found["of"], sorted(found["files"])) == (9, 1200, sorted(NAMES))
    (line,) = [line for line in lines(root, skip=20) if line.startswith("left out")]
    assert line.startswith(
        "left out, as skip: 20 allows: 9 of 1,200 images (4 not an image: the file is empty, 2 damaged"
    )


def test_more_than_allowed_are_refused_with_the_table(tmp_path):
    message = refused(
        damaged(tmp_path / "x", 250), r"9 of 1,000 images cannot be used, and dataset.skip allows 8:", skip=8
    )
    assert "4  not an image: the file is empty" in message


def test_a_class_whose_training_images_are_all_left_out_is_refused(tmp_path):
    root = tree(tmp_path / "x", [("train/a", 12), ("train/b", 12), ("train/c", 1)])
    (root / "train/c/0.png").write_bytes(b"")
    refused(root, r"all training images of c are left out \(dataset.skip\)", skip=1)


def test_a_set_whose_first_image_is_broken_is_said_in_whole(tmp_path):
    root = tree(tmp_path / "x", [("train/a", 12), ("train/b", 12)])
    for name in ("a/0", "b/7"):
        (root / f"train/{name}.png").write_bytes(b"")
    with pytest.raises(BadData, match=r"train/a/0\.png"):
        check(DataConfig(name="folder", root=str(root)))
    assert len(opened(root, skip=2).images) == 22


def test_a_set_without_a_single_image_is_refused(tmp_path):
    root = tree(tmp_path / "x", [("train/a", 12), ("train/b", 12)])
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    refused(root, r"cannot be used, and dataset.skip allows 1,000:", skip=1000)


def test_a_table_has_no_more_rows_than_a_screen(tmp_path):
    root = tree(tmp_path / "x", [("train/a", 30), ("train/b", 30)])
    for number in range(30):
        kind = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[number % 26]
        Image.new("L", (8, 8)).save(root / f"train/a/{number}.png")
        (root / f"train/a/{number}.png").rename(root / f"train/a/{number}{kind}.png")
    with pytest.raises(BadData) as error:
        opened(root)
    assert len(str(error.value).splitlines()) <= KINDS + 4


def test_a_folder_of_the_kind_that_is_left_out_changes_nothing_else(tmp_path):
    """Without a fault, skip changes neither images nor their hash."""
    root = tree(tmp_path / "x", [("train/a", 12), ("train/b", 12)])
    assert opened(root).hash == opened(root, skip=5).hash


def test_a_set_that_would_fill_the_disk_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    root = tree(tmp_path / "x", [("train/a", 12), ("train/b", 12)])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=4000))
    with pytest.raises(
        BadRequest, match=r"take 0.0 GB \(24 of 8×8 pixels\), and 0.0 GB are free there \(set RESNETLAB_"
    ):
        opened(root)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=5000))
    assert len(opened(root).images) == 24
