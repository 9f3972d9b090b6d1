"""CIFAR-10 and CIFAR-100 as their authors publish them, read by torchvision."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np

from resnetlab.errors import BadData
from resnetlab.paths import user_path
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data.cache import locked
from resnetlab.vision.data.source import Append, Contents

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}

MD5 = {  # as published; torchvision compares them too, but is slow to import and does not say which file it was
    "cifar10": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    "cifar100": {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
}


class Cifar:
    """60,000 images (32, 32, 3); the published test images are the test split, val is drawn from the others.

    `root` holds the unpacked folder under its published name; without it, `downloads` in the cache does.
    """

    def __init__(self, config: DataConfig, cache: Path) -> None:
        self.name = config.name
        self.cache = cache
        self.download = config.download
        self.root = user_path(config.root, "dataset.root") if config.root else cache / "downloads"
        self.labels: tuple[str, ...] = ("fine", "coarse") if config.name == "cifar100" else ("class",)
        self.label = config.label or self.labels[0]
        self.folder = self.root / FOLDERS[config.name]

    def check(self) -> None:
        missing = self._missing()
        if missing and not self.download:
            raise BadData(
                f"dataset.root: {self.folder} lacks {', '.join(missing)}: put the unpacked folder "
                f"{FOLDERS[self.name]} (https://www.cs.toronto.edu/~kriz/cifar.html) into {self.root}, "
                "or set dataset.download: true"
            )

    def fetch(self) -> None:
        if self.download and self._missing():
            with locked(self.cache, f"{self.name}-download"):
                self._open(train=True, download=bool(self._missing()))

    def fingerprint(self) -> Any:
        stats = {name: (self.folder / name).stat() for name in MD5[self.name]}
        return [str(self.folder.resolve()), {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}]

    def remarks(self, notes: Mapping[str, Any]) -> list[str]:
        """Nothing: every file is compared with the published one."""
        return []

    def write(self, append: Append) -> Contents:
        self._compare()
        parts = [self._open(train=train) for train in (True, False)]
        for part in parts:
            append(part.data)
        labels = {self.labels[0]: (np.concatenate([part.targets for part in parts]), tuple(parts[0].classes))}
        if self.name == "cifar100":
            labels["coarse"] = self._coarse()
        first = len(parts[0].data)
        return Contents(labels, {"test": np.arange(first, first + len(parts[1].data))})

    def _missing(self) -> list[str]:
        return [name for name in MD5[self.name] if not (self.folder / name).is_file()]

    def _compare(self) -> None:
        """BadData where a file is not the published one: these are pickles, which nobody should read unseen."""
        for name, published in MD5[self.name].items():
            state = md5(usedforsecurity=False)
            with (self.folder / name).open("rb") as file:
                while block := file.read(1 << 20):
                    state.update(block)
            if state.hexdigest() != published:
                raise BadData(
                    f"{self.folder / name}: truncated or altered: its MD5 is {state.hexdigest()}, the published one "
                    f"{published}: delete it and unpack the published archive again"
                )

    def _open(self, train: bool, download: bool = False) -> Any:
        """torchvision's dataset, which compares the files with the published checksums."""
        from torchvision.datasets import CIFAR10, CIFAR100  # slow to import, and needed only to fill the cache

        reader = {"cifar10": CIFAR10, "cifar100": CIFAR100}[self.name]
        try:
            return reader(str(self.root), train=train, download=download)
        except (RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
            advice = "it could not be downloaded" if download else "delete it and unpack the published archive again"
            raise BadData(f"{self.folder}: {error}: {advice}") from None

    def _coarse(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """The 20 superclasses, which torchvision does not read."""
        content = {}
        for name in MD5["cifar100"]:
            with (self.folder / name).open("rb") as file:
                content[name] = _Arrays(file, encoding="latin1").load()
        numbers = np.concatenate([content["train"]["coarse_labels"], content["test"]["coarse_labels"]])
        return numbers.astype(np.int64), tuple(content["meta"]["coarse_label_names"])


class _Arrays(pickle.Unpickler):
    """Reads plain values and NumPy arrays, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.removesuffix(".multiarray"), name) in ARRAYS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"asks to run {module}.{name}")


ARRAYS = {
    ("numpy.core", "_reconstruct"), ("numpy._core", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"),
    ("_codecs", "encode"),
}  # fmt: skip
