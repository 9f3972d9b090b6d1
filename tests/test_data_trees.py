"""Trees as people have them: with and without folders of splits, nested, with annotations beside the images."""

import os

import numpy as np
import pytest
from PIL import Image

import resnetlab.vision.data as data
from resnetlab.errors import BadData, BadRequest
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data import check, doubted, prepare, said
from resnetlab.vision.data.folder.listing import NO_IMAGES
from resnetlab.wording import natural


def tree(root, files):
    """files: paths of images, unlike each other, or (folder, how many)."""
    draw = np.random.default_rng(len(files))
    for one in files:
        names = [one] if isinstance(one, str) else [f"{one[0]}/{i}.png" for i in range(one[1])]
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / name)
    return root


def opened(root, **settings):
    data._prepared.clear()  # as another process would
    return prepare(DataConfig(name="folder", root=str(root), **settings), root.parent / "cache")


def lines(root, **settings):
    config = DataConfig(name="folder", root=str(root), **settings)
    dataset = opened(root, **settings)
    return [*said(config, dataset, seed=0, cache=root.parent / "cache"), *doubted(config, dataset, seed=0)]


def counts(dataset, split):
    return np.bincount(dataset.labels[dataset.split(split, 0)], minlength=dataset.n_classes).tolist()


def refused(root, match, error=BadData, **settings):
    """In `check`, and with nothing more in the cache when it is opened."""
    cache = root.parent / "cache"
    before = sorted(cache.iterdir()) if cache.exists() else []
    config = DataConfig(name="folder", root=str(root), **settings)
    with pytest.raises(error, match=match):
        check(config)
    with pytest.raises(error, match=match) as raised:
        opened(root, **settings)
    assert (sorted(cache.iterdir()) if cache.exists() else []) == before
    return str(raised.value)


def test_class_folders_at_the_top(tmp_path):
    root = tree(tmp_path / "x", [("cat", 12), ("dog", 8)])
    dataset = opened(root, val_fraction=0.2)
    assert dataset.classes == ("cat", "dog")
    assert [sum(counts(dataset, split)) for split in ("train", "val", "test")] == [14, 3, 3]
    assert lines(root, val_fraction=0.2) == ["splits: the tree has none; val and test drawn from its class folders"]


def test_class_folders_below_one_folder_that_holds_them_all(tmp_path):
    root = tree(tmp_path / "x", [("pets/images/cat", 12), ("pets/images/dog", 8)])
    assert opened(root).classes == ("cat", "dog")
    assert "classes: the folders in pets/images/" in lines(root)


def test_the_folder_with_the_splits_is_named_where_the_root_lies_above_it(tmp_path):
    root = tree(tmp_path / "x", [("pets/train/cat", 12), ("pets/train/dog", 8)])
    refused(root, r"has no images, but .*/pets has train/ \(give that folder as the root\)")


def test_numbers_are_in_the_order_of_numbers(tmp_path):
    root = tree(tmp_path / "x", [(str(number), 3) for number in range(12)])
    assert opened(root).classes == tuple(map(str, range(12)))
    assert sorted(["x10", "x9", "a", "10", "9"], key=natural) == ["9", "10", "a", "x9", "x10"]


def test_a_tree_with_splits_keeps_the_order_of_its_classes(tmp_path):
    """Recorded results name classes by number."""
    root = tree(tmp_path / "x", [(f"train/{number}", 3) for number in range(12)])
    assert opened(root).classes == tuple(sorted(map(str, range(12))))


def test_a_folder_without_images_beside_class_folders_is_said(tmp_path):
    root = tree(tmp_path / "x", [("cat", 12), ("dog", 8)])
    (root / "boxes").mkdir()
    (root / "boxes/1.xml").touch()
    (root / "README.md").touch()
    assert opened(root).classes == ("cat", "dog")
    assert "passed over beside the splits: README.md, boxes/" in lines(root)
    (root / "empty").mkdir()
    refused(root, r"empty: this class folder is empty")


def test_folders_of_images_inside_class_folders(tmp_path):
    root = tree(tmp_path / "x", [("train/n01/images", 12), ("train/n02/images", 12)])
    for name in ("n01", "n02"):
        (root / f"train/{name}/{name}_boxes.txt").touch()
    assert opened(root).classes == ("n01", "n02")
    found = lines(root)
    assert "images: in images/ inside the class folders" in found
    assert "passed over: 2 files among images that are none: *.txt (2)" in found


