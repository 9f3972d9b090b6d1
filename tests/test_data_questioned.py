"""The data questioned before and after training: classes of each split, guessing, doubts, files of predictions."""

import json

import numpy as np
import pytest
from PIL import Image
from sweeps_here import run_here
from test_data_trees import lines, opened, tree

import resnetlab.vision.data as data
from resnetlab.analysis.evaluation.mistakes import most_wrong
from resnetlab.analysis.results import Results
from resnetlab.cli.dry_run import dry_run
from resnetlab.cli.report import with_wrong_images
from resnetlab.driver.options import Options
from resnetlab.report.figures.confusion import SHOWN, condensed
from resnetlab.report.findings import Findings
from resnetlab.report.sections import data as data_section
from resnetlab.report.sections import mistakes
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import build_study
from resnetlab.study.class_counts import ClassCounts, judged, table
from resnetlab.vision.data.near_duplicates import hashes, near


def test_what_is_said_of_an_unbalanced_binary_source():
    splits = {"train": [190, 10], "val": [19, 1], "test": [28, 2]}
    headings, rows = table(splits, ["well", "ill"])
    assert rows[0] == ["training", "200", "2", "10 (ill)", "190 (well)", "95.0%"] and len(headings) == 6
    chance, unbalanced = judged(splits, ["well", "ill"])
    assert chance == "chance: 50.0%, one of 2 classes; always 'well': 93.3% of the test images"
    assert unbalanced.startswith("unbalanced: up to 19 times as many training images of one class as of another")


def test_a_balanced_set_has_no_majority_and_no_imbalance():
    splits = {split: [10] * 5 for split in ("train", "val", "test")}
    assert judged(splits, "abcde") == ["chance: 20.0%, one of 5 classes"]
    found = ClassCounts((3, 0, 1))
    assert (found.present, found.ratio, found.smallest, found.largest) == (2, 3.0, 1, 0)


