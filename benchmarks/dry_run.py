"""What a dry run costs: of the default study, whose data is decoded already, CPU time and peak memory of its process;
and the CPU time of what it says of 100,000 images of which half are copies, the part that grows with the data. And how
long the default study takes to answer where it is asked for again once it is finished."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import ROOT, Book, Row, cpu_seconds, options, spread

SCRIPT = ROOT / "sweeps/ablation.py"


def dry_run(place: str) -> dict[str, float]:
    """Run in a small process of its own, because the peak memory of a child is never below its parent's."""
    subprocess.run([sys.executable, str(SCRIPT), "--dry-run"], cwd=place, stdout=subprocess.DEVNULL, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"cpu": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss / 1024}


def default_study(n: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        env = os.environ | {"PYTHONPATH": str(ROOT), "RESNETLAB_CACHE": str(Path(folder) / "cache")}
        command = [sys.executable, __file__, "--process", folder]
        lines = [
            subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env, check=True).stdout
            for _ in range(n + 1)  # the first one decodes the data
        ]
    found = [json.loads(line) for line in lines[1:]]
    return [
        spread("dry run of the default study: CPU time", "s", [one["cpu"] for one in found]),
        spread("dry run of the default study: peak memory", "MiB", [one["memory"] for one in found]),
    ]


def copies(n: int, count: int) -> list[Row]:
    """Finding identical images, as `doubts` does, in `count` images of 8×8 pixels."""
    from resnetlab.vision.data import Dataset
    from resnetlab.vision.data.remarks import doubts

    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
    images[count // 2 :] = images[: count // 2]
    dataset = Dataset.from_arrays(images, np.arange(count) % 10, [*"abcdefghij"])
    seconds = [cpu_seconds(lambda: list(doubts(dataset, 0))) for _ in range(n + 1)]
    return [spread(f"{count:,} images, half of them copies: what is said of them, CPU time", "s", seconds[1:])]


def asked_again(n: int) -> list[Row]:
    """Wall-clock seconds of the command that ran the default study, where nothing is left to do."""
    from resnetlab.experiment import own
    from resnetlab.storage.results_folder import ResultsFolder
    from resnetlab.study.included import study_file

    seconds = []
    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        place = Path(folder) / "results/default"
        shutil.copytree(ROOT / "results/reference/default", place)
        ResultsFolder.at(place).write_json("study.json", own.load(study_file("default", "--study"), {}).recorded())
        (place / "report.html").touch()
        env = os.environ | {"PYTHONPATH": str(ROOT), "RESNETLAB_CACHE": str(Path(folder) / "cache")}
        for _ in range(n + 1):  # the first one decodes the data
            began = time.perf_counter()
            done = subprocess.run([sys.executable, str(SCRIPT)], cwd=folder, env=env, stdout=subprocess.PIPE, text=True)
            seconds.append(time.perf_counter() - began)
            if not done.stdout.startswith("default: finished"):
                raise RuntimeError(f"it is not finished: {done.stdout[:200]}")
    return [spread("the finished default study, asked for again: wall-clock time", "s", seconds[1:])]


def main() -> None:
    chosen = options(__doc__)
    book = Book("dry_run", chosen.quick, chosen.again)
    n, count = (1, 10_000) if chosen.quick else (7, 100_000)
    cpu, memory = book.part("default study", lambda: default_study(n))
    (again,) = book.part("asked again", lambda: asked_again(n))
    (found,) = book.part("copies", lambda: copies(n, count))
    book.target("dry run of the default study: at most 3 s of CPU time", cpu, 3.0)
    book.target("dry run of the default study: at most 400 MB of memory", memory, 400e6 / 2**20)
    book.target("the finished default study, asked for again: answered within 3 s", again, 3.0)
    book.target(f"at most 5 s of CPU time to find the copies among {count:,} images", found, 5.0)
    book.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        print(json.dumps(dry_run(sys.argv[2])))
    else:
        main()
