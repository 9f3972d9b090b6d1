"""Trees whose folders say which class and split an image is of, in the shapes in which people have them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from resnetlab.errors import BadData
from resnetlab.vision.data.folder.listing import (
    Passed,
    images_in,
    is_dir,
    is_file,
    listed,
    may_be_image,
    text_of,
    visible,
)
from resnetlab.vision.data.split import SPLITS
from resnetlab.wording import natural

LIKE_SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "eval": "val",
    "test": "test", "testing": "test", "tests": "test",
}  # fmt: skip
TABLES = (".txt", ".csv", ".tsv", ".jsonl")  # an annotations file beside the images of a split
INNER = {"images", "image", "imgs", "img", "pictures", "pics", "photos", "jpegimages", "jpeg", "jpg", "png"}
DEEPEST = 6  # folders that are looked into, one below the other, for what an advice says


@dataclass
class SplitFolder:
    """One split. place: its folder. folders: class -> folder of its images. annotations: a table beside `images`, the
    folder of images of all classes, where it has no folders of classes."""

    place: Path
    folders: dict[str, Path] = field(default_factory=dict)
    annotations: Path | None = None
    images: Path | None = None


@dataclass
class Tree:
    """splits: by train, val and test, those that the tree has, in this order; train alone where it has none.

    divided: whether it has folders of splits. said: lines for people, of what is not as everybody expects it.
    """

    splits: dict[str, SplitFolder]
    divided: bool
    said: list[str] = field(default_factory=list)


def split_folders(root: Path, passed: Passed | None) -> dict[str, os.DirEntry[str]]:
    """The folders of splits below `root`, whatever they are called: none where there is none for training.

    BadData where two have the names of one split, or where there is one of another split and none for training.
    """
    found: dict[str, os.DirEntry[str]] = {}
    beside = visible(root, passed)
    for entry in sorted(beside, key=lambda entry: entry.name not in SPLITS):
        like = LIKE_SPLITS.get(entry.name.casefold())
        if like is None:
            continue
        if is_dir(entry):
            if like in found:
                raise BadData(
                    f"{entry.path}: {found[like].name}/ is read as the {like} split already (move it away, or "
                    "merge the two)"
                )
            found[like] = entry
        elif entry.name in SPLITS:
            raise BadData(f"{entry.path}: is not a folder (need {entry.name}/<class>/<image>)")
    if found and "train" not in found:
        have = listed(entry.name + "/" for entry in found.values())
        raise BadData(f"dataset.root: {root} has no folder train/ beside {have} (need train/<class>/ with images)")
    if found and passed is not None:
        names = {entry.name for entry in found.values()}
        others = [entry for entry in beside if entry.name not in names and passed.counts(entry)]
        passed.beside += [entry.name + "/" * is_dir(entry) for entry in others]
    return {split: found[split] for split in SPLITS if split in found}


def tree_of(root: Path, passed: Passed | None) -> Tree:
    """The tree below `root`. BadData where it is of no shape that says each image's class."""
    if not root.is_dir():
        raise BadData(f"dataset.root: {root} is not a folder")
    found = split_folders(root, passed)
    if not found:
        return _of_classes(root, passed)
    train = SplitFolder(Path(found["train"].path), _classes(Path(found["train"].path), passed))
    tree = Tree({"train": train}, divided=True)
    if len(train.folders) < 2:
        raise BadData(f"{train.place}: need two class folders or more, found {', '.join(train.folders) or 'none'}")
    for split, entry in found.items():
        if split != "train" and (other := _other(split, entry, train.folders, passed)):
            tree.splits[split] = other
    _say_inner(tree)
    return tree


