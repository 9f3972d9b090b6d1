"""Data that changed between a source task and its target, or between two sessions of a sweep, is detected and named."""

import shutil

import numpy as np
import pytest
from PIL import Image
from sweeps_here import run_here

import resnetlab.vision.data as data
from resnetlab.driver.checks.request import check_rows
from resnetlab.driver.options import Options
from resnetlab.driver.run import run_study
from resnetlab.errors import BadData, FolderRefused
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import build_study
from resnetlab.vision.models.pretrained import Weights


@pytest.fixture(autouse=True)
def a_new_process():
    """A process keeps the datasets that it has opened; each test stands for several processes."""
    data._prepared.clear()
    yield
    data._prepared.clear()


def images(root, classes=("cat", "dog", "emu"), n=30):
    shutil.rmtree(root, ignore_errors=True)
    rng = np.random.default_rng(0)
    for name in classes:
        (root / "train" / name).mkdir(parents=True)
        for number in range(n):
            picture = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(picture).save(root / "train" / name / f"{number}.png")
    return root


def study(root):
    """A source task, whose images are made smaller, and a target that starts from it."""
    content = {"name": "s", "dataset": {"name": "folder", "root": str(root)}, "search": {"epochs": 1}}
    content["arms"] = {"source": {"data": {"size": 6}}, "target": {"source": "source", "frozen": 1}}
    content["baseline"] = {"model": "conv2", "batch_size": 16}
    return build_study(content | {"confirm": {"design": "arms", "seeds": 1}}, "s.yaml")


def continued(root, tmp_path):
    """Go on as the script does; it must end before anything starts, with exit code 3."""
    data._prepared.clear()
    before = sorted(path.name for path in (tmp_path / "r/s").rglob("*"))
    with pytest.raises(BadData) as caught:
        run_study(study(root), Options(storage=str(tmp_path / "r"), cache=tmp_path / "cache"))
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)
    assert sorted(path.name for path in (tmp_path / "r/s").rglob("*")) == before
    return str(caught.value)


def test_a_target_starts_from_its_source_while_nothing_changed(tmp_path):
    rows = {row["arm"]: row for row in run_here(study(images(tmp_path / "i")), tmp_path / "r/s", tmp_path / "cache")}
    assert {row["status"] for row in rows.values()} == {"complete"}
    assert rows["target"]["weights_hash"] and rows["target"]["data_hash"] != rows["source"]["data_hash"]


@pytest.mark.parametrize(
    ("classes", "n", "words"),
    [
        (("cat", "dog"), 30, "1 are gone: emu"),
        (("cat", "dog", "emu", "fox"), 30, "1 are new: fox"),
        (("cat", "dog", "eel"), 30, "1 are gone: emu; 1 are new: eel"),
        (("cat", "dog", "emu"), 29, "which is now"),
    ],
)
def test_a_sweep_is_not_continued_on_data_that_changed(tmp_path, classes, n, words):
    root = images(tmp_path / "i")
    run_here(study(root), tmp_path / "r/s", tmp_path / "cache", until=1)
    images(root, classes, n)
    said = continued(root, tmp_path)
    assert words in said and str(tmp_path / "r/s") in said and "folder" in said


def test_data_that_only_the_source_reads_is_compared_too(tmp_path):
    root = images(tmp_path / "i")
    run_here(study(root), tmp_path / "r/s", tmp_path / "cache", until=1)
    folder = ResultsFolder.at(tmp_path / "r/s")
    held = folder.read_json("data.json")
    (key,) = held["others"]
    held["others"][key] |= {"hash": "0" * 16, "classes": ["cat", "dog", "yak"]}
    folder.write_json("data.json", held)
    assert "1 are gone: yak; 1 are new: emu" in continued(root, tmp_path)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"classes": ["cat", "dog"]}, r"trained on 2 classes, but its data now has 3 \(1 are new: emu\): train the"),
        ({"data": "0" * 16}, r"trained on data 0000000000000000, but that data is now"),
    ],
)
def test_a_worker_finds_weights_that_were_trained_on_other_data(tmp_path, about, words):
    s, folder = study(images(tmp_path / "i")), ResultsFolder.at(tmp_path / "r/s")
    (source,) = run_here(s, tmp_path / "r/s", tmp_path / "cache", until=1)
    name = f"weights/{source['trial_id']}.safetensors"
    kept = Weights.unpack(folder.read(name), "kept")
    folder.write(name, Weights(kept.tensors, "kept", kept.about | about).pack())
    rows = {row["arm"]: row for row in run_here(s, tmp_path / "r/s", tmp_path / "cache")}
    assert rows["target"]["status"] == "failed" and rows["source"]["status"] == "complete"
    with pytest.raises(AssertionError, match=rf"trial {source['trial_id']}: {words}"):
        raise AssertionError(rows["target"]["reason"])


def test_weights_that_are_gone_are_named(tmp_path):
    s = study(images(tmp_path / "i"))
    (source,) = run_here(s, tmp_path / "r/s", tmp_path / "cache", until=1)
    (tmp_path / f"r/s/weights/{source['trial_id']}.safetensors").unlink()
    rows = {row["arm"]: row for row in run_here(s, tmp_path / "r/s", tmp_path / "cache")}
    assert rows["target"]["status"] == "failed" and "are not in the results folder" in rows["target"]["reason"]


def test_rows_of_other_data_or_without_their_study_are_refused(tmp_path):
    wanted, folder = study(tmp_path / "i"), ResultsFolder.at(tmp_path / "r")
    rows = [{"study": "s", "data_hash": "old"}]
    with pytest.raises(FolderRefused, match=r"study\.json: is missing, .* the 1 trials here"):
        check_rows(wanted, folder, rows, {"old"})
    folder.write_json("study.json", {"name": "s"})
    check_rows(wanted, folder, rows, {"old", "another"})
    with pytest.raises(BadData, match="run on data with hash old, which is now new: restore the data"):
        check_rows(wanted, folder, rows, {"new"})
