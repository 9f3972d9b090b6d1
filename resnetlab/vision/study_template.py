"""A commented study for a folder of images, which runs as it is: what `resnetlab new` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from resnetlab.errors import BadRequest
from resnetlab.study.data_config import DataConfig
from resnetlab.study.seeding import stream
from resnetlab.study.yaml_io import quoted
from resnetlab.vision.data import Dataset, default_cache, prepare
from resnetlab.vision.data.decode import GREY
from resnetlab.vision.data.folder.image_folder import ImageFolder
from resnetlab.vision.data.split import SPLITS

LOOK = 20_000  # images whose sizes are read at most
LARGEST = 64  # pixels a side that a first study uses at most
STEPS = 2_000  # of training in one trial, about: this decides the epochs
EPOCHS = (4, 20)  # the fewest and the most
BATCHES = ((500, 8), (2_000, 16), (10_000, 32), (50_000, 64))  # below so many training images, this batch; else 128
DELTAS = ((500, 2.0), (2_000, 1.0))  # below so many test images, this smallest effect; else 0.5


@dataclass(frozen=True)
class Look:
    """What a folder of images holds, read as `data` says. smallest, largest: (width, height) in pixels that were
    found."""

    data: DataConfig
    smallest: tuple[int, int]
    largest: tuple[int, int]
    dataset: Dataset

    @property
    def root(self) -> Path:
        return Path(str(self.data.root))

    def counts(self) -> dict[str, np.ndarray]:
        """Images of each class (n classes,) in each split."""
        seed, data = stream(0, "split"), self.dataset
        return {split: np.bincount(data.labels[data.split(split, seed)], minlength=data.n_classes) for split in SPLITS}


def look(root: Path, cache: Path | None = None) -> Look:
    """Look at the folder of images at `root` (absolute). Reads every image once, into the cache that a sweep reads.

    Raises BadData where the folder is not `train/<class>/<image>`, or an image cannot be read.
    """
    files = list(ImageFolder(DataConfig(name="folder", root=str(root)), cache or default_cache()).files())
    some = files[:: -(-len(files) // LOOK)]
    heads = [head for file in some if (head := _head(file.path)) is not None] or [((8, 8), True)]
    sizes = sorted({size for size, _ in heads}, key=lambda size: size[0] * size[1])
    shorter = sorted(min(size) for size, _ in heads)[len(heads) // 2]
    alike = len(sizes) == 1 and len(some) == len(files) and max(sizes[0]) <= LARGEST
    data = DataConfig(
        name="folder",
        root=str(root),
        size=None if alike else max(8, min(LARGEST, shorter // 8 * 8)),
        mode="rgb" if len({grey for _, grey in heads}) > 1 else None,
    )
    return Look(data, sizes[0], sizes[-1], prepare(data, cache))


def _head(path: str) -> tuple[tuple[int, int], bool] | None:
    """(width, height), and whether a file is grey; None for no image, which the data's reader names."""
    try:
        with Image.open(path) as image:
            return image.size, image.mode in GREY
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def study_text(seen: Look) -> str:
    """The study as commented YAML. BadRequest where the folder's path is not text in UTF-8."""
    try:
        str(seen.root).encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{str(seen.root)!a}: a study is UTF-8, which this path is not (rename the folder)") from None
    counts = {split: int(found.sum()) for split, found in seen.counts().items()}
    train = counts["train"]
    batch = min(next((batch for below, batch in BATCHES if train < below), 128), train)
    epochs = min(max(STEPS * batch // train, EPOCHS[0]), EPOCHS[1])
    delta = next((delta for below, delta in DELTAS if counts["test"] < below), 0.5)
    height, width, channels = seen.dataset.shape
    kind = "grey" if channels == 1 else "colour"
    remarks = "\n".join(f"# {line}" for line in _remarks(seen))
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", seen.root.name).strip("-_")[:64] or "images"
    size = f"  size: {seen.data.size} # {_resized(seen)}\n" if seen.data.size else ""
    mode = "  mode: rgb # some images are grey, some are in colour\n" if seen.data.mode else ""
    title = f"Kernel size, shortcuts and mirrored images on {seen.root.name}"
    return f"""\
# A study of the images in {_text(str(seen.root))}. Check it: resnetlab sweep --study FILE --dry-run
{remarks}
name: "{name}" # of the results folder
title: {quoted(title)}
question: How much do kernel size, shortcuts and random mirroring change test accuracy?

dataset:
  name: folder # train/<class>/<image>, and val/ and test/ where there are any
  root: {quoted(str(seen.root))}
{size}{mode}
baseline: # what every trial starts from; `resnetlab sweep --settings` lists the other settings and their defaults
  blocks: 2
  width: 16
  downsample: 2 # {width} × {height} pixels, {kind}; halved twice
  batch_size: {batch} # of {train:,} training images
  schedule: one-cycle
  optimizer: sgd
  lr: 0.1

factors: # settings with levels are compared; ranges are tuned by the search
  kernel: {{levels: [3, 5]}}
  shortcut: {{levels: [true, false]}}
  flip: {{levels: [false, true]}} # mirror half of the training images; leave it out where left and right matter
  lr: {{low: 0.01, high: 0.5, log: true}}

# What you expect, declared before any run; every other comparison is reported as exploratory. For example:
# hypotheses:
#   - flip true > flip false by at least {delta:g} points
#   - shortcut true within {delta:g} points of shortcut false

search: # finds good settings of the ranges; its results prove nothing
  trials: 12
  epochs: {epochs} # full budget of one trial, here about {-(-train // batch) * epochs:,} steps
  grace_period: 1 # epochs before a trial can be stopped
  reduction_factor: 3 # one in three goes on

confirm: # runs the levels again on fresh seeds, and looks at the {counts["test"]:,} test images
  design: one-factor # each change alone, around the best setting found; factorial: all combinations
  seeds: 3 # runs of each arm; more find smaller effects (the dry run says which)
  delta: {delta:g} # percentage points: the smallest difference that would change your decision

resources: {{cpus: 1}} # of one trial
"""


def _remarks(seen: Look) -> Iterator[str]:
    """What the folder holds, and what to keep in mind."""
    counts, names = seen.counts(), seen.dataset.classes
    yield f"{len(names)} classes: {', '.join(map(_text, names[:10]))}" + (", …" if len(names) > 10 else "")
    yield "images: " + ", ".join(f"{found.sum():,} {split}" for split, found in counts.items())
    few, many = int(counts["train"].argmin()), int(counts["train"].argmax())
    least, most = (int(counts["train"][index]) for index in (few, many))
    if most >= 2 * least:
        yield (
            f"unbalanced: {most:,} training images of {_text(names[many])}, {least:,} of {_text(names[few])}; "
            f"a network that always says {_text(names[many])} is right in {most / counts['train'].sum():.0%} of cases"
        )
    if counts["test"].sum() < DELTAS[0][0]:
        yield f"few test images: one of them is {100 / counts['test'].sum():.1f} points of test accuracy"


def _resized(seen: Look) -> str:
    (width, height), (wide, high) = seen.smallest, seen.largest
    found = f"images are {width} × {height}" + (f" to {wide} × {high}" if seen.smallest != seen.largest else "")
    return f"{found} pixels; all become this wide and high (larger shows more, and takes longer)"


def _text(name: str) -> str:
    """A file's name as it can stand in a comment: quoted and escaped where it is more than letters and spaces."""
    return name if re.fullmatch(r"[\w./-]+( [\w./-]+)*", name) else json.dumps(name)