def annotated(root, text, name="val_annotations.txt"):
    tree(root, [("train/n01/images", 12), ("train/n02/images", 12), ("val/images", 3)])
    (root / "val" / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("val_annotations.txt", "0.png\tn02\t0\t0\t9\t9\n1.png\tn01\t0\t0\t9\t9\n2.png\tn02\t0\t0\t9\t9\n"),
        ("labels.csv", "file,class\n0.png,n02\n1.png,n01\n2.png,n02\n"),
        ("labels.jsonl", '{"file": "0.png", "label": "n02"}\n{"file": "1.png", "label": "n01"}\n'
                         '{"file": "2.png", "label": "n02"}\n'),
    ],
)  # fmt: skip
def test_an_annotations_file_beside_the_images_of_a_split(tmp_path, name, text):
    root = annotated(tmp_path / "x", text, name)
    dataset = opened(root)
    assert counts(dataset, "val") == [1, 2]
    image = np.asarray(Image.open(root / "val/images/1.png"))
    assert np.array_equal(dataset.images[dataset.split("val", 0)[0]], image)
    assert f"splits: train from train/, val from val/ ({name}); test drawn from train/" in lines(root)


def test_an_image_that_the_annotations_do_not_name_is_refused(tmp_path):
    root = annotated(tmp_path / "x", "0.png\tn02\n1.png\tn01\n")
    refused(root, r"val_annotations.txt: no class for 1 of 3 images: 2.png")


def test_annotations_with_an_unknown_class_are_refused(tmp_path):
    root = annotated(tmp_path / "x", "0.png\tn02\n1.png\tn07\n2.png\tn08\n")
    message = refused(root, r"val/images: 'n07' is not a class of train/ \(n01, n02\) \(nor are 1 more: n08\)")
    assert "dataset.untrained: leave-out" in message


def test_annotations_in_another_encoding_are_refused(tmp_path):
    root = annotated(tmp_path / "x", "")
    (root / "val/val_annotations.txt").write_bytes("0.png\tn02\n1.png\tcafé\n".encode("latin-1"))
    refused(root, r"val_annotations.txt: line 2 is not text in UTF-8 \(save the file as UTF-8\)")


def test_a_split_without_labels_is_not_read_and_that_is_said(tmp_path):
    root = tree(tmp_path / "x", [("train/n01", 12), ("train/n02", 12), ("test/images", 5)])
    found = lines(root)
    assert "splits: train from train/; val and test drawn from train/" in found
    assert "passed over beside the splits: test/ (its images have no labels)" in found


GROCERIES = [("train/Fruit/Apple", 6), ("train/Fruit/Pear", 6), ("train/Juice/Orange", 6), ("test/Juice/Orange", 2)]


def test_nested_folders_are_refused_with_what_can_be_said_of_them(tmp_path):
    root = tree(tmp_path / "x", GROCERIES)
    refused(root, r"a folder inside a class folder \(.*dataset.class_from: 1 is Fruit here, 2 is Apple\)")


@pytest.mark.parametrize(
    ("rule", "classes"),
    [
        (1, ("Fruit", "Juice")),
        (2, ("Apple", "Orange", "Pear")),
        (-1, ("Apple", "Orange", "Pear")),
        (r"/(\w+)/\d+\.png", ("Apple", "Orange", "Pear")),
        (r"(Fruit|Juice)", ("Fruit", "Juice")),
    ],
)
def test_a_level_or_an_expression_names_the_class(tmp_path, rule, classes):
    root = tree(tmp_path / "x", GROCERIES)
    dataset = opened(root, class_from=rule)
    assert dataset.classes == classes
    assert sum(counts(dataset, "test")) == 2
    assert lines(root, class_from=rule)[1] == "splits: train from train/, test from test/; val drawn from train/"


def test_labels_in_the_names_of_files(tmp_path):
    root = tree(tmp_path / "x", [f"{label}_{number}.png" for label in ("cat", "dog") for number in range(12)])
    dataset = opened(root, class_from=r"^([a-z]+)_")
    assert dataset.classes == ("cat", "dog")
    assert np.array_equal(dataset.images[12], np.asarray(Image.open(root / "dog_0.png")))
    refused(root, r"24 images and no class folders .*dataset.table or dataset.class_from")


BAD_RULES = {
    r"[a-z]+_": r"dataset.class_from: '\[a-z\]\+_' has no group: put what is to be read in parentheses",
    r"([a-z": r"dataset.class_from: '\(\[a-z' is no regular expression",
    r"^(cat)_": r"dataset.class_from: '\^\(cat\)_': 12 of 24 images do not match.*: dog_0.png, dog_1.png",
    1: r"dataset.class_from: 1: 24 of 24 images are not that deep: cat_0.png",
    0: r"dataset.class_from: 0 is no level of folders",
}


@pytest.mark.parametrize(("rule", "message"), BAD_RULES.items())
def test_a_rule_that_does_not_fit_is_refused(tmp_path, rule, message):
    root = tree(tmp_path / "x", [f"{label}_{number}.png" for label in ("cat", "dog") for number in range(12)])
    refused(root, message, class_from=rule)


