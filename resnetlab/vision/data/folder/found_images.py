"""The images of a tree with splits, classes and groups: as its folders, a table, or rules on their paths say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnetlab.errors import BadData
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data.folder import label_table
from resnetlab.vision.data.folder.listing import Listing, Passed, below, listed, walk
from resnetlab.vision.data.folder.naming import FIRST, Rule, readable
from resnetlab.vision.data.folder.trees import Tree, images_of, split_folders, tree_of
from resnetlab.wording import natural, plural


def list_images(root: Path, config: DataConfig) -> Listing:
    """The files as they lie now. BadData where what names their classes and splits is wrong."""
    passed = Passed([beside(root, name) for name in (config.table, config.class_names) if name is not None])
    if not root.is_dir():
        raise BadData(f"dataset.root: {root} is not a folder")
    if config.table is not None:
        found = _by_table(root, config, passed)
    elif config.class_from is not None:
        found = _by_rule(root, Rule(config.class_from, "class_from"), passed)
    else:
        found = _by_folders(root, tree_of(root, passed), config, passed)
    found.said += passed.said()
    _trained(root, found, config)
    if config.group is not None and found.groups is None:
        top = [] if config.table is not None else _tops(root, found)
        found.groups = Rule(config.group, "group").all_of(found.below, top or [""] * len(found.paths), True)
    if found.groups is not None:
        if across := _spanning(found.groups, found.splits):
            raise BadData(
                f"dataset.group: {len(across):,} groups span splits that the data itself has, e.g. "
                f"{listed(across, FIRST)} (move each to one split, or give one tree without splits)"
            )
        n = len(set(found.groups))
        found.said.append(f"groups: {n:,}, {len(found.paths) / n:.1f} images each; none is in two splits")
    if config.class_names is not None:
        names = dict(zip(found.classes, readable(beside(root, config.class_names), found.classes), strict=True))
        found.classes = tuple(names.values())
        found.labels = [names[label] for label in found.labels]
    return found


def _tops(root: Path, found: Listing) -> list[str]:
    """Of each image, the folder of its split."""
    places = {split: f"{entry.name}/" for split, entry in split_folders(root, None).items()}
    return [places.get(split, "") for split in found.splits]


def beside(root: Path, name: str) -> Path:
    """A file that the study names, from the root on unless it is absolute."""
    return Path(os.path.normpath(root / Path(name).expanduser()))


def _by_folders(root: Path, tree: Tree, config: DataConfig, passed: Passed) -> Listing:
    found = Listing(root, as_ever=tree.divided)
    for split, folder in tree.splits.items():
        if folder.annotations is not None:
            _annotated(found, split, folder.images or folder.place, folder.annotations, passed)
            continue
        for label in folder.folders:
            entries = images_of(folder, label, passed)
            if label not in tree.splits["train"].folders and config.untrained == "refuse":
                raise BadData(_unknown(folder.folders[label], [label], list(tree.splits["train"].folders)))
            if not entries:
                raise BadData(f"{folder.folders[label]}: this class folder is empty (dataset.root: {root})")
            found.add(entries, split, label)
    found.classes = tuple(tree.splits["train"].folders)
    if not tree.divided or config.class_names or config.group is not None:
        found.classes = tuple(sorted(found.classes, key=natural))
    if tree.divided:
        own = ", ".join(
            f"{split} from {folder.place.name}/" + (f" ({folder.annotations.name})" if folder.annotations else "")
            for split, folder in tree.splits.items()
        )
        found.said.append(f"splits: {own}{_drawn(tree.splits, tree.splits['train'].place.name)}")
    else:
        found.said.append("splits: the tree has none; val and test drawn from its class folders")
    found.said += tree.said
    return found


def _annotated(found: Listing, split: str, images: Path, table: Path, passed: Passed) -> None:
    """The images of a split whose classes are in a table beside them."""
    labels = label_table.annotated(table)
    entries = [entry for entry in walk(images, passed) if entry.path != str(table)]
    if without := [entry.name for entry in entries if entry.name not in labels]:
        raise BadData(f"{table}: no class for {len(without):,} of {len(entries):,} images: {listed(without, FIRST)}")
    entries.sort(key=lambda entry: (labels[entry.name], entry.name))
    for entry in entries:
        found.add([entry], split, labels[entry.name])
    found.as_ever = False


def _by_rule(root: Path, rule: Rule, passed: Passed) -> Listing:
    """Images anywhere below the root, or below the folders of its splits."""
    splits = split_folders(root, passed)
    places = {split: Path(entry.path) for split, entry in splits.items()} or {"train": root}
    found = Listing(root)
    for split, place in places.items():
        for entry in walk(place, passed):
            found.add([entry], split, "")
    if not found.paths:
        raise BadData(f"dataset.root: {root} has no images")
    tops = {split: f"{entry.name}/" for split, entry in splits.items()}
    found.labels = rule.all_of(found.below, [tops.get(split, "") for split in found.splits])
    found.sort()
    found.classes = tuple(sorted(set(found.labels), key=natural))
    of = f"the folders at level {rule.rule}" if isinstance(rule.rule, int) else f"the expression {rule.rule!r}"
    found.said.append(f"classes: {len(found.classes):,}, by {of} ({listed(found.classes, FIRST)})")
    own = ", ".join(f"{split} from {entry.name}/" for split, entry in splits.items())
    none = "splits: the tree has none; val and test drawn from all images"
    found.said.append(f"splits: {own}{_drawn(splits, splits['train'].name)}" if splits else none)
    return found


def _by_table(root: Path, config: DataConfig, passed: Passed) -> Listing:
    file = beside(root, str(config.table))
    wanted = {"path": config.path_column, "label": config.label_column, "split": config.split_column}
    column = config.group is not None and label_table.has_column(file, config.group)
    if column:
        wanted["group"] = config.group
    rows = label_table.read_table(file, wanted)
    found = Listing(root, paths=label_table.resolved(root, file, rows.paths), labels=rows.labels)
    found.splits = rows.splits or ["train"] * len(found.paths)
    found.groups = rows.groups
    named = set(found.paths)
    others = [below(root, entry.path) for entry in walk(root, passed) if entry.path not in named]
    found.stat()
    found.sort()
    found.classes = tuple(sorted(set(found.labels), key=natural))
    read = ", ".join(f"{kind} from column {name}" for kind, name in rows.names.items())
    found.said.append(f"{file.name}: {len(found.paths):,} images; {read}")
    given = set(found.splits)
    drawn = " and ".join(split for split in ("val", "test") if split not in given)
    if "train" not in given:
        raise BadData(f"dataset.table: {file}: column {rows.names['split']} has no training image")
    if drawn:
        found.said.append(f"splits: {drawn} drawn from {'the training images' if rows.splits else 'all images'}")
    if others:
        number = len(others)
        found.said.append(
            f"passed over: {plural(number, 'file')} that {file.name} does not name: {listed(others, FIRST)}"
        )
    return found


def _trained(root: Path, found: Listing, config: DataConfig) -> None:
    """See that each class has training images, or leave out those that have none. BadData otherwise."""
    trained = {label for label, split in zip(found.labels, found.splits, strict=True) if split == "train"}
    without = sorted(set(found.labels) - trained, key=natural)
    if without and config.untrained == "refuse":
        at = next(at for at, label in enumerate(found.labels) if label == without[0])
        raise BadData(_unknown(Path(found.paths[at]).parent, without, sorted(trained, key=natural)))
    if without:
        count = found.keep([label in trained for label in found.labels])
        found.classes = tuple(name for name in found.classes if name in trained)
        found.said.append(
            f"left out, as untrained: leave-out asks: {count:,} images of {len(without):,} classes without "
            f"training images: {listed(without, FIRST)}"
        )
    if len(trained) < 2:
        raise BadData(f"{root}: need two classes or more, found {listed(trained) or 'none'}")


def _unknown(place: Path, names: list[str], known: list[str]) -> str:
    more = f" (nor are {len(names) - 1:,} more: {listed(names[1:], FIRST)})" if len(names) > 1 else ""
    return (
        f"{place}: {names[0]!r} is not a class of train/ ({listed(known)}){more}: it has no training images (to go on "
        "without it: dataset.untrained: leave-out)"
    )


def _spanning(groups: list[str], splits: list[str]) -> list[str]:
    """Groups that have images in several splits."""
    first: dict[str, str] = {}
    return sorted({one for one, split in zip(groups, splits, strict=True) if first.setdefault(one, split) != split})


def _drawn(splits: Mapping[str, Any], place: str) -> str:
    drawn = " and ".join(split for split in ("val", "test") if split not in splits)
    return f"; {drawn} drawn from {place}/" if drawn else ""
