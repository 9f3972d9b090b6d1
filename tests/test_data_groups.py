"""Groups: images that stay together in every split; names that look like groups; what that is worth."""

import re

import numpy as np
import pytest
from PIL import Image
from test_data_trees import counts, lines, opened, refused, tree

from resnetlab.errors import BadData
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data import Dataset
from resnetlab.vision.data.folder.tracks import tracks_said
from resnetlab.vision.data.split import SPLITS, spread_groups


def tracks(root, classes=4, each=10, frames=6):
    """<class>/<track>_<frame>.png: the frames of a track are nearly one image."""
    draw = np.random.default_rng(0)
    for label in range(classes):
        (root / f"{label:05}").mkdir(parents=True)
        for track in range(each):
            scene = draw.integers(0, 200, (8, 8, 3))
            for frame in range(frames):
                pixels = scene + draw.integers(0, 20, scene.shape)
                Image.fromarray(pixels.astype(np.uint8)).save(root / f"{label:05}/{track:05}_{frame:05}.png")
    return root


RULE = r"([^/]+/[^/]+)_\d+\.png$"


def sides(dataset, seed):
    """The groups of each split."""
    return [set(dataset.groups[dataset.split(split, seed)].tolist()) for split in SPLITS]


def test_frames_of_a_track_lie_on_one_side_of_every_split(tmp_path):
    root = tracks(tmp_path / "x")
    dataset = opened(root, group=RULE)
    for seed in range(20):  # of search, confirm, and each block that draws anew
        train, val, test = sides(dataset, seed)
        assert not train & val and not train & test and not val & test
        assert len(train | val | test) == 40
    assert all(held > 0 for split in SPLITS for held in counts(dataset, split))
    assert "groups: 40, 6.0 images each; none is in two splits" in lines(root, group=RULE)


def test_without_groups_a_nearest_neighbour_finds_the_track_and_with_them_it_does_not(tmp_path):
    """What groups are for: pixels of the same track give the class away."""
    root = tracks(tmp_path / "x")
    found = {}
    for rule in (None, RULE):
        dataset = opened(root, **({"group": rule} if rule else {}))
        images = dataset.images.reshape(len(dataset.images), -1).astype(float)
        train, test = dataset.split("train", 0), dataset.split("test", 0)
        nearest = [train[((images[train] - images[one]) ** 2).sum(axis=1).argmin()] for one in test]
        found[rule] = (dataset.labels[nearest] == dataset.labels[test]).mean()
    assert found[None] == 1.0
    assert found[RULE] < 0.6  # of four classes


@pytest.mark.parametrize(("rule", "groups"), [(1, 4), (-1, 4), (RULE, 40), (r"/(\d+)_", 10), (r"^(\d+)/(\d+)_", 40)])
def test_a_group_is_a_folder_or_what_an_expression_finds(tmp_path, rule, groups):
    root = tracks(tmp_path / "x", each=10, frames=2)
    assert len(np.unique(opened(root, group=rule).groups)) == groups


def test_folders_of_one_name_in_two_classes_are_two_groups(tmp_path):
    root = tree(tmp_path / "x", [(f"{label}/{scene}", 3) for label in ("cat", "dog") for scene in "abcdef"])
    dataset = opened(root, class_from=1, group=2, test_fraction=0.2, val_fraction=0.2)
    assert len(np.unique(dataset.groups)) == 12
    assert [sum(counts(dataset, split)) for split in SPLITS] == [24, 6, 6]


def test_a_group_that_spans_folders_of_splits_is_refused_with_the_first_of_them(tmp_path):
    root = tree(tmp_path / "x", [f"{split}/{label}/p{patient}_{number}.png" for split in ("train", "test")
                                 for label in ("a", "b") for patient in range(6) for number in range(3)])  # fmt: skip
    refused(root, r"dataset.group: 6 groups span splits that the data itself has, e.g. p0, p1, p2, p3, p4, … 6 in all",
            group=r"(p\d+)_")  # fmt: skip
    assert len(np.unique(opened(root, group=r"(t\w+/./p\d+)_").groups)) == 24


def test_a_group_rule_without_a_group_or_without_matches_is_refused(tmp_path):
    root = tracks(tmp_path / "x", frames=2)
    refused(root, r"dataset.group: '_' has no group", group="_")
    refused(root, r"dataset.group: '\(x\\\\d\+\)': 80 of 80 images do not match", group=r"(x\d+)")


def test_groups_that_leave_a_split_without_images_are_refused(tmp_path):
    dataset = opened(tracks(tmp_path / "x", frames=2), group=1)  # a class is a group
    with pytest.raises(BadData, match=r"no images for the val split \(each class keeps one group of its for training"):
        dataset.split("test", 0)


