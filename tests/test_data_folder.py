"""Folders of images: any size and mode, splits from the tree or by seed, and every fault named by its file."""

import zlib

import numpy as np
import pytest
from PIL import Image

import resnetlab.vision.data as data
from resnetlab.errors import BadData
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data import check, prepare
from resnetlab.vision.data.decode import Decoder
from resnetlab.vision.data.decode import decode as decoded
from resnetlab.vision.data.folder.faults import NAMED


def picture(seed, size=(8, 6), mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def decode(path, size, mode):
    return decoded(path, size, mode, lambda: 16).pixels


def tree(root, counts, suffix="png", **options):
    """counts: {"train/cat": 3, …} files each, unlike each other."""
    for place, n in counts.items():
        (root / place).mkdir(parents=True)
        for i in range(n):
            picture(zlib.crc32(f"{place}/{i}".encode()), **options).save(root / place / f"{i:03}.{suffix}")
    return root


def opened(root, cache=None, **settings):
    data._prepared.clear()  # as another process would
    return prepare(DataConfig(name="folder", root=str(root), **settings), cache or root.parent / "cache")


@pytest.fixture
def pets(tmp_path):
    return tree(tmp_path / "pets", {"train/cat": 12, "train/dog": 12})


def test_splits_by_seed_where_the_tree_has_none(pets):
    dataset = opened(pets)
    assert dataset.shape == (6, 8, 3)
    assert dataset.classes == ("cat", "dog")
    assert [len(dataset.split(name, 0)) for name in ("train", "val", "test")] == [18, 2, 4]
    assert np.bincount(dataset.labels[dataset.split("test", 0)]).tolist() == [2, 2]
    expected = np.asarray(Image.open(pets / "train/dog/003.png"))
    assert np.array_equal(dataset.images[12 + 3], expected)


def test_splits_of_the_tree(tmp_path):
    root = tree(tmp_path / "x", {"train/a": 5, "train/b": 4, "val/b": 3, "test/a": 2, "test/b": 1})
    dataset = opened(root)
    assert dataset.split("train", 0).tolist() == list(range(9))
    assert dataset.split("val", 0).tolist() == [9, 10, 11]
    assert dataset.split("test", 5).tolist() == [12, 13, 14]
    assert dataset.labels.tolist() == [0] * 5 + [1] * 4 + [1] * 3 + [0, 0, 1]


def test_only_val_is_drawn_beside_a_test_folder(tmp_path):
    dataset = opened(tree(tmp_path / "x", {"train/a": 20, "train/b": 20, "test/a": 5, "test/b": 5}))
    assert dataset.split("test", 0).tolist() == list(range(40, 50))
    val, train = dataset.split("val", 0), dataset.split("train", 0)
    assert len(val) == 4
    assert not set(val) & set(train)
    assert max(*val, *train) < 40


def test_hidden_files_are_ignored(pets):
    (pets / "train/cat/.DS_Store").write_bytes(b"x")
    (pets / "train/.ipynb_checkpoints").mkdir()
    (pets / "README").write_text("beside the splits")
    assert len(opened(pets).images) == 24


def test_any_size_and_mode_on_request(tmp_path):
    root = tree(tmp_path / "x", {"train/a": 6, "train/b": 6})
    for i, mode in enumerate(["L", "1", "P", "LA", "RGBA", "CMYK", "I;16"]):
        suffix = "tif" if mode == "CMYK" else "png"
        if mode == "I;16":
            image = Image.fromarray(np.full((9, 30), 0xAB12, np.uint16))
        else:
            image = picture(i, (30 - i, 9 + i)).convert(mode)
        image.save(root / f"train/a/mode{i}.{suffix}")
    colour = opened(root, size=10, mode="rgb")
    assert colour.images.shape == (19, 10, 10, 3)
    grey = opened(root, size=10, mode="grey")
    assert grey.images.shape == (19, 10, 10, 1)
    assert colour.hash != grey.hash
    assert (grey.images[12] == 0xAB).all()


def test_what_decoding_does(tmp_path):
    half = np.zeros((4, 4, 4), np.uint8)
    half[:2, :, 3] = 255
    Image.fromarray(half).save(tmp_path / "half.png")
    pixels = decode(str(tmp_path / "half.png"), None, None)
    assert pixels.shape == (4, 4, 3)
    assert (pixels[:2] == 0).all()
    assert (pixels[2:] == 255).all()

    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to see it as the camera did
    Image.fromarray(upright).save(tmp_path / "turned.png", exif=exif)
    pixels = decode(str(tmp_path / "turned.png"), None, "grey")
    assert pixels.shape == (6, 4, 1)
    assert (pixels[:, -1] == 200).all()

    large = Image.linear_gradient("L").resize((1024, 1024))
    large.save(tmp_path / "large.jpg")
    small = decode(str(tmp_path / "large.jpg"), 32, None).astype(float)[..., 0]
    assert small.shape == (32, 32)
    np.testing.assert_allclose(small, np.asarray(large.resize((32, 32), Image.Resampling.BOX)), atol=3)


def test_changed_files_are_seen_by_the_next_process(pets):
    first = opened(pets)
    assert opened(pets).hash == first.hash
    picture(99).save(pets / "train/cat/000.png")
    changed = opened(pets)
    assert changed.hash != first.hash
    (pets / "train/cat/000.png").unlink()
    assert len(opened(pets).images) == 23


def test_the_same_path_written_otherwise_is_the_same_entry(pets, monkeypatch):
    opened(pets, pets.parent / "cache")
    monkeypatch.chdir(pets)
    data._prepared.clear()
    prepare(DataConfig(name="folder", root="."), pets.parent / "cache")
    assert len(list((pets.parent / "cache").iterdir())) == 1


def test_many_files_keep_their_order(tmp_path):
    root = tree(tmp_path / "x", {"train/a": 400, "train/b": 300}, size=(4, 4), suffix="bmp")
    dataset = opened(root)
    for i in (0, 127, 128, 399):
        assert np.array_equal(dataset.images[i], np.asarray(Image.open(root / f"train/a/{i:03}.bmp")))
    assert np.array_equal(dataset.images[-1], np.asarray(Image.open(root / "train/b/299.bmp")))


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])


