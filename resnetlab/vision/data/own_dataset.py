"""A dataset of one's own: a function that returns arrays, a torch Dataset, or a Hugging Face Dataset."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resnetlab.errors import BadData, BadRequest
from resnetlab.experiment.own_parts import DATA, Bound
from resnetlab.experiment.references import user_traceback
from resnetlab.experiment.source import Source
from resnetlab.study.data_config import DataConfig
from resnetlab.study.parts import OwnData, Part
from resnetlab.vision.data.source import Append, Contents

VERSION = 1  # raise it where the same values become other images: what is in caches is then made again
CHUNK = 1024  # images that are handed over at a time
SPLITS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
IMAGES, LABELS = ("image", "img"), ("label", "labels")  # columns of a row that is a mapping
ADVICE = "allowed: 0 to 255 as uint8, e.g. (255 * images).round().astype('uint8')"


class OwnDataset:
    """Images as the function returns them; splits that it does not return are drawn.

    The function is called once on each machine for its code and settings: what it reads must not change.
    """

    labels: tuple[str, ...] = ("class",)
    label: str = "class"

    def __init__(self, config: DataConfig, cache: Path) -> None:
        assert config.own is not None
        self._own: OwnData = config.own
        self._at = f"{DATA}: {config.name}"
        self._text = config.name
        self._downloads = cache / "downloads"

    def check(self) -> None:
        """Nothing more: the function was found when the study was loaded."""

    def fetch(self) -> None:
        """Nothing to get: the function does."""

    def fingerprint(self) -> Any:
        own = self._own
        return [VERSION, self._text, own.settings, Source(dict(own.files), own.folder).hash]

    def remarks(self, notes: Mapping[str, Any]) -> list[str]:
        """Which splits are the function's."""
        own = ", ".join(notes.get("splits", ()))
        return [f"splits: {own} as {self._text} returns them"] if own else []

    def write(self, append: Append) -> Contents:
        """Call the function. BadRequest where it returns no dataset, BadData where its images or labels cannot be
        used or it raises an error."""
        with tempfile.TemporaryDirectory(prefix="resnetlab-code-") as place:
            source = Source(dict(self._own.files), self._own.folder)
            part = Part(key=DATA, text=self._text, name=self._own.name, module=self._own.module, file=self._own.file)
            bound = Bound(part, dict(self._own.settings), source.unpack(Path(place)))
            self._downloads.mkdir(parents=True, exist_ok=True)
            with self._told(bound):
                value = bound.first(folder=self._downloads)
                splits = self._splits(value)
                labels, names, ends = [], self._names(value), [0]
                for name, split in splits.items():
                    labels.append(
                        self._hand_over(split, f"{self._at}, {name}" if len(splits) > 1 else self._at, append)
                    )
                    ends.append(ends[-1] + len(labels[-1]))
        numbers = dict(zip(splits, map(np.arange, ends, ends[1:]), strict=True))
        fixed = {name: index for name, index in numbers.items() if name != "train"}
        every = np.concatenate(labels)
        return Contents(
            {"class": (every, self._classes(every, names))}, fixed, {"splits": list(splits) if fixed else []}
        )

    @contextlib.contextmanager
    def _told(self, bound: Bound) -> Iterator[None]:
        """What the user's code prints goes to standard error; its errors are shown as its own traceback."""
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except (BadData, BadRequest, KeyboardInterrupt):
            raise
        except Exception as error:
            raise BadData(f"{self._at}: {user_traceback(error, bound.reference.trace())}") from None

    def _splits(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            return {"train": value}
        found = {SPLITS.get(str(name), str(name)): split for name, split in value.items()}
        if "train" not in found or not found.keys() <= {"train", "val", "test"} or len(found) < len(value):
            got = ", ".join(map(str, value))
            raise BadData(f"{self._at}: returned the splits {got} (allowed: train, and val and test)")
        return {name: found[name] for name in ("train", "val", "test") if name in found}

    def _hand_over(self, split: Any, at: str, append: Append) -> np.ndarray:
        """Pass on the images of one split, in chunks; returns their labels (n,) int64."""
        chunks = [split] if isinstance(split, tuple) else _chunks(split, at)
        labels: list[np.ndarray] = []
        shape: tuple[int, ...] = ()
        for images, numbers in chunks:
            images, found = _images(images, at), _labels(numbers, at)
            if len(images) != len(found):
                raise BadData(f"{at}: {len(images):,} images and {len(found):,} labels (allowed: one label an image)")
            shape = self._shape = getattr(self, "_shape", images.shape[1:])
            if images.shape[1:] != shape:
                raise BadData(f"{at}: images of shape {images.shape[1:]} and {shape} (allowed: one shape)")
            labels.append(found)
            for start in range(0, len(images), CHUNK):
                append(images[start : start + CHUNK])
        if not sum(map(len, labels)):
            raise BadData(f"{at}: no images")
        return np.concatenate(labels)

    def _names(self, value: Any) -> tuple[str, ...]:
        """The names of the classes, where the dataset has them as torchvision's or Hugging Face's do."""
        first = value.get("train") if isinstance(value, Mapping) else value
        feature = next(
            (_get(_get(first, "features"), key) for key in LABELS if _get(_get(first, "features"), key)), None
        )
        return tuple(map(str, getattr(first, "classes", None) or getattr(feature, "names", None) or ()))

    def _classes(self, labels: np.ndarray, names: tuple[str, ...]) -> tuple[str, ...]:
        counts = np.bincount(labels, minlength=len(names)) if labels.max() < 10 * len(labels) else np.zeros(1)
        if names and len(counts) > len(names):
            raise BadData(f"{self._at}: label {labels.max()}, and {len(names)} classes have names (allowed: fewer)")
        if not names and not counts.all():
            raise BadData(
                f"{self._at}: no image has label {int(np.argmin(counts))}, and the largest is {labels.max()} (allowed: "
                "0, 1, 2, … without a gap)"
            )
        return names or tuple(map(str, range(len(counts))))


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)


