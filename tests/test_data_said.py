"""What a dry run and a run say of their data: which splits are read, which classes lack images, what occurs twice."""

import json
import shutil
import zipfile
from hashlib import blake2b

import numpy as np
import pytest
from PIL import Image
from sweeps_here import run_here
from test_character_fonts import made, pack

import resnetlab.vision.data as data
from resnetlab.cli.dry_run import dry_run
from resnetlab.driver.options import Options
from resnetlab.errors import BadData, BadRequest
from resnetlab.study import build_study
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data import Dataset, check, doubted, fonts, prepare, said
from resnetlab.vision.data.remarks import same_images

COUNTS = {"train/cat": 12, "train/dog": 12}


def tree(root, counts):
    """counts: {"train/cat": 3, …} images each, unlike each other."""
    draw = np.random.default_rng(len(counts))
    for place, n in counts.items():
        (root / place).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / place / f"{i}.png")
    return root


def lines(root, seed=0, fractions=(), **settings):
    data._prepared.clear()
    config, cache = DataConfig(name="folder", root=str(root), **settings), root.parent / "cache"
    dataset = prepare(config, cache)
    return [*said(config, dataset, seed, fractions, cache), *doubted(config, dataset, seed, cache)]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, "splits: train from train/; val and test drawn from train/"),
        ({"test/cat": 2, "test/dog": 2}, "splits: train from train/, test from test/; val drawn from train/"),
        ({"val/cat": 2, "val/dog": 2}, "splits: train from train/, val from val/; test drawn from train/"),
        (
            {"val/cat": 2, "val/dog": 2, "test/cat": 2, "test/dog": 2},
            "splits: train from train/, val from val/, test from test/",
        ),
    ],
)
def test_which_splits_are_read_and_which_drawn_is_said(tmp_path, more, line):
    assert lines(tree(tmp_path / "x", COUNTS | more)) == [line]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("valid", "val"), ("validation", "val"), ("Val", "val"), ("dev", "val"),
        ("testing", "test"), ("Test", "test"), ("TESTS", "test"),
    ],
)  # fmt: skip
def test_a_split_is_read_under_every_name_that_people_give_it(tmp_path, name, split):
    root = tree(tmp_path / "x", COUNTS | {f"{name}/cat": 2, f"{name}/dog": 3})
    other = "test" if split == "val" else "val"
    assert lines(root) == [f"splits: train from train/, {split} from {name}/; {other} drawn from train/"]
    assert len(prepare(DataConfig(name="folder", root=str(root)), tmp_path / "cache").split(split, 0)) == 5


@pytest.mark.parametrize("name", ["Train", "training"])
def test_the_training_split_is_read_under_other_names(tmp_path, name):
    root = tree(tmp_path / "x", {f"{name}/cat": 12, f"{name}/dog": 12})
    assert lines(root) == [f"splits: train from {name}/; val and test drawn from {name}/"]


@pytest.mark.parametrize(("first", "second"), [("train", "Train"), ("train", "training"), ("valid", "validation")])
def test_two_folders_of_one_split_are_refused(tmp_path, first, second):
    root = tree(tmp_path / "x", COUNTS)
    for name in (first, second):
        (root / name).mkdir(exist_ok=True)
    with pytest.raises(
        BadData, match=rf"/{second}: {first}/ is read as the \w+ split already \(move it away, or merge"
    ):
        check(DataConfig(name="folder", root=str(root)))


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_empty_folder_of_a_split_is_refused(tmp_path, split):
    root = tree(tmp_path / "x", COUNTS)
    (root / split).mkdir()
    with pytest.raises(BadData, match=rf"/{split}: is empty \(remove it, and the {split} split is drawn"):
        check(DataConfig(name="folder", root=str(root)))


def test_a_file_in_place_of_a_split_is_refused(tmp_path):
    root = tree(tmp_path / "x", COUNTS)
    (root / "test").touch()
    with pytest.raises(BadData, match=r"/test: is not a folder"):
        check(DataConfig(name="folder", root=str(root)))


