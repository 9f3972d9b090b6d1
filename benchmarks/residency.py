"""What 50,000 CIFAR-sized images cost a trial: time to the first augmented batch, in a new process that has imported
all it needs, and again for the next trial of a worker that lives on; and private memory once the training split has
been read, while another process has the same data open.

Ours maps the decoded cache; beside it a copy of the same file, and CIFAR-10's own pickles read as torchvision does."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, Book, Row, options, spread

FIRST, WARM, MEMORY = "first batch, new process", "first batch, warm worker", "private memory"


def write_data(place: Path, count: int) -> None:
    """Write pickles like those of CIFAR-10's archive, with random images, and our cache of the same images."""
    rng = np.random.default_rng(0)
    folder = place / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name in names:
        size = count // 5
        content = {
            "data": rng.integers(0, 256, (size, 3072), dtype=np.uint8),
            "labels": [i % 10 for i in range(size)],
        }
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}))


def prepared(place: Path) -> Any:
    from resnetlab.study.data_config import DataConfig
    from resnetlab.vision.data import prepare

    return prepare(DataConfig(name="cifar10", root=str(place)), place / "cache")


def trust_our_pickles() -> None:
    """Skip the checksum, which random images do not have."""
    from torchvision.datasets import CIFAR10

    from resnetlab.vision.data.cifar import Cifar

    Cifar._compare = lambda self: None  # type: ignore[method-assign]
    CIFAR10.train_list = [[name, None] for name, _ in CIFAR10.train_list]
    CIFAR10.test_list = [[name, None] for name, _ in CIFAR10.test_list]
    CIFAR10.meta = CIFAR10.meta | {"md5": None}


def private_mib() -> float:
    """Memory of this process alone: what would be free if it ended."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def first_and_memory(kind: str, place: Path) -> dict[str, float]:
    """Run in a process of its own."""
    import torch
    from workloads import AUGMENT, MEAN, STD, PilImages, transform

    from resnetlab.vision.data import cifar  # noqa: F401  # else the first call would import it
    from resnetlab.vision.data.augment import Augment
    from resnetlab.vision.training import machine

    machine.prepare(1)
    source, chain = torch.Generator().manual_seed(0), transform()
    Augment((32, 32, 3), MEAN, STD, **AUGMENT)  # its tables are made once a process
    before = private_mib()

    def mapped() -> tuple[torch.Tensor, torch.Tensor]:
        data = prepared(place)
        rows = torch.tensor(data.split("train", 0))
        images, augment = torch.from_numpy(data.images), Augment((32, 32, 3), MEAN, STD, **AUGMENT)
        augment(images.index_select(0, rows[:128]), source)
        return images, rows

    began, found = time.perf_counter(), {}
    if kind == "ours":
        images, rows = mapped()
    else:
        pixels, labels = _copy(place) if kind == "copy" else _pickles(place)
        wrapped = PilImages(pixels, labels, chain)
        torch.stack([wrapped[i][0] for i in range(128)])
        images, rows = torch.from_numpy(pixels), torch.arange(len(pixels))
    found[FIRST] = 1e3 * (time.perf_counter() - began)
    if kind == "ours":
        began = time.perf_counter()
        mapped()
        found[WARM] = 1e3 * (time.perf_counter() - began)
    total = sum(int(images.index_select(0, part).sum()) for part in rows.split(128))
    return found | {MEMORY: private_mib() - before, "sum": total}


def _copy(place: Path) -> tuple[np.ndarray, Any]:
    (path,) = (place / "cache").glob("*/images.npy")
    pixels = np.load(path)
    return pixels, np.zeros(len(pixels), np.int64)


def _pickles(place: Path) -> tuple[np.ndarray, Any]:
    """torchvision's CIFAR10, without its check of the archive's MD5."""
    parts = [
        pickle.loads((place / "cifar-10-batches-py" / f"data_batch_{i}").read_bytes(), encoding="latin1")
        for i in range(1, 6)
    ]
    pixels = np.vstack([part["data"] for part in parts]).reshape(-1, 3, 32, 32).transpose((0, 2, 3, 1))
    return pixels, [label for part in parts for label in part["labels"]]


def measure(n: int, count: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        place = Path(folder)
        write_data(place, count)
        trust_our_pickles()
        held = prepared(place)  # and stays open here
        int(held.images.sum(dtype=np.int64))
        kinds = {"ours": "mapped (ours)", "copy": "np.load", "pickles": "CIFAR-10's pickles"}
        found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        for _ in range(n):
            for kind, answers in found.items():
                answers.append(_in_process(kind, place))
    return [
        spread(f"{count:,} images, {words}: {what}", unit, [answer[what] for answer in found[kind]])
        for what, unit in ((FIRST, "ms"), (WARM, "ms"), (MEMORY, "MiB"))
        for kind, words in kinds.items()
        if what in found[kind][0]
    ]


def _in_process(kind: str, place: Path) -> dict[str, float]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--process", kind, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    chosen = options(__doc__)
    book = Book("residency", chosen.quick, chosen.again)
    count = 5_000 if chosen.quick else 50_000
    rows = book.part("all", lambda: measure(1 if chosen.quick else 5, count))
    found = {row["what"]: row for row in rows}
    book.target("first batch at most 10 ms warm", found[f"{count:,} images, mapped (ours): {WARM}"], 10.0)
    book.target("at most 25 MiB for each further trial's data", found[f"{count:,} images, mapped (ours): {MEMORY}"],
                25.0)  # fmt: skip
    book.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        print(json.dumps(first_and_memory(sys.argv[2], Path(sys.argv[3]))))
    else:
        main()
