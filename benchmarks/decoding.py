"""Images a second from files to uint8 arrays of one size: photographs (JPEG, 500 × 375, to 64 × 64) and small images
(PNG, 32 × 32).

Ours is `prepare` of a folder that is new to the cache: listing, reading, decoding, checking and hashing every file, and
writing the cache. Beside it, reading, decoding and resizing alone, in as many threads as there are cores: torchvision's
`decode_image` with its `resize`, and OpenCV, where it can be imported (`pip install --target build/opencv --no-deps
opencv-python-headless`). Then what it takes to open a set of 110,000 images that is in the cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from common import ROOT, Book, Row, interleaved, options, ratios, spread
from PIL import Image

from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data import prepare

CORES = os.cpu_count() or 1
OPENCV = ROOT / "build/opencv"
PHOTOGRAPHS, SMALL = "photographs", "small images"
CLASSES = 10
HELD = 110_000  # images of the set that is opened


def write_images(place: Path, count: int, size: tuple[int, int], suffix: str) -> list[Path]:
    """Files in `CLASSES` folders under `train` and `test`: smooth colours with some noise, as photographs compress."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 8, 6, 3), dtype=np.uint8)
    files = []
    for number in range(count):
        folder = place / ("test" if number % 10 == 0 else "train") / f"class{number // 10 % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        smooth = np.asarray(Image.fromarray(coarse[number]).resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = (smooth + rng.integers(-12, 13, smooth.shape, dtype=np.int16)).clip(0, 255).astype(np.uint8)
        files.append(folder / f"{number:06d}.{suffix}")
        Image.fromarray(noisy).save(files[-1], quality=90)
    return files


def ours(place: Path, size: int | None) -> Callable[[], None]:
    def run() -> None:
        with tempfile.TemporaryDirectory(dir=place.parent) as cache:
            prepare(DataConfig(name="folder", root=str(place), size=size), Path(cache))

    return run


def in_threads(read: Callable[[Path], np.ndarray], files: Sequence[Path]) -> Callable[[], None]:
    def run() -> None:
        with ThreadPoolExecutor(CORES) as pool:
            np.stack(list(pool.map(read, files, chunksize=64)))

    return run


def of_torchvision(size: int | None) -> Callable[[Path], np.ndarray]:
    from torchvision.io import decode_image
    from torchvision.transforms.v2.functional import resize

    def read(path: Path) -> np.ndarray:
        image = decode_image(str(path), mode="RGB")
        return (resize(image, [size, size], antialias=True) if size else image).numpy()

    return read


def of_opencv(size: int | None) -> Callable[[Path], np.ndarray]:
    import cv2

    cv2.setNumThreads(1)

    def read(path: Path) -> np.ndarray:
        image = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) if size else image

    return read


def compared(kind: str, n: int, count: int) -> list[Row]:
    """Images a second of each way, in turn, and how many times ours the others are."""
    size, form, suffix = (64, (500, 375), "jpg") if kind == PHOTOGRAPHS else (None, (32, 32), "png")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        place = Path(folder) / "images"
        files = write_images(place, count, form, suffix)
        ways = {"ours": ours(place, size), "torchvision": in_threads(of_torchvision(size), files)}
        if OPENCV.exists():
            ways["OpenCV"] = in_threads(of_opencv(size), files)
        arms = {name: lambda way=way: count / _seconds(way) for name, way in ways.items()}
        found = interleaved(arms, n)
    rates = [spread(f"{kind}: {name}", "images/s", values) for name, values in found.items()]
    others = [name for name in ways if name != "ours"]
    return rates + [spread(f"{kind}: {name} over ours", "×", ratios(found[name], found["ours"])) for name in others]


def cores_used(n: int, count: int) -> list[Row]:
    """Ours on all cores over ours on one, of photographs."""
    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        place = Path(folder) / "images"
        write_images(place, count, (500, 375), "jpg")
        all_cores = os.sched_getaffinity(0)

        def on(cores: set[int]) -> float:
            os.sched_setaffinity(0, cores)
            try:
                return count / _seconds(ours(place, 64))
            finally:
                os.sched_setaffinity(0, all_cores)

        found = interleaved({"all": lambda: on(all_cores), "one": lambda: on({min(all_cores)})}, n)
    return [spread(f"{len(all_cores)} cores over one, ours", "×", ratios(found["all"], found["one"]))]


def opened(n: int, count: int) -> list[Row]:
    """Seconds until a set in the cache is open, in a new process that has imported all it needs."""
    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        place, cache = Path(folder) / "images", Path(folder) / "cache"
        few = write_images(place, min(count, 1000), (32, 32), "png")
        for number in range(len(few), count):  # copies: what is in them does not matter here
            source = few[number % len(few)]
            shutil.copyfile(source, source.with_name(f"{number:06d}.png"))
        prepare(DataConfig(name="folder", root=str(place)), cache)
        return [spread(f"{count:,} images: opened", "s", [_in_process(place, cache) for _ in range(n)])]


def _in_process(place: Path, cache: Path) -> float:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, "--process", str(place), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    return float(done.stdout)


def open_once(place: Path, cache: Path) -> None:
    """Run in a process of its own."""
    from resnetlab.vision.data.folder import image_folder  # noqa: F401  # else the call would import it

    print(_seconds(lambda: prepare(DataConfig(name="folder", root=str(place)), cache)))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    chosen = options(__doc__)
    sys.path.append(str(OPENCV))
    book = Book("decoding", chosen.quick, chosen.again)
    n, count = (1, 200) if chosen.quick else (7, 4000)
    for kind in (PHOTOGRAPHS, SMALL):
        for row in book.part(kind, lambda kind=kind: compared(kind, n, count)):
            book.note(row)
    for row in book.part("cores", lambda: cores_used(n, count)):
        book.note(row)
    rows = book.part("opened", lambda: opened(n, 2000 if chosen.quick else HELD))
    book.target(f"{HELD:,} images are opened in at most 0.5 s", rows[-1], 0.5)
    book.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        open_once(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