def _chunks(dataset: Any, at: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images (n, H, W, C) or (n, H, W) and labels (n,) of a dataset that is read item by item."""
    for start in range(0, len(dataset), CHUNK):
        items = [_item(dataset[i], at) for i in range(start, min(start + CHUNK, len(dataset)))]
        shapes = sorted({image.shape for image, _ in items})
        if len(shapes) > 1:
            raise BadData(f"{at}: images of shape {shapes[0]} and {shapes[1]} (allowed: one shape)")
        yield np.stack([image for image, _ in items]), np.array([label for _, label in items])


# Modes of PIL whose numbers are not what people see (of a palette, inks, other colour spaces), and what they become.
AS_SEEN = {"1": "L", "P": "RGB", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB", "RGBX": "RGB"}


def _item(item: Any, at: str) -> tuple[np.ndarray, Any]:
    """One image as an array, and its label. A tensor (C, H, W) becomes (H, W, C)."""
    if isinstance(item, Mapping):
        columns = [next((name for name in names if name in item), None) for names in (IMAGES, LABELS)]
        if None in columns:
            got = ", ".join(map(str, item))
            raise BadData(f"{at}: an item has the columns {got} (allowed: image or img, and label or labels)")
        item = tuple(item[name] for name in columns)
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise BadData(f"{at}: an item is {type(item).__name__} (allowed: a tuple of image and label)")
    image, label = item
    if (mode := getattr(image, "mode", "")) in AS_SEEN:
        alpha = mode == "P" and "transparency" in image.info
        image = image.convert("RGBA" if alpha else AS_SEEN[mode])
    array = np.asarray(image)
    first = array.ndim == 3 and hasattr(image, "detach") and array.shape[0] in (1, 3, 4)
    return array.transpose(1, 2, 0) if first else array, np.asarray(label)[()]


def _images(images: Any, at: str) -> np.ndarray:
    """(n, H, W, C) uint8."""
    found = np.asarray(images)
    if found.dtype != np.uint8:
        nan = found.dtype.kind == "f" and bool(np.isnan(found).any())
        raise BadData(f"{at}: images are {found.dtype}{', some of them NaN' if nan else ''} ({ADVICE})")
    if found.ndim not in (3, 4) or 0 in found.shape[1:]:
        raise BadData(f"{at}: images have shape {found.shape} (allowed: (N, H, W, C) or (N, H, W))")
    found = found if found.ndim == 4 else found[..., None]
    if found.shape[-1] not in (1, 2, 3, 4):
        raise BadData(
            f"{at}: images have {found.shape[-1]} channels, by their shape {found.shape} (allowed: 1 to 4, last)"
        )
    return found


def _labels(labels: Any, at: str) -> np.ndarray:
    """(n,) int64."""
    found = np.asarray(labels)
    if found.ndim != 1:
        raise BadData(f"{at}: labels have shape {found.shape} (allowed: (N,))")
    if found.dtype.kind not in "iu":
        shown = found[np.isnan(found)][:1] if found.dtype.kind == "f" else found[:0]
        got = (shown if len(shown) else found)[:1].tolist()
        raise BadData(f"{at}: labels are {found.dtype}, such as {', '.join(map(repr, got))} (allowed: integers from 0)")
    if len(found) and found.min() < 0:
        raise BadData(f"{at}: a label is {found.min()} (allowed: integers from 0)")
    return found.astype(np.int64)
