"""Which images belong to train, val and test: fixed by the source, or drawn by seed and stratified by label."""

from collections.abc import Mapping, Sequence

import numpy as np

from resnetlab.errors import BadData
from resnetlab.study.data_config import DataConfig
from resnetlab.study.seeding import stream

SPLITS = ("train", "val", "test")


def spread(labels: Sequence[np.ndarray], count: int, seed: int) -> np.ndarray:
    """`count` of n positions, spread evenly over the classes: systematic sampling of the positions sorted by label.

    labels: arrays (n,), the one to stratify by first; a class of s images gives s·count/n, rounded up or down. Within a
    class the picks spread over the further labels, and are random within those. Returns (count,) int64 sorted.
    """
    n = len(labels[0])
    rng = np.random.default_rng(seed)
    keys = [rng.random(n)]
    for inner in reversed(labels[1:]):
        # The inner classes start elsewhere in each class: without, the picks' interval could beat against them.
        shift = rng.integers(inner.max() + 1, size=labels[0].max() + 1)
        keys.append((inner + shift[labels[0]]) % (inner.max() + 1))
    order = np.lexsort([*keys, labels[0]])
    picks = np.floor((np.arange(count) + rng.random()) * (n / count)) if count else np.empty(0)
    return np.sort(order[np.minimum(picks.astype(np.int64), n - 1)])


def draw_splits(
    labels: Sequence[np.ndarray],
    fixed: Mapping[str, np.ndarray],
    config: DataConfig,
    seed: int,
    groups: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The three splits, disjoint, each (n,) int64 sorted.

    Splits in `fixed` are taken as they are. Of the other images, `test_fraction` of all images become the test split,
    then `val_fraction` of those left the val split; each class keeps an image for training. Images of one group, by
    `groups` (N,), come to the same split. `limit` thins the training split last, so that val and test do not depend on
    it; with `limit_of: all` these are thinned by the same share. A class keeps an image of those it has in a split.

    Raises BadData where a split would be empty.
    """
    total = len(labels[0])
    splits = {name: np.sort(index) for name, index in fixed.items()}
    pool = _others(total, splits)
    for name in ("test", "val"):
        if name in splits:
            continue
        fraction, of = (config.test_fraction, total) if name == "test" else (config.val_fraction, len(pool))
        count = round(fraction * of)
        if not 0 < count < len(pool):
            raise BadData(
                f"dataset.{name}_fraction: {fraction} of {of} images is {count}, and {len(pool)} are there to draw "
                f"from (need one or more for {name}, and one or more left)"
            )
        if groups is not None:
            splits[name] = pool[spread_groups(labels[0][pool], groups[pool], count, stream(seed, name))]
        else:
            chosen = spread([label[pool] for label in labels], count, stream(seed, name))
            splits[name] = pool[_spare(labels[0][pool], chosen)]
        pool = _others(total, splits)
    splits["train"] = pool
    if config.limit is not None and config.limit < len(pool):
        splits = _limited(labels, splits, config, seed)
    for name in SPLITS:
        if not len(splits[name]):
            kept = "group" if groups is not None else "image"
            raise BadData(f"dataset: no images for the {name} split (each class keeps one {kept} of its for training)")
    return splits


def _limited(
    labels: Sequence[np.ndarray], splits: Mapping[str, np.ndarray], config: DataConfig, seed: int
) -> dict[str, np.ndarray]:
    """The splits with `limit` training images, and where all are limited, the others thinned by the same share."""
    assert config.limit is not None
    found, share = dict(splits), config.limit / len(splits["train"])
    for name, index in splits.items():
        if name != "train" and config.limit_of == "train":
            continue
        count = config.limit if name == "train" else max(1, round(share * len(index)))
        key = "limit" if name == "train" else f"limit {name}"
        picks = spread([label[index] for label in labels], min(count, len(index)), stream(seed, key))
        found[name] = index[_every_class(labels[0][index], picks)]
    return found


def _every_class(labels: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """`chosen` with an image of each class of `labels` that had none there, in place of one of the class that has most;
    as it is where there are fewer images than classes."""
    held = np.bincount(labels[chosen], minlength=int(labels.max()) + 1)
    lacking = np.setdiff1d(labels, np.flatnonzero(held))
    if not len(lacking) or len(np.unique(labels)) > len(chosen):
        return chosen
    kept = chosen.tolist()
    for label in lacking.tolist():
        most = int(held.argmax())
        kept.remove(max(at for at in kept if labels[at] == most))
        held[most] -= 1
        kept.append(int(np.flatnonzero(labels == label)[0]))
        held[label] += 1
    return np.sort(np.array(kept, np.int64))


def spread_groups(labels: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions of whole groups, about `count` of n images, spread over the classes as evenly as groups allow.

    Groups are looked at in random order, and taken where that brings the numbers of images in each class nearer to
    `count`/n of the class; then each class that has none of its groups among them gives its smallest, where it has
    another. No class is taken whole. labels, groups: (n,) ints. Returns (m,) int64 sorted.
    """
    n, rng = len(labels), np.random.default_rng(seed)
    numbers = np.unique(groups, return_inverse=True)[1]
    pairs, counts = np.unique(np.stack([numbers, labels]), axis=1, return_counts=True)
    starts = np.flatnonzero(np.diff(pairs[0], prepend=-1))
    parts = [(pairs[1][a:b], counts[a:b]) for a, b in zip(starts, [*starts[1:].tolist(), len(counts)], strict=True)]
    size = np.bincount(labels)
    weight = 1.0 / np.maximum(size, 1)
    target = count / n * size
    have, left = np.zeros(len(size)), size.copy()
    taken = np.zeros(len(parts), bool)

    def take(at: int) -> None:
        held, many = parts[at]
        have[held] += many
        left[held] -= many
        taken[at] = True

    order = rng.permutation(len(parts)).tolist()
    for at in order:
        held, many = parts[at]
        before, after = have[held] - target[held], have[held] + many - target[held]
        if ((after**2 - before**2) * weight[held]).sum() < 0 and (left[held] > many).all():
            take(at)
    for at in sorted(order, key=lambda at: int(parts[at][1].sum())):
        held, many = parts[at]
        if not taken[at] and (have[held] == 0).any() and (left[held] > many).all():
            take(at)
    return np.flatnonzero(taken[numbers])


def thinned(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Positions of the `data_fraction` of a training split that is trained on, one or more: (n,) int64 sorted.

    labels: (N,) of the training split. They are spread evenly over the classes and drawn by the split seed `seed`.
    """
    return spread([labels], max(1, round(fraction * len(labels))), stream(seed, "fraction"))


def _others(total: int, splits: Mapping[str, np.ndarray]) -> np.ndarray:
    """The images of none of `splits`, sorted. (Ten times as fast as `np.setdiff1d` at 50,000 images.)"""
    left = np.ones(total, dtype=bool)
    for index in splits.values():
        left[index] = False
    return np.flatnonzero(left)


def _spare(labels: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """`chosen` without one image of each class that it would take whole."""
    size = np.bincount(labels)
    taken = np.bincount(labels[chosen], minlength=len(size))
    whole = np.flatnonzero((taken == size) & (size > 0))
    spared = [np.flatnonzero(labels[chosen] == label)[-1] for label in whole]
    return np.delete(chosen, np.array(spared, dtype=np.int64))
