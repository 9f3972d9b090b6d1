"""Do the intervals hold on other images? `digits` with its split drawn again and again: 3 arms × 5 seeds on each split.

python benchmarks/new_images.py --work FOLDER    trains what FOLDER does not hold yet, and counts after each split
python benchmarks/new_images.py --table          prints what results/new_images.json holds, as Markdown

For each split, each effect's and each arm mean's two 95% intervals (on these test images; on new images) are held
against the mean over all other splits, which has an error of its own: of 36 splits it widens what is to be held by
1%. Other splits also train on other images, which neither interval knows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine

FILE = RESULTS / "new_images.json"
ARMS = {"kernel-3": {"kernel": 3}, "kernel-5": {"kernel": 5}, "no-shortcut": {"shortcut": False}}


def study(split: int, seeds: int, epochs: int) -> Any:
    from resnetlab.study import build_study

    baseline = {"blocks": 1, "width": 8, "batch_size": 16, "schedule": "one-cycle", "lr": 0.2, "downsample": 1}
    content = {
        "name": f"split-{split}",
        "dataset": {"name": "digits"},
        "baseline": baseline,
        "arms": ARMS,
        "search": {"epochs": epochs},
        "confirm": {"design": "arms", "seeds": seeds},
        "seed": split,
    }
    return build_study(content, "new_images")


def train(asked: Any, place: Path) -> None:
    """Run a study of named arms in this process, one trial after another."""
    from resnetlab.driver.checks import own_code
    from resnetlab.driver.checks.dataset_record import compared, known, starts
    from resnetlab.experiment.messages import TrialContext
    from resnetlab.ray_backend.worker import TrialWorker
    from resnetlab.storage.results_folder import ResultsFolder
    from resnetlab.storage.store import Store
    from resnetlab.sweep.state_machine import Sweep
    from resnetlab.sweep.task import data_key
    from resnetlab.vision.data import default_cache, prepare

    folder = ResultsFolder.at(place)
    datasets = {data_key(config): prepare(config.data) for config in starts(asked).values()}
    folder.write_json("data.json", compared(folder, asked, datasets))
    own_code.keep(folder, asked, [])
    store = Store(folder, asked.columns)
    sweep = Sweep(asked, store, {"git_revision": "", "versions": "{}"}, known(datasets))
    context = TrialContext(folder.url, default_cache(), cpus=1, gpus=0, epoch_timeout_s=600)
    while (task := sweep.next()) is not None:
        worker = TrialWorker({"task": task, "context": context})
        while sweep.report(task.trial_id, worker.step()["report"]):
            pass
    store.close()
    folder.write_json("study.json", asked.recorded())


def read(place: Path) -> list[dict[str, Any]]:
    """Every effect and arm mean of one split with its two intervals, in points."""
    from resnetlab.analysis.results import Results
    from resnetlab.report.findings import Findings

    found = Findings(Results.open(place))
    rows = [
        {"what": "effect", "name": row.name, "value": row.estimate, "these": [row.low_these, row.high_these],
         "new": [row.low_new, row.high_new]}
        for row in found.effects.itertuples(index=False)
    ] + [
        {"what": "arm mean", "name": row.arm, "value": row.mean, "these": [row.low, row.high],
         "new": [row.low_new, row.high_new]}
        for row in found.performance.itertuples(index=False)
    ]  # fmt: skip
    for row in rows:
        for key in ("value", "these", "new"):
            row[key] = np.round(100 * np.array(row[key]), 3).tolist()
    return rows


def coverage(splits: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """For effects and arm means, and either interval: how many hold the mean over the other splits."""
    counts: dict[tuple[str, str], list[bool]] = {}
    half: dict[tuple[str, str], list[float]] = {}
    for place in range(len(splits[0])):
        values = np.array([split[place]["value"] for split in splits])
        for i, split in enumerate(splits):
            row, truth = split[place], np.delete(values, i).mean()
            for interval in ("these", "new"):
                low, high = row[interval]
                counts.setdefault((row["what"], interval), []).append(bool(low <= truth <= high))
                half.setdefault((row["what"], interval), []).append((high - low) / 2)
    return [
        {"what": what, "interval": interval, "covered": sum(found), "n": len(found),
         "half_width": round(float(np.mean(half[what, interval])), 3)}
        for (what, interval), found in counts.items()
    ]  # fmt: skip


def table() -> str:
    content = json.loads(FILE.read_text())
    words = {"these": "on these test images", "new": "on new images"}
    lines = [
        "| of | 95% interval | mean half-width, points | holds the mean of the others |",
        "|---|---|---|---|",
    ]
    for row in content["coverage"]:
        share = f"{row['covered']} of {row['n']} ({100 * row['covered'] / row['n']:.0f}%)"
        lines.append(f"| {row['what']}s | {words[row['interval']]} | {row['half_width']:.2f} | {share} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("build/new_images"))
    parser.add_argument("--splits", type=int, default=36)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6)
    given = parser.parse_args()
    if given.table:
        print(table())
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = []
    for split in range(given.splits):
        place = given.work / f"split-{split}"
        if not (place / "study.json").exists():
            print(f"split {split} …", file=sys.stderr, flush=True)
            train(study(split, given.seeds, given.epochs), place)
        found.append(read(place))
        if len(found) > 1:
            about = {"splits": len(found), "seeds": given.seeds, "epochs": given.epochs}
            content = {"about": about, "machine": machine(), "coverage": coverage(found), "splits": found}
            FILE.write_text(json.dumps(content, indent=1) + "\n")
    print(table())


if __name__ == "__main__":
    main()