def test_groups_are_part_of_the_data_and_survive_the_cache(tmp_path):
    root = tracks(tmp_path / "x", frames=2)
    plain, grouped = opened(root), opened(root, group=RULE)
    again = opened(root, group=RULE)
    assert plain.groups is None and plain.hash != grouped.hash == again.hash
    assert np.array_equal(grouped.groups, again.groups)


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_spread_as_evenly_as_groups_of_unequal_size_allow(seed):
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 12, 400)
    groups = np.repeat(np.arange(400), sizes)
    labels = np.repeat(draw.integers(0, 8, 400), sizes)
    chosen = spread_groups(labels, groups, round(0.2 * len(labels)), seed)
    assert set(groups[chosen]).isdisjoint(np.delete(groups, chosen))
    share = np.bincount(labels[chosen], minlength=8) / np.bincount(labels)
    assert (abs(share - 0.2) < 0.05).all()


def test_patients_with_images_of_several_classes_stay_whole():
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 10)
    dataset = Dataset.from_arrays(
        draw.integers(0, 256, (600, 4, 4, 1), dtype=np.uint8), draw.integers(0, 3, 600), "abc", groups=groups,
        config=DataConfig(name="folder"),
    )  # fmt: skip
    train, val, test = sides(dataset, 0)
    assert not train & val | train & test | val & test
    assert 70 <= len(dataset.split("test", 0)) <= 110 and 35 <= len(dataset.split("val", 0)) <= 70


def test_names_that_look_like_frames_are_said_with_the_expression_that_keeps_them_together(tmp_path):
    root = tracks(tmp_path / "x")
    (line,) = [line for line in lines(root) if line.startswith("names look like frames")]
    assert line.startswith("names look like frames of 40 sequences, 6 images each (of 00000/00000: 6)")
    rule = re.search(r"group: '(.*)'", line)[1]
    assert len(np.unique(opened(root, group=rule).groups)) == 40
    assert not [line for line in lines(root, group=rule) if line.startswith("names look like frames")]


def test_names_of_scenes_are_not_joined_to_their_folder(tmp_path):
    names = [f"{label}/{label}-scene{scene}-{frame}.png" for label in "ab" for scene in "xyz" for frame in range(4)]
    (line,) = lines(tree(tmp_path / "x", names), val_fraction=0.3)[1:]
    rule = re.search(r"group: '(.*)'", line)[1]
    assert len(np.unique(opened(tmp_path / "x", group=rule, val_fraction=0.3).groups)) == 6


ORDINARY = [
    [f"{label}/{number}.png" for label in "ab" for number in range(9)],
    [f"{label}/{label}_{number:03}.png" for label in "ab" for number in range(9)],
    [f"{label}/IMG_{number:04}.jpg" for label in "ab" for number in range(9)],
    [f"{label}/{hash((label, number)):x}.jpg" for label in "ab" for number in range(9)],
    [f"{label}/photo-of-{number}-cats.jpg" for label in "ab" for number in range(9)],
]


@pytest.mark.parametrize("paths", ORDINARY)
def test_ordinary_numbers_in_names_are_no_sequences(paths):
    assert tracks_said(paths, [path[0] for path in paths]) == []


def test_limit_keeps_every_class_that_it_can():
    labels = np.repeat(np.arange(31), [970, *[1] * 30])
    labels = np.concatenate([labels, np.repeat(np.arange(31), 4)])
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 2, 2, 1), dtype=np.uint8)
    dataset = Dataset.from_arrays(images, labels, list(map(str, range(31))), config=DataConfig(name="folder", limit=50))
    for seed in range(5):
        train = dataset.split("train", seed)
        assert len(train) == len(set(train.tolist())) == 50
        assert len(np.unique(labels[train])) == 31


def test_limit_of_all_thins_every_split_by_one_share():
    labels = np.arange(4000) % 10
    images = np.zeros((4000, 2, 2, 1), np.uint8)
    fixed = {"test": np.arange(3000, 4000)}
    whole, thin = (
        Dataset.from_arrays(images, labels, "0123456789", fixed, DataConfig(name="folder", limit=270, limit_of=of))
        for of in ("train", "all")
    )
    assert [len(whole.split(split, 0)) for split in SPLITS] == [270, 300, 1000]
    assert [len(thin.split(split, 0)) for split in SPLITS] == [270, 30, 100]
    assert all(len(np.unique(labels[thin.split(split, 0)])) == 10 for split in SPLITS)
    assert np.array_equal(whole.split("train", 0), thin.split("train", 0))
