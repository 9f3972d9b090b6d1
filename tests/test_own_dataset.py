"""A dataset of the user's own, by reference: arrays, a torch Dataset, rows, splits, and invalid return values."""

import re

import numpy as np
import pytest
from sweeps_here import run_here

from resnetlab.analysis.results import Results
from resnetlab.errors import BadData, BadRequest
from resnetlab.experiment import own
from resnetlab.report.build import build_report
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import build_study
from resnetlab.study.data_config import DataConfig
from resnetlab.study.records import Status
from resnetlab.vision.data import check, prepare

pytestmark = pytest.mark.usefixtures("warm_processes")

STUDY = """
dataset: {name: my_data.py:noise, n: 200, limit: 100, kind: grey}
baseline: {model: mlp, head_width: 8, batch_size: 32}
factors: {lr: {levels: [0.1, 0.05]}}
search: {trials: 1, epochs: 1}
confirm: {seeds: 2}
"""
CODE = """
from pathlib import Path
from typing import Literal
import numpy as np
import helper

def noise(*, folder: Path, n: int = 100, kind: Literal["grey", "rgb"] = "rgb", share: float = 0.5):
    print("made", file=(folder / "calls").open("a"))
    return helper.arrays(n, 1 if kind == "grey" else 3, share)
"""
HELPER = """
import numpy as np

def arrays(n, channels, share):
    labels = np.arange(n) % 3
    images = np.random.default_rng(0).integers(0, 100, (n, 8, 8, channels)) + 50 * labels[:, None, None, None]
    return images.astype("uint8"), labels
"""


def loaded(place, text=STUDY, **files):
    place.mkdir(parents=True, exist_ok=True)
    for name, content in ({"my_data": CODE, "helper": HELPER} | files).items():
        (place / f"{name}.py").write_text(content)
    (place / "mine.yaml").write_text(text)
    return own.load(place / "mine.yaml")


def test_the_function_is_called_once_for_its_settings_and_its_code(tmp_path):
    study = loaded(tmp_path / "s")
    data, cache = study.dataset, tmp_path / "cache"
    check(data, cache)
    dataset = prepare(data, cache)
    assert dataset.images.shape == (200, 8, 8, 1) and dataset.classes == ("0", "1", "2")
    assert [len(dataset.split(name, 0)) for name in ("train", "val", "test")] == [100, 17, 30]
    for name in ("my_data.py", "helper.py", "mine.yaml"):
        (tmp_path / "s" / name).unlink()
    again = build_study(study.model_dump(mode="json"), "study.json").dataset
    assert again == data and prepare(DataConfig.model_validate_json(data.model_dump_json()), cache, whole=True)
    assert (cache / "downloads/calls").read_text() == "made\n"
    other = loaded(tmp_path / "t", STUDY.replace("n: 200", "n: 240")).dataset
    assert len(prepare(other, cache).images) == 240
    remark = loaded(tmp_path / "u", helper="# a remark\n" + HELPER).dataset
    changed = loaded(tmp_path / "v", helper=HELPER.replace("100, (n", "90, (n")).dataset
    assert prepare(remark, cache).hash == dataset.hash != prepare(changed, cache).hash
    assert (cache / "downloads/calls").read_text() == 3 * "made\n"


def test_settings_are_part_of_a_trial_s_id_and_code_is_not(tmp_path):
    study = loaded(tmp_path / "s")
    moved = loaded(tmp_path / "t", helper=HELPER.replace("100, (n", "90, (n"))
    other = loaded(tmp_path / "u", STUDY.replace("n: 200", "n: 240"))
    ids = [found.baseline_config(0).trial_id for found in (study, moved, other)]
    assert ids[0] == ids[1] != ids[2] and study.study_hash != moved.study_hash
    assert dict(study.dataset.own.settings) == {"n": 200, "kind": "grey", "share": 0.5}
    assert study.code.keys() == {"study/my_data.py", "study/helper.py"}


def test_a_study_of_it_is_swept_and_reported_without_its_code(tmp_path):
    study = loaded(tmp_path / "s")
    ResultsFolder.at(tmp_path / "results/mine").write_json("study.json", study.recorded())
    rows = run_here(study, tmp_path / "results/mine", tmp_path / "cache")
    assert {row["status"] for row in rows} == {Status.COMPLETE} and len(rows) == 5
    (tmp_path / "s/my_data.py").unlink()
    assert len(Results.open(tmp_path / "results/mine").confirm) == 4
    assert "my_data.py:noise" in build_report(tmp_path / "results/mine").read_text()


def test_arms_change_its_settings_or_take_another_dataset(tmp_path):
    arms = "arms: {a: {}, b: {data: {n: 150}}, c: {data: {name: digits}}}\n"
    text = re.sub("factors.*\n", arms, STUDY).replace("seeds: 2", "seeds: 2, design: arms").replace(", kind: grey", "")
    study = loaded(tmp_path, text)
    found = {name: study.arm_config(name, seed=0).data for name in "abc"}
    assert [dict(data.own.settings)["n"] if data.own else data.name for data in found.values()] == [200, 150, "digits"]
    assert "arange" not in str(study.identity())


