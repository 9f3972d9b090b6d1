"""Splits are disjoint, stratified, and determined by the seed alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetlab.errors import BadData
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data import Dataset
from resnetlab.vision.data.split import spread

NAMES = ("train", "val", "test")


def made(labels, fixed=None, size=2, **config):
    labels = np.asarray(labels)
    images = (np.arange(len(labels))[:, None, None, None] % 251 * np.ones((1, size, size, 1))).astype(np.uint8)
    names = [f"c{i}" for i in range(labels.max() + 1)]
    return Dataset.from_arrays(images, labels, names, fixed, DataConfig(name="folder", **config))


@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=8),
    val=st.floats(0.01, 0.6),
    test=st.floats(0.01, 0.6),
    limit=st.none() | st.integers(10, 60),
    fixed=st.sets(st.sampled_from(["val", "test"])),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_image_in_one_split_and_every_class_in_train(sizes, val, test, limit, fixed, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.random.default_rng(seed).permutation(labels)
    given_fixed = {name: np.flatnonzero(np.arange(len(labels)) % 5 == i) for i, name in enumerate(sorted(fixed))}
    given_fixed = {name: index for name, index in given_fixed.items() if len(index)}
    dataset = made(labels, given_fixed, val_fraction=val, test_fraction=test, limit=limit)
    try:
        splits = {name: dataset.split(name, seed) for name in NAMES}
    except BadData as error:
        assert too_few(len(sizes), len(labels), given_fixed, val, test), error
        assert "fraction" in str(error) or "no images for" in str(error)
        return
    everything = np.concatenate(list(splits.values()))
    assert len(np.unique(everything)) == len(everything)
    if limit is None:
        assert np.array_equal(np.sort(everything), np.arange(len(labels)))
        drawn_from = np.setdiff1d(np.arange(len(labels)), np.concatenate([[], *given_fixed.values()]).astype(int))
        assert set(labels[splits["train"]]) == set(labels[drawn_from])
    else:
        assert len(splits["train"]) <= limit
    for name, index in splits.items():
        assert index.dtype == np.int64
        assert np.all(np.diff(index) > 0)
        if name in given_fixed:
            assert np.array_equal(index, given_fixed[name])


def too_few(classes, images, fixed, val, test):
    """Whether a drawn split may come out empty: each class keeps one image for training, whatever is drawn."""
    pool = images - sum(map(len, fixed.values()))
    for name in ("test", "val"):
        if name not in fixed:
            count = round(test * images if name == "test" else val * pool)
            if not classes < count < pool - classes:
                return True
            pool -= count
    return pool <= classes


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=9),
    part=st.floats(0, 1),
    inner=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_spread_gives_each_class_its_share_within_one(sizes, part, inner, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    count = round(part * len(labels))
    picked = spread([labels, np.arange(len(labels)) % inner], count, seed)
    assert len(picked) == count == len(np.unique(picked))
    share = np.array(sizes) * count / len(labels)
    assert np.all(np.abs(np.bincount(labels[picked], minlength=len(sizes)) - share) < 1 + 1e-9)


def test_further_labels_are_spread_too():
    character, font = np.repeat(np.arange(47), 22 * 8), np.tile(np.repeat(np.arange(22), 8), 47)
    counts = np.bincount(font[spread([character, font], 1241, seed=5)], minlength=22)
    assert abs(counts - 1241 / 22).max() < 12  # of 56; drawn without regard to the font it would be 7 a deviation


def test_seed_decides_and_only_the_seed():
    labels = np.arange(400) % 4
    one, again = made(labels), made(labels)
    assert np.array_equal(one.split("test", 3), again.split("test", 3))
    assert not np.array_equal(one.split("test", 3), one.split("test", 4))
    assert not np.array_equal(one.split("val", 3), one.split("val", 4))


def test_limit_thins_training_alone_and_evenly():
    labels = np.arange(1000) % 4
    whole, thin = made(labels), made(labels, limit=100)
    for name in ("val", "test"):
        assert np.array_equal(whole.split(name, 0), thin.split(name, 0))
    train = thin.split("train", 0)
    assert set(train) < set(whole.split("train", 0))
    assert np.bincount(labels[train]).tolist() == [25] * 4


def test_a_caller_cannot_change_the_splits():
    dataset = made(np.arange(100) % 2)
    dataset.split("train", 0)[:] = 0
    assert len(np.unique(dataset.split("train", 0))) == 77


def test_unknown_split():
    with pytest.raises(KeyError, match="'testing' is not a split"):
        made(np.arange(100) % 2).split("testing", 0)


def test_too_few_images_are_named():
    with pytest.raises(BadData, match=r"dataset.test_fraction: 0.15 of 3 images is 0"):
        made([0, 1, 1]).split("train", 0)


def test_statistics_are_those_of_the_training_images():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 5, 4, 3), dtype=np.uint8)
    dataset = Dataset.from_arrays(images, np.arange(300) % 3, "abc")
    mean, std = dataset.statistics(7)
    train = images[dataset.split("train", 7)] / 255.0
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(mean, train.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, train.std(axis=(0, 1, 2)), rtol=1e-5)


def test_a_constant_channel_can_be_divided_by():
    dataset = Dataset.from_arrays(np.zeros((50, 2, 2, 1), np.uint8), np.arange(50) % 2, "ab")
    mean, std = dataset.statistics(0)
    assert mean == 0
    assert std == np.float32(1 / 255)


def test_hash_follows_images_labels_classes_and_fixed_splits():
    images, labels = np.zeros((40, 2, 2, 1), np.uint8), np.arange(40) % 2
    other = images.copy()
    other[3, 1, 1, 0] = 1
    hashes = [
        Dataset.from_arrays(images, labels, "ab").hash,
        Dataset.from_arrays(other, labels, "ab").hash,
        Dataset.from_arrays(images.reshape(40, 4, 1, 1), labels, "ab").hash,
        Dataset.from_arrays(images, 1 - labels, "ab").hash,
        Dataset.from_arrays(images, labels, "ac").hash,
        Dataset.from_arrays(images, labels, "ab", {"test": [1, 2]}).hash,
        Dataset.from_arrays(images, labels, "ab", {"val": [1, 2]}).hash,
    ]
    assert len(set(hashes)) == len(hashes)
    assert hashes[0] == Dataset.from_arrays(images.copy(), labels.copy(), "ab").hash
    assert all(len(value) == 16 for value in hashes)


@pytest.mark.parametrize(
    ("labels", "fixed"),
    [([0, 1, 2], {}), ([0, -1, 1], {}), ([0, 1], {}), ([0, 1, 0], {"test": [3]}), ([0, 1, 0], {"train": [0]}),
     ([0, 1, 0], {"test": [0], "val": [0]})],
)  # fmt: skip
def test_arrays_that_do_not_fit_together(labels, fixed):
    with pytest.raises(ValueError, match=r"label|fixed"):
        Dataset.from_arrays(np.zeros((3, 2, 2, 1), np.uint8), labels, "ab", fixed)
