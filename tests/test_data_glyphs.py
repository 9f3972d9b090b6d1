"""Glyphs: deterministic, two labels for the same images, only fonts that draw the alphabet."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fontTools.ttLib import TTFont

from resnetlab.errors import BadData, BadRequest
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data import check, fonts, glyphs, prepare
from resnetlab.vision.data import default_cache as find_cache

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def dataset(cache):
    return prepare(DataConfig(name="glyphs", variants=2), cache)


def test_shape_and_labels(dataset):
    n = len(dataset.notes["fonts left out"])
    assert n >= 10
    assert dataset.shape == (20, 20, 1)
    assert dataset.images.dtype == np.uint8
    assert dataset.labels.dtype == np.int64
    assert "".join(dataset.classes) == fonts.ALPHABET
    assert len(set(np.bincount(dataset.labels))) == 1
    assert len(dataset.images) == 47 * 2 * 22


def test_both_labels_describe_the_same_images_and_splits(dataset, cache):
    by_font = prepare(DataConfig(name="glyphs", variants=2, label="font"), cache)
    assert np.array_equal(by_font.images, dataset.images)
    assert by_font.n_classes == 22
    assert by_font.hash != dataset.hash
    pairs = set(zip(dataset.labels.tolist(), by_font.labels.tolist(), strict=True))
    assert len(pairs) == 47 * 22
    for name in ("train", "val", "test"):
        assert np.array_equal(by_font.split(name, 3), dataset.split(name, 3))
    assert len(list(cache.glob("glyphs-*"))) == 1


def test_splits_are_stratified_by_character(dataset):
    counts = np.bincount(dataset.labels[dataset.split("test", 1)], minlength=47)
    assert counts.max() - counts.min() <= 1


def test_symbol_fonts_are_left_out_and_text_fonts_kept():
    found = fonts.usable(fonts.font_files(None))
    for name in ("cmsy10", "cmex10", "STIXSizOneSymReg", "STIXNonUni", "LastResortHE-Regular", "DejaVuSansDisplay"):
        assert name in found.left_out
    for name in ("cmr10", "cmmi10", "cmti10", "cmtt10", "DejaVuSans", "DejaVuSerif-BoldItalic", "STIXGeneralItalic"):
        assert name in found.paths


def test_another_process_renders_the_same(dataset, tmp_path):
    code = (
        "import sys; from pathlib import Path; "
        "from resnetlab.study.data_config import DataConfig; from resnetlab.vision.data import prepare;"
        f"print(prepare(DataConfig(name='glyphs', variants=2), Path({str(tmp_path)!r})).hash);"
        "assert not {'torch', 'torchvision', 'matplotlib', 'ray'} & set(sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == dataset.hash


def test_more_variants_and_fonts_change_no_image():
    path = fonts.shipped() / "cmr10.ttf"
    few, many = (glyphs.render("cmr10", path, n).reshape(47, n, 20, 20) for n in (2, 5))
    assert np.array_equal(many[:, :2], few)


def test_images_vary_and_show_something(dataset):
    images = dataset.images[..., 0]
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    darkest, lightest = np.percentile(images, [2, 98], axis=(1, 2))
    contrast = lightest - darkest
    assert contrast.min() > 25
    assert np.percentile(contrast, 90) - np.percentile(contrast, 10) > 60
    assert images.mean(axis=(1, 2)).std() > 20


def test_hard_for_nearest_mean_yet_not_noise(dataset):
    """A classifier without any learning of features reads some characters, and by far not all."""
    images = dataset.images.reshape(len(dataset.images), -1).astype(float)
    images = images - images.mean(axis=1, keepdims=True)
    images /= images.std(axis=1, keepdims=True)
    train, test = dataset.split("train", 0), dataset.split("test", 0)
    means = np.stack([images[train][dataset.labels[train] == c].mean(axis=0) for c in range(47)])
    accuracy = ((images[test] @ means.T).argmax(axis=1) == dataset.labels[test]).mean()
    assert 0.15 < accuracy < 0.6


def test_own_fonts_join(tmp_path, cache):
    (tmp_path / "deep").mkdir()
    shutil.copy(fonts.shipped() / "cmr10.ttf", tmp_path / "deep" / "mine.ttf")
    shutil.copy(fonts.shipped() / "cmsy10.ttf", tmp_path / "signs.ttf")
    (tmp_path / "broken.otf").write_bytes(b"no font")
    config = DataConfig(name="glyphs", variants=1, label="font", font_dir=str(tmp_path))
    dataset = prepare(config, cache)
    assert "mine" in dataset.classes
    assert {"signs", "broken"} <= dataset.notes["fonts left out"].keys()
    assert "cannot be read" in dataset.notes["fonts left out"]["broken"]


def test_one_face_of_each_family_is_chosen():
    """matplotlib's 22 usable fonts are of a few families with several faces each."""
    found = fonts.usable(fonts.font_files(None)).paths
    kept = {"STIXGeneral": found["STIXGeneral"]}
    chosen, families = fonts.choose(found, kept, 3)
    assert list(chosen) == ["DejaVuSans", "cmmi10"] and families == 9
    every, _ = fonts.choose(found, kept, 1 + families)
    assert len(every) == families and "STIXGeneral" not in every and "DejaVuSans-Bold" not in every
    with pytest.raises(BadRequest, match=r"99 fonts, .*allowed: 2 to 10"):
        fonts.choose(found, kept, 99)