RETURNS = """
import numpy as np, torch
from torch.utils.data import Dataset, TensorDataset
from PIL import Image
draw = np.random.default_rng(0)
pixels, numbers = draw.integers(0, 255, (90, 6, 5, 3)).astype("uint8"), np.arange(90) % 3

class Pictures(Dataset):
    classes = ["cat", "dog", "owl"]
    def __len__(self): return 90
    def __getitem__(self, i): return Image.fromarray(pixels[i]), int(numbers[i])

class Rows:
    features = {"img": None, "label": type("ClassLabel", (), {"names": ["cat", "dog", "owl"]})()}
    def __len__(self): return 90
    def __getitem__(self, i): return {"img": Image.fromarray(pixels[i]), "label": int(numbers[i])}

def load():
    return VALUE
"""
GOOD = {  # what a function returns: shape of an image, names of the classes, sizes of val and test
    "(pixels, numbers)": ((6, 5, 3), "012", (8, 14)),
    "(pixels[..., 0], numbers)": ((6, 5, 1), "012", (8, 14)),
    "Pictures()": ((6, 5, 3), ("cat", "dog", "owl"), (8, 14)),
    "Rows()": ((6, 5, 3), ("cat", "dog", "owl"), (8, 14)),
    "TensorDataset(torch.tensor(pixels).permute(0, 3, 1, 2), torch.tensor(numbers))": ((6, 5, 3), "012", (8, 14)),
    "{'train': (pixels, numbers), 'test': (pixels[:30], numbers[:30])}": ((6, 5, 3), "012", (9, 30)),
    "{'train': Rows(), 'validation': Rows(), 'test': Rows()}": ((6, 5, 3), ("cat", "dog", "owl"), (90, 90)),
}


def returned(value, place):
    text = STUDY.replace("{name: my_data.py:noise, n: 200, limit: 100, kind: grey}", "{name: ret.py:load}")
    study = loaded(place, text, ret=RETURNS.replace("VALUE", value))
    return prepare(study.dataset, place / "cache")


PALETTE = """[(Image.fromarray(pixels[i]).quantize(16), int(numbers[i])) for i in range(90)]"""
BITS = """[(Image.fromarray(pixels[i, ..., 0]).convert("1"), int(numbers[i])) for i in range(90)]"""


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "RGBX"])
def test_images_in_other_colour_spaces_are_read_as_people_see_them(mode, tmp_path):
    value = PALETTE.replace("quantize(16)", f"convert('{mode}')")
    found = returned(value, tmp_path).images[:90]
    pixels = np.random.default_rng(0).integers(0, 255, (90, 6, 5, 3)).astype("uint8")
    assert found.shape == (90, 6, 5, 3) and np.abs(found.astype(int) - pixels).mean() < 3


def test_images_with_a_palette_and_of_bits_are_read_as_people_see_them(tmp_path):
    colours = returned(PALETTE, tmp_path / "a").images[:90]
    pixels = np.random.default_rng(0).integers(0, 255, (90, 6, 5, 3)).astype("uint8")
    assert colours.shape == (90, 6, 5, 3) and np.abs(colours.astype(int) - pixels).mean() < 40
    bits = returned(BITS, tmp_path / "b").images[:90]
    assert bits.shape == (90, 6, 5, 1) and set(np.unique(bits)) == {0, 255}


@pytest.mark.parametrize("value", GOOD)
def test_arrays_torch_datasets_rows_and_splits_are_read(value, tmp_path):
    dataset = returned(value, tmp_path)
    shape, classes, sizes = GOOD[value]
    assert (dataset.shape, dataset.classes) == (shape, tuple(classes))
    assert tuple(len(dataset.split(name, 0)) for name in ("val", "test")) == sizes
    pixels = np.random.default_rng(0).integers(0, 255, (90, 6, 5, 3)).astype("uint8")
    np.testing.assert_array_equal(dataset.images[:90, ..., 0], pixels[..., 0])
    np.testing.assert_array_equal(dataset.labels[:90], np.arange(90) % 3)


HUGGING_FACE = """
import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from PIL import Image as Pillow
draw = np.random.default_rng(0)
pixels, numbers = draw.integers(0, 255, (90, 6, 5, 3)).astype("uint8"), np.arange(90) % 3
columns = Features({COLUMN: Image(), "label": ClassLabel(names=["cat", "dog", "owl"])})
rows = Dataset.from_dict({COLUMN: [Pillow.fromarray(image) for image in pixels], "label": numbers}, features=columns)

def load():
    return VALUE
"""
FORMS = {  # what a function returns: sizes of val and test
    "rows": (8, 14),
    "rows.with_format('numpy')": (8, 14),
    "rows.with_format('torch')": (8, 14),
    "rows.cast_column('label', ClassLabel(names=['cat', 'dog', 'owl'])).select(range(90))": (8, 14),
    "DatasetDict(train=rows, validation=rows.select(range(30)), test=rows)": (30, 90),
    "rows.train_test_split(test_size=0.5, shuffle=False)": (4, 45),
}