def photograph(draw, side=48):
    """Smooth, as photographs are: low frequencies above noise."""
    coarse = Image.fromarray(draw.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(int)


def test_near_duplicates_are_found_and_other_images_of_a_class_are_not():
    draw = np.random.default_rng(0)
    first = [photograph(draw) for _ in range(300)]
    changed = [
        np.clip(image * 0.8 + 30, 0, 255) if number % 3 == 0 else
        np.asarray(Image.fromarray(image.astype(np.uint8)).resize((32, 32)).resize((48, 48))) if number % 3 == 1 else
        np.clip(image + draw.normal(0, 8, image.shape), 0, 255)
        for number, image in enumerate(first[:30])
    ]  # fmt: skip
    images = np.stack([*first, *changed]).astype(np.uint8)
    pairs = near(images, hashes(images), np.arange(300, 330), np.arange(300))
    assert set(map(tuple, pairs.tolist())) <= {(300 + number, number) for number in range(30)}
    assert len(pairs) >= 27
    assert len(near(images, hashes(images), np.arange(150), np.arange(150, 300))) == 0


def test_a_test_image_that_was_compressed_anew_is_said(tmp_path):
    draw, root = np.random.default_rng(0), tmp_path / "x"
    for split, count in (("train", 30), ("val", 6), ("test", 6)):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(photograph(draw).astype(np.uint8))
                image.save(root / f"{split}/{label}/{number}.png")
    Image.open(root / "train/cat/3.png").save(root / "test/cat/again.jpg", quality=60)
    (line,) = [line for line in lines(root) if "nearly the same" in line]
    assert line == (
        "1 of 13 test images is nearly the same as training images (by perceptual hash; e.g. test/cat/again.jpg and "
        "train/cat/3.png)"
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A run on a tree with tracks, unequal classes and one wrong label."""
    place = tmp_path_factory.mktemp("swept")
    root = tree(place / "x", [f"{label}/{track:02}_{frame}.png" for label, tracks in (("cat", 12), ("dog", 5))
                              for track in range(tracks) for frame in range(4)])  # fmt: skip
    (root / "cat/00_0.png").write_bytes(b"")
    settings = {"name": "folder", "root": str(root), "group": r"([^/]+/\d+)_", "skip": 1, "test_fraction": 0.4}
    content = {"name": "s", "dataset": settings, "search": {"epochs": 1}, "baseline": {"batch_size": 16}}
    content |= {"arms": {"a": {"model": "mlp", "head_width": 4}, "b": {"model": "mlp", "head_width": 8}}}
    study = build_study(content | {"confirm": {"design": "arms", "seeds": 2}}, "s.yaml")
    data._prepared.clear()
    run_here(study, place / "r/s", place / "cache")
    ResultsFolder.at(place / "r/s").write_json("study.json", study.recorded())
    return study, place


def test_predictions_name_the_file_and_the_group_that_they_are_of(swept):
    _, place = swept
    results = Results.open(place / "r/s")
    dataset = opened(place / "x", group=r"([^/]+/\d+)_", skip=1, test_fraction=0.4)
    trial = results.confirm["trial_id"].iloc[0]
    rows = results.test_images(trial)
    assert len(rows) == len(dataset.split("test", results.trials["split_seed"].iloc[0])) > 10
    for row in rows.itertuples():
        assert np.array_equal(dataset.images[row.image], np.asarray(Image.open(place / "x" / row.file)))
        assert row.group == row.file.rpartition("_")[0]
        assert dataset.classes[row.label] == row.file.split("/")[0]
    assert len(results.images) == 67 and set(results.images["split"]) == {"train", "val", "test"}
    assert rows["confidence"].between(0.5, 1).all()  # of two classes


def test_the_report_has_the_data_with_what_was_left_out(swept):
    _, place = swept
    results = Results.open(place / "r/s")
    held = json.loads((place / "r/s/data.json").read_text())
    assert sum(held["counts"]["train"]) == held["train"] and held["skipped"]["files"] == ["cat/00_0.png"]
    findings = Findings(Results(**{**vars(results), "sweep": {**results.sweep, "data": held}}))
    section = data_section.section(findings)
    assert section is not None and [table.title for table in section.tables] == [
        "Splits", "Images of each class", "Left out",
    ]  # fmt: skip
    assert any(line.startswith("Chance: 50.0%, one of 2 classes; always 'cat'") for line in section.text)
    assert any(line.startswith("Groups: 17, ") for line in section.text)
    assert section.tables[1].rows[0][0] == "cat"


def test_a_folder_of_before_has_no_section_of_its_data(swept):
    _, place = swept
    results = Results.open(place / "r/s")
    old = {"name": "folder", "hash": "x", "classes": ["cat", "dog"], "train": 3}
    assert data_section.section(Findings(Results(**{**vars(results), "sweep": {"data": old}}))) is None


def test_the_most_confidently_wrong_images_are_shown_where_that_is_asked(swept):
    _, place = swept
    results = Results.open(place / "r/s")
    findings = Findings(results)
    assert mistakes.section(findings) is None
    root = str(place / "x")
    cache = pytest.MonkeyPatch()
    cache.setenv("RESNETLAB_CACHE", str(place / "cache"))
    section = mistakes.section(with_wrong_images(findings, 5, root))
    cache.undo()
    found = most_wrong(results, findings.shown_arm, 5)
    assert 0 < len(found) <= 5 and [row[1] for row in section.tables[0].rows] == found["file"].tolist()
    assert all(row[0].startswith("data:image/png;base64,") for row in section.tables[0].rows)
    weight = found["confidence"] * found["wrong"] / found["runs"]
    assert weight.is_monotonic_decreasing


def test_two_hundred_classes_keep_those_with_the_most_mistakes():
    draw = np.random.default_rng(0)
    counts = np.diag(draw.integers(5, 30, 200))
    counts[7, 150] = counts[150, 199] = 40
    small, kept = condensed(counts)
    assert small.sum() == counts.sum() and small.shape == (SHOWN + 1, SHOWN + 1)
    assert {7, 150, 199} <= set(kept) and small[kept.index(7), kept.index(150)] == 40


def test_the_dry_run_shows_the_classes_of_each_split(swept, monkeypatch, capsys):
    study, place = swept
    monkeypatch.setenv("RESNETLAB_CACHE", str(place / "cache"))
    dry_run(study, Options(str(place / "other")))
    printed = capsys.readouterr().out
    assert "  split       images  classes  smallest class  largest class  always the largest\n" in printed
    assert "  unbalanced: up to" in printed and "  left out, as skip: 1 allows: 1 of 68 images" in printed