def test_classes_without_training_images_are_left_out_where_that_is_asked(tmp_path):
    root = tree(tmp_path / "x", [("train/a", 12), ("train/b", 12), ("test/a", 3), ("test/b", 3), ("test/c", 3)])
    refused(root, r"test/c: 'c' is not a class of train/ \(a, b\)")
    dataset = opened(root, untrained="leave-out")
    assert dataset.classes == ("a", "b") and counts(dataset, "test") == [3, 3]
    (line,) = [line for line in lines(root, untrained="leave-out") if line.startswith("left out")]
    assert line.endswith("3 images of 1 classes without training images: c")


def test_classes_have_names_that_people_read(tmp_path):
    root = tree(tmp_path / "x", [("train/n01", 12), ("train/n02", 12)])
    (root / "words.txt").write_text("n01\ttench, Tinca tinca\nn02\tgoldfish\nn03\tshark\n")
    (root / "names.json").write_text('{"n01": "tench", "n02": "goldfish"}')
    (root / "names.csv").write_text("n01,tench\nn02,goldfish\n")
    assert opened(root, class_names="words.txt").classes == ("tench, Tinca tinca", "goldfish")
    assert opened(root, class_names="names.json").classes == ("tench", "goldfish")
    assert opened(root, class_names="names.csv").classes == ("tench", "goldfish")


@pytest.mark.parametrize(
    ("text", "message"),
    [("n01,tench\n", "no name for 1 of 2 classes: n02"), ("n01,x\nn02,x\n", "several classes are called x")],
)
def test_names_that_are_missing_or_not_unique_are_refused(tmp_path, text, message):
    root = tree(tmp_path / "x", [("train/n01", 12), ("train/n02", 12)])
    (root / "names.csv").write_text(text)
    refused(root, message, class_names="names.csv")


def test_a_link_that_leads_back_up_is_refused(tmp_path):
    root = tree(tmp_path / "x", [("a/b", 12), ("c/d", 12)])
    (root / "a/b/loop").symlink_to(root / "a")
    refused(root, r"loop/b/loop|b/loop: a link to a folder above it", class_from=1)


def test_links_to_folders_and_files_elsewhere_are_followed(tmp_path):
    elsewhere = tree(tmp_path / "y", [("cats", 12)])
    root = tree(tmp_path / "x", [("dog", 12)])
    (root / "cat").symlink_to(elsewhere / "cats")
    assert opened(root).classes == ("cat", "dog")


def test_a_folder_that_may_not_be_entered_is_refused(tmp_path):
    root = tree(tmp_path / "x", [("cat", 12), ("dog", 12)])
    (root / "dog").chmod(0)
    if os.access(root / "dog", os.R_OK):
        pytest.skip("this user may enter any folder")
    refused(root, r"dog: cannot be read \(Permission denied\)")


def test_a_read_only_tree_is_read(tmp_path):
    root = tree(tmp_path / "x", [("cat", 12), ("dog", 12)])
    before = sorted(path.stat().st_mtime_ns for path in root.rglob("*"))
    for path in [*root.rglob("*"), root]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert len(opened(root).images) == 24
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755)
    assert sorted(path.stat().st_mtime_ns for path in root.rglob("*")) == before


@pytest.mark.parametrize("suffix", ["PNG", "JPG", "Jpeg", "webp", "TIFF", "bmp", "GIF", "ppm"])
def test_images_of_all_suffixes_in_any_case(tmp_path, suffix):
    root = tree(tmp_path / "x", [("cat", 6), ("dog", 6)])
    image = Image.fromarray(np.full((8, 8, 3), 77, np.uint8))
    image.save(root / f"cat/more.{suffix}")
    assert len(opened(root).images) == 13


def test_files_that_are_no_images_are_passed_over_and_counted(tmp_path):
    root = tree(tmp_path / "x", [("train/cat", 12), ("train/dog", 12)])
    for name in ("cat/notes.txt", "cat/1.xml", "dog/2.XML", "list.csv"):
        (root / "train" / name).write_text("x")
    assert len(opened(root).images) == 24
    assert "passed over: 4 files among images that are none: *.csv, *.txt, *.xml (2)" in lines(root)
    assert not {".png", ".jpg", ".webp", ".eps", ""} & NO_IMAGES


def test_settings_of_a_table_without_a_table_are_refused(tmp_path):
    root = tree(tmp_path / "x", [("train/cat", 12), ("train/dog", 12)])
    refused(root, r"dataset.label_column: 'kind', but there is no dataset.table", BadRequest, label_column="kind")