FAULTS = {
    "deeper": (lambda root: (root / "train/cat/young").mkdir(), r"train/cat/young: a folder inside a class folder"),
    "no such folder": (lambda root: root.rename(root.with_name("gone")), r"dataset.root: .*pets is not a folder"),
    "no train": (lambda root: (root / "train").rename(root / "val"), r"has no folder train/ beside val/"),
    "one class": (
        lambda root: (root / "train/dog").rename(root / "train/.dog"),
        r"train: need two class folders or more, found cat",
    ),
    "empty class": (lambda root: (root / "train/mouse").mkdir(), r"train/mouse: this class folder is empty"),
    "empty class in test": (lambda root: (root / "test/cat").mkdir(parents=True), r"test/cat: .*empty"),
    "class of hidden files": (
        lambda root: ((root / "train/ape").mkdir(), (root / "train/ape/.x").touch()),
        r"train/ape: .*empty",
    ),
    "class unknown to train": (
        lambda root: (root / "test/fish").mkdir(parents=True),
        r"test/fish: 'fish' is not a class of train/ \(cat, dog\)",
    ),
    "file between classes": (
        lambda root: (root / "train/list.png").touch(),
        r"train/list.png: a file between class folders",
    ),
}
FOUND_WHEN_DECODED = {
    "truncated": (lambda root: truncate(root / "train/dog/007.png"), r"train/dog/007.png: damaged"),
    "empty file": (lambda root: (root / "train/dog/007.png").write_bytes(b""), r"dog/007.png: not an image"),
    "no image": (lambda root: (root / "train/cat/notes.dat").write_text("x"), r"cat/notes.dat: not an image"),
    "broken link": (
        lambda root: (root / "train/cat/link.png").symlink_to("nowhere.png"),
        r"cat/link.png: cannot be read \(No such file",
    ),
    "another size": (
        lambda root: picture(1, (9, 6)).save(root / "train/cat/005.png"),
        r"dataset.size: sizes differ: .*cat/000.png is 8×6, .*cat/005.png is 9×6",
    ),
    "grey among colour": (
        lambda root: picture(1, mode="L").save(root / "train/cat/005.png"),
        r"dataset.mode: grey and colour are mixed: .*000.png is colour, .*005.png is grey",
    ),
    "32-bit": (
        lambda root: Image.new("F", (8, 6)).save(root / "train/cat/005.tif"),
        r"cat/005.tif: pixels of kind F",
    ),
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)
def test_quick_check_finds(pets, fault, message):
    fault(pets)
    with pytest.raises(BadData, match=message):
        check(DataConfig(name="folder", root=str(pets)))
    with pytest.raises(BadData, match=message):
        opened(pets, pets.parent / "cache")
    assert not (pets.parent / "cache").exists()


@pytest.mark.parametrize(("fault", "message"), FOUND_WHEN_DECODED.values(), ids=FOUND_WHEN_DECODED)
def test_decoding_finds_and_leaves_nothing(pets, fault, message):
    fault(pets)
    with pytest.raises(BadData, match=message):
        opened(pets, pets.parent / "cache")
    assert not (pets.parent / "cache").exists() or not list((pets.parent / "cache").iterdir())


def test_a_truncated_jpeg_is_found(tmp_path):
    root = tree(tmp_path / "x", {"train/a": 3, "train/b": 3}, suffix="jpg", size=(64, 64))
    truncate(root / "train/b/001.jpg")
    with pytest.raises(BadData, match=r"b/001.jpg: damaged: .*truncated"):
        opened(root)


def test_several_faults_are_named_together_and_counted(pets):
    for i in range(8):
        truncate(pets / f"train/cat/{i:03}.png")
    files = sorted(map(str, pets.rglob("*.png")))
    with pytest.raises(BadData) as error:
        Decoder(None, None, files[-1]).many(files)
    first, _, row, advice = str(error.value).splitlines()
    assert first == "8 of 24 images cannot be used:"
    assert row.split()[:2] == ["8", "damaged:"] and row.count("cat/00") == NAMED and row.endswith(", …")
    assert advice == "repair or remove them; or go on without them: dataset.skip: 8"


def test_check_reads_few_files_of_a_large_folder(tmp_path):
    root = tree(tmp_path / "x", {f"train/c{i:03}": 1 for i in range(300)}, size=(4, 4))
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resnetlab.vision.data.decode.decode", lambda *a: calls.append(a) or decoded(*a))
        check(DataConfig(name="folder", root=str(root)))
    assert 0 < len(calls) <= 21


def test_files_that_change_while_they_are_read(pets, monkeypatch):
    read = Decoder.read

    def meddle(decoder, paths):
        if len(paths) > 2:  # not the few that `check` looks at
            (pets / "train/cat/011.png").touch()
        return read(decoder, paths)

    monkeypatch.setattr(Decoder, "read", meddle)
    with pytest.raises(BadData, match="pets: files changed while they were read"):
        opened(pets)
    assert not (pets.parent / "cache").exists()