@pytest.mark.parametrize("column", ["image", "img"])
@pytest.mark.parametrize("value", FORMS)
def test_datasets_of_hugging_face_are_read(value, column, tmp_path):
    pytest.importorskip("datasets")
    text = STUDY.replace("{name: my_data.py:noise, n: 200, limit: 100, kind: grey}", "{name: ret.py:load}")
    code = HUGGING_FACE.replace("VALUE", value).replace("COLUMN", repr(column))
    dataset = prepare(loaded(tmp_path, text, ret=code).dataset, tmp_path / "cache")
    assert (dataset.shape, dataset.classes) == ((6, 5, 3), ("cat", "dog", "owl"))
    assert tuple(len(dataset.split(name, 0)) for name in ("val", "test")) == FORMS[value]
    pixels = np.random.default_rng(0).integers(0, 255, (90, 6, 5, 3)).astype("uint8")
    first = 45 if "train_test" in value else 90
    np.testing.assert_array_equal(dataset.images[:first], pixels[:first])
    np.testing.assert_array_equal(dataset.labels[:first], np.arange(first) % 3)


BAD = {
    "3": "returned int (3)",
    "(pixels / 255, numbers)": "images are float64 (allowed: 0 to 255 as uint8",
    "(pixels * np.nan, numbers)": "images are float64, some of them NaN (allowed",
    "(pixels, numbers + 0.5)": "labels are float64, such as 0.5 (allowed: integers from 0)",
    "(pixels, np.where(numbers, 1, np.nan))": "labels are float64, such as nan (allowed",
    "(pixels, numbers.astype(str))": "labels are <U21, such as '0' (allowed",
    "(pixels, numbers - 1)": "a label is -1 (allowed: integers from 0)",
    "(pixels, 2 * numbers)": "no image has label 1, and the largest is 4",
    "(pixels, numbers * 10**12)": "the largest is 2000000000000",
    "(pixels, numbers[:80])": "90 images and 80 labels",
    "(pixels, np.eye(3)[numbers])": "labels have shape (90, 3) (allowed: (N,))",
    "(pixels.transpose(0, 3, 1, 2), numbers)": "images have 5 channels, by their shape (90, 3, 6, 5)",
    "(pixels[:, 0, 0], numbers)": "images have shape (90, 3) (allowed: (N, H, W, C)",
    "(pixels[:0], numbers[:0])": "no images",
    "(pixels, numbers * 0)": "all 90 images are of one class",
    "{'test': (pixels, numbers)}": "returned the splits test (allowed: train, and val and test)",
    "{'train': (pixels, numbers), 'test': (pixels[:, :5], numbers)}": "images of shape (5, 5, 3) and (6, 5, 3)",
    "[(pixels[0], 1), (pixels[0, :5], 0)]": "images of shape (5, 5, 3) and (6, 5, 3)",
    "[pixels[0]]": "an item is ndarray (allowed: a tuple of image and label)",
    "[{'a': 1, 'b': 2}]": "an item has the columns a, b (allowed: image or img, and label or labels)",
    "1 / 0": "ZeroDivisionError",
}


@pytest.mark.parametrize("value", BAD)
def test_what_is_no_dataset_is_said_and_nothing_is_left_in_the_cache(value, tmp_path):
    with pytest.raises((BadData, BadRequest), match=re.escape(BAD[value])) as caught:
        returned(value, tmp_path)
    assert "dataset" in str(caught.value) and "own_dataset.py" not in str(caught.value)
    if "one class" not in BAD[value]:
        assert not [file for file in (tmp_path / "cache").rglob("*") if file.name != "downloads"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("n: 200", "n: many", "dataset.n: need a whole number, got the text 'many'"),
        ("n: 200", "m: 200", "dataset.m: unknown key (allowed: kind, n, share)"),
        ("kind: grey", "kind: blue", "dataset.kind: Input should be 'grey' or 'rgb', got 'blue'"),
        ("n: 200", "size: 20", "dataset.size: 20, but my_data.py:noise does not read it"),
        ("noise", "nois", "no 'nois' in my_data.py (did you mean 'noise'?)"),
        ("my_data.py:noise", "my_dat.py:noise", "no such file"),
        ("my_data.py:noise", "digit", "dataset.name: Input should be 'character-fonts'"),
        ("kind: grey", "own: {}", "dataset.own: is written by resnetlab"),
    ],
)
def test_bad_settings_of_it_are_refused(old, new, words, tmp_path):
    with pytest.raises(BadRequest, match=re.escape(words)):
        check(loaded(tmp_path, STUDY.replace(old, new)).dataset, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_argument_with_the_name_of_a_common_setting_is_refused(tmp_path):
    with pytest.raises(BadRequest, match="argument 'limit' is a setting of every dataset"):
        loaded(tmp_path, my_data=CODE.replace("n: int", "limit: int"))