def _of_classes(root: Path, passed: Passed | None) -> Tree:
    """A tree without folders of splits: the folders at its top are classes, or one folder holds all there is."""
    place = root
    for _ in range(DEEPEST):
        entries = visible(place, passed)
        folders = [entry for entry in entries if is_dir(entry)]
        images = [entry for entry in entries if not is_dir(entry) and may_be_image(entry.name)]
        if len(folders) != 1 or images or not any(map(is_dir, visible(folders[0].path, None))):
            break
        place = Path(folders[0].path)
        if found := split_folders(place, None):
            names = listed(entry.name + "/" for entry in found.values())
            raise BadData(f"dataset.root: {root} has no images, but {place} has {names} (give that folder as the root)")
    if len(folders) < 2 or images:
        what = f"{len(images):,} files beside class folders" if images and folders else "no class folders"
        what = f"{len(images):,} images and no class folders" if images and not folders else what
        if len(folders) == 1 and not images:
            what = f"one class folder alone, {folders[0].name}"
        raise BadData(
            f"dataset.root: {place} has no folder train/ and {what} (need train/<class>/<image> or <class>/<image>; or "
            "say where classes are named: dataset.table or dataset.class_from)"
        )
    kept, without = {}, []
    for entry in folders:
        if (
            not any(map(is_dir, inner := visible(entry.path, None)))
            and inner
            and not any(may_be_image(one.name) for one in inner)
        ):
            without.append(f"{entry.name}/")
            continue
        kept[text_of(entry)] = _image_folder(Path(entry.path))
    if passed is not None:
        passed.beside += without + [one.name for one in entries if not is_dir(one) and passed.counts(one)]
    tree = Tree({"train": SplitFolder(place, dict(sorted(kept.items(), key=lambda one: natural(one[0]))))}, False)
    if place != root:
        tree.said.append(f"classes: the folders in {place.relative_to(root).as_posix()}/")
    _say_inner(tree)
    return tree


def _classes(split: Path, passed: Passed | None) -> dict[str, Path]:
    """Class -> folder of its images, for one split's folder."""
    found = {}
    for entry in visible(split, passed):
        if is_dir(entry):
            found[text_of(entry)] = _image_folder(Path(entry.path))
        elif is_file(entry) and not may_be_image(entry.name):
            if passed is not None:
                passed.other(entry)
        else:
            raise BadData(f"{entry.path}: a file between class folders (need {split.name}/<class>/<image>)")
    return found


def _image_folder(folder: Path) -> Path:
    """Where the images of a class lie: in its folder, or in the one folder of images inside it."""
    entries = visible(folder, None)
    inner = [entry for entry in entries if is_dir(entry)]
    others = [entry for entry in entries if not is_dir(entry) and may_be_image(entry.name)]
    if not inner:
        return folder
    if len(inner) == 1 and not others and inner[0].name.casefold() in INNER:
        return Path(inner[0].path)
    deeper = f"{inner[0].path}: a folder inside a class folder"
    raise BadData(
        f"{deeper} (need <class>/<image>; or say which folder names the class: dataset.class_from: 1 is {folder.name} "
        f"here, 2 is {inner[0].name})"
    )


def _other(split: str, entry: os.DirEntry[str], known: dict[str, Path], passed: Passed | None) -> SplitFolder | None:
    """The folder of val or test: of classes, or of images that a table beside them names. None where it has no labels,
    which is said."""
    place = Path(entry.path)
    entries = visible(place, None)
    if not entries:
        raise BadData(f"{place}: is empty (remove it, and the {split} split is drawn from train/; or fill it)")
    folders = [one for one in entries if is_dir(one)]
    files = [one for one in entries if not is_dir(one) and is_file(one)]
    tables = [one for one in files if Path(one.name).suffix.lower() in TABLES]
    images = [one for one in files if may_be_image(one.name)]
    one_folder = len(folders) == 1 and folders[0].name.casefold() in INNER and folders[0].name not in known
    if (one_folder and not images) or (images and not folders):
        if passed is not None:
            for one in files:
                if one not in images + tables:
                    passed.other(one)
        where = Path(folders[0].path) if one_folder else place
        if len(tables) == 1:
            return SplitFolder(place, annotations=Path(tables[0].path), images=where)
        if passed is not None:
            why = "several tables beside its images" if tables else "its images have no labels"
            passed.beside.append(f"{entry.name}/ ({why})")
        return None
    found = _classes(place, passed)
    if not found:
        raise BadData(f"{place}: is empty (remove it, and the {split} split is drawn from train/; or fill it)")
    return SplitFolder(place, found)


def _say_inner(tree: Tree) -> None:
    inner = {
        folder.name for split in tree.splits.values() for label, folder in split.folders.items()
        if folder.parent != split.place
    }  # fmt: skip
    if inner:
        tree.said.append(f"images: in {listed(f'{name}/' for name in sorted(inner))} inside the class folders")


def images_of(split: SplitFolder, label: str, passed: Passed | None) -> list[os.DirEntry[str]]:
    """The image files of one class of a split, by name."""
    folder = split.folders[label]
    if folder.parent != split.place and passed is not None:  # what lies beside its folder of images
        for one in visible(folder.parent, passed):
            if not is_dir(one):
                passed.other(one)
    return images_in(folder, passed, f"need {split.place.name}/<class>/<image>")