def test_classes_without_training_images_are_said(tmp_path):
    root = tree(tmp_path / "x", {f"train/c{i:02}": 6 for i in range(60)})
    assert "40 of 60 classes have no training image, with limit: 20" in "".join(lines(root, limit=20))
    (line,) = [line for line in lines(root, fractions=[0.5, 0.1]) if "no training" in line]
    assert line.startswith("32 of 60 classes have no training image, with data_fraction: 0.1: c0")
    assert not [line for line in lines(root) if "no training" in line]


def test_classes_that_a_test_folder_lacks_are_said(tmp_path):
    found = lines(tree(tmp_path / "x", COUNTS | {"val/cat": 3, "val/dog": 3, "test/dog": 3}))
    assert found[1:] == ["1 of 2 classes has no test image: cat"]


def test_a_test_folder_that_is_a_copy_of_train_is_said(tmp_path):
    root = tree(tmp_path / "x", COUNTS | {"val/cat": 3, "val/dog": 3})
    shutil.copytree(root / "train", root / "test")
    shutil.copy(root / "train/cat/0.png", root / "val/cat/x.png")
    assert lines(root)[1:] == [
        "1 of 7 validation images is identical to training images",
        "24 of 24 test images are identical to training images",
        "1 of 24 test images is identical to validation images",
    ]


def test_one_image_under_two_classes_is_said(tmp_path):
    root = tree(tmp_path / "x", COUNTS)
    shutil.copy(root / "train/cat/0.png", root / "train/dog/x.png")
    assert "1 image occurs under more than one class, e.g. one of cat, dog" in lines(root)


def test_only_identical_images_are_the_same():
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (300, 4, 4, 3), dtype=np.uint8)
    images[200:210] = images[:10]
    images[250] = images[0]
    images[260] = images[1, ::-1]  # equal sums, other pixels
    found = same_images(Dataset.from_arrays(images, np.arange(300) % 2, ["a", "b"]))
    assert np.flatnonzero(found >= 0).tolist() == [*range(10), *range(200, 210), 250]
    assert found[250] == found[200] == found[0] and found[1] != found[0]


def test_twins_are_found_among_many_images_and_only_they_are_read(monkeypatch):
    """How long that takes is measured by benchmarks/dry_run.py."""
    images = np.random.default_rng(0).integers(0, 256, (20_000, 8, 8, 1), dtype=np.uint8)
    images[10_000:10_500] = images[:500]
    read = []

    def counted(image, **size):
        read.append(1)
        return blake2b(image, **size)

    monkeypatch.setitem(same_images.__globals__, "blake2b", counted)
    group = same_images(Dataset.from_arrays(images, np.arange(20_000) % 10, [*"abcdefghij"]))
    assert np.flatnonzero(group >= 0).tolist() == [*range(500), *range(10_000, 10_500)]
    assert 1_000 <= len(read) < 1_100  # the twins, and few whose sums agree by chance


def test_glyphs_and_digits_have_nothing_to_be_said(tmp_path):
    for config in (DataConfig(name="glyphs", variants=2), DataConfig(name="digits")):
        assert said(config, prepare(config, tmp_path), 0, cache=tmp_path) == []
        assert doubted(config, prepare(config, tmp_path), 0, cache=tmp_path) == []


def test_what_lies_among_fonts_and_is_not_drawn_from_is_said(tmp_path):
    folder = tmp_path / "fonts"
    folder.mkdir()
    shutil.copy(fonts.shipped() / "DejaVuSans.ttf", folder / "Mine.ttf")
    shutil.copy(fonts.shipped() / "cmsy10.ttf", folder / "Signs.ttf")
    (folder / "web.woff2").touch()
    (folder / "elsewhere").symlink_to(tmp_path)
    config = DataConfig(name="glyphs", variants=1, font_dir=str(folder))
    left, passed = said(config, prepare(config, tmp_path / "cache"), 0, cache=tmp_path / "cache")
    assert left.startswith("font_dir: 1 of 2 fonts are left out: Signs.ttf (")
    assert passed == "passed over in font_dir: 2 that are no fonts (.otf .ttc .ttf): elsewhere/, web.woff2"