def test_the_script_that_chooses_fonts_names_what_is_wrong(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    for folder, words in (("full", "need an empty folder"), ("chosen", "allowed: none, as no other family")):
        command = [sys.executable, ROOT / "sweeps/choose_fonts.py", "24", tmp_path / folder, "--fonts", tmp_path]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_the_script_that_chooses_fonts_ends_with_its_own_line(tmp_path):
    (tmp_path / "own").mkdir()
    with TTFont(fonts.shipped() / "DejaVuSans.ttf") as font:
        for record in font["name"].names:
            if record.nameID in (1, 16):  # the family
                record.string = "Mine"
        font.save(tmp_path / "own/Mine.ttf")
    count = len(fonts.usable(fonts.font_files(None)).paths) + 1
    command = [sys.executable, ROOT / "sweeps/choose_fonts.py", str(count), tmp_path / "chosen", "--fonts", "own"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and [file.name for file in (tmp_path / "chosen").iterdir()]
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{tmp_path}/chosen: 1 fonts from 1 families in {tmp_path}/own; matplotlib adds {count - 1}")


def test_own_fonts_of_which_none_can_be_used(tmp_path, cache):
    shutil.copy(fonts.shipped() / "cmex10.ttf", tmp_path / "signs.ttf")
    with pytest.raises(BadData, match=r"font_dir: none of 1 fonts can be used; signs.ttf: draws other signs"):
        prepare(DataConfig(name="glyphs", variants=1, font_dir=str(tmp_path)), cache)


def test_font_folder_absent_or_empty(tmp_path):
    with pytest.raises(BadData, match=r"font_dir: .*nowhere is not a folder"):
        check(DataConfig(name="glyphs", font_dir=str(tmp_path / "nowhere")))
    with pytest.raises(BadData, match="has no fonts"):
        check(DataConfig(name="glyphs", font_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "glyphs", "label": "letter"}, "dataset.label: 'letter'.*allowed: character, font"),
        ({"name": "glyphs", "size": 32}, "dataset.size: 32, but glyphs does not read it"),
        ({"name": "glyphs", "root": "/x"}, "dataset.root: '/x', but glyphs"),
        ({"name": "cifar10", "label": "fine"}, "dataset.label: 'fine', but cifar10"),
        ({"name": "cifar100", "label": "class"}, "allowed: fine, coarse"),
        ({"name": "folder", "root": "/x", "download": True}, "dataset.download: True, but folder"),
        ({"name": "folder"}, "dataset.root: folder needs it"),
    ],
)
def test_settings_that_do_not_belong_are_refused(settings, message):
    with pytest.raises(BadRequest, match=message):
        check(DataConfig(**settings))


def test_where_the_cache_lies(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("RESNETLAB_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert find_cache() == Path("/home/someone/.cache/resnetlab")
    monkeypatch.setenv("XDG_CACHE_HOME", "/big")
    assert find_cache() == Path("/big/resnetlab")
    monkeypatch.setenv("RESNETLAB_CACHE", "/mine")
    assert find_cache() == Path("/mine")