def test_files_of_an_archive_that_are_not_read_are_said(tmp_path):
    path = pack(tmp_path / "fonts.zip", made()[0])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README.txt", "x")
        archive.writestr("__MACOSX/._BELL.csv", "x")
    config = DataConfig(name="character-fonts", root=str(path))
    found = said(config, prepare(config, tmp_path / "cache"), 0, cache=tmp_path / "cache")
    assert found[0] == "passed over in the archive: 2 files that are not CSV: README.txt, __MACOSX/._BELL.csv"


def test_a_csv_file_is_not_called_a_damaged_archive(tmp_path):
    (tmp_path / "AGENCY.csv").write_text(made()[0]["AGENCY.csv"])
    with pytest.raises(BadData, match=r"AGENCY.csv: a CSV file, not a zip archive of CSV files"):
        check(DataConfig(name="character-fonts", root=str(tmp_path / "AGENCY.csv")))


def test_data_of_a_single_class_is_refused(tmp_path):
    path = pack(tmp_path / "fonts.zip", made(("BELL",))[0])
    with pytest.raises(BadData, match=r"dataset: all \d+ images are of one class, BELL"):
        prepare(DataConfig(name="character-fonts", root=str(path), label="font"), tmp_path / "cache")


IMPOSSIBLE = ["~nobodyhere/x", "x" * 300, "a\0b"]


@pytest.mark.parametrize("path", IMPOSSIBLE)
@pytest.mark.parametrize(
    ("name", "field"), [("folder", "root"), ("cifar10", "root"), ("character-fonts", "root"), ("glyphs", "font_dir")]
)
def test_a_path_that_cannot_be_is_refused_by_its_setting(tmp_path, name, field, path):
    with pytest.raises(BadRequest, match=rf"^dataset\.{field}: "):
        check(DataConfig(name=name, **{field: path}), tmp_path)


@pytest.mark.parametrize(("variable", "path"), [("RESNETLAB_CACHE", "~nobodyhere/x"), ("XDG_CACHE_HOME", "/x" * 3000)])
def test_a_cache_that_cannot_be_is_refused_by_its_variable(variable, path, monkeypatch):
    monkeypatch.delenv("RESNETLAB_CACHE", raising=False)
    monkeypatch.setenv(variable, path)
    with pytest.raises(BadRequest, match=f"^{variable}: "):
        data.default_cache()


def test_a_source_that_cannot_be_read_is_not_called_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    def fail(self, append):
        raise PermissionError(13, "Permission denied", str(tmp_path / "x/train/cat/0.png"))

    root = tree(tmp_path / "x", COUNTS)
    monkeypatch.setattr("resnetlab.vision.data.folder.image_folder.ImageFolder.write", fail)
    with pytest.raises(BadData, match=r"cat/0.png: cannot be read \(Permission denied\)"):
        lines(root)


def test_the_dry_run_and_the_run_say_the_same_and_data_json_keeps_it(tmp_path, monkeypatch, capsys):
    root = tree(tmp_path / "x", COUNTS)
    (root / "extra").mkdir()
    Image.new("CMYK", (8, 8)).save(root / "train/cat/x.tif")
    content = {"name": "s", "dataset": {"name": "folder", "root": str(root)}, "search": {"epochs": 1}}
    content |= {
        "arms": {"a": {"model": "mlp", "head_width": 4}, "b": {"model": "conv2"}},
        "baseline": {"batch_size": 16},
    }
    study = build_study(content | {"confirm": {"design": "arms", "seeds": 1}}, "s.yaml")
    monkeypatch.setenv("RESNETLAB_CACHE", str(tmp_path / "cache"))
    data._prepared.clear()
    dry_run(study, Options(str(tmp_path / "r")))
    notes = [
        "splits: train from train/; val and test drawn from train/",
        "passed over beside the splits: extra/",
        "not read as it lies in the files: CMYK converted to RGB without a colour profile (1 of 25 images)",
    ]
    printed = capsys.readouterr().out
    assert all(f"  {line}\n" in printed for line in notes)
    run_here(study, tmp_path / "r/s", tmp_path / "cache")
    assert json.loads((tmp_path / "r/s/data.json").read_text())["notes"] == notes
