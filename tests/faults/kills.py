"""Kill drivers, workers and nodes of real sweeps at random moments, and count what is lost, doubled or wrong.

python tests/faults/kills.py              50 kills; results/kills.json
python tests/faults/kills.py --kills 6
python tests/faults/kills.py --kills 20 --pausing    of drivers that were asked to pause; results/kills-pausing.json
python tests/faults/kills.py --kills 20 --extending  while a finished study is extended; results/kills-extending.json

Sweeps run one after another on one Ray head with a second node; each is killed and continued until it is done, and must
then have the tables of a sweep to which nothing happened. What was found is written after each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults.lab import SLACK, Cluster, Driver, Lab  # noqa: E402
from resnetlab.errors import BadRequest  # noqa: E402
from resnetlab.storage.control import ask  # noqa: E402

OUT = ROOT / "results"
KINDS = {"driver": 20, "worker": 18, "node": 12}  # of 50
OTHERS = ("pausing", "extending")  # kills of drivers alone, in campaigns of their own
PAUSING = 6.0  # seconds within which a driver is killed after it was asked to pause
STARTING = 15.0  # seconds within which a driver that extends is killed, if it is not once it trains
STUDY = """
dataset: {name: glyphs, variants: 2, limit: 2000}
baseline: {blocks: 1, width: 8, downsample: 1, batch_size: 4, lr: 0.01}
arms:
  kernel-1: {kernel: 1}
  kernel-3: {kernel: 3}
  plain: {shortcut: false}
search: {epochs: 8}
confirm: {design: arms, seeds: 2}
"""
FINISHED = """
dataset: {name: glyphs, variants: 2, limit: 1000}
baseline: {blocks: 1, width: 8, downsample: 1, batch_size: 4, lr: 0.01}
factors:
  kernel: {levels: [1, 3]}
  schedule: {levels: [constant, cosine]}
search: {sampler: grid, trials: 4, stopping: false, audit: 0, epochs: 3, keep_checkpoints: true}
confirm: {design: one-factor, seeds: 2}
"""
EXTENDED = ("--extend", "--set", "search.epochs=6")


class Campaign:
    """counts: of kills by kind, and of rows. again: of each interrupted trial's epochs, begun and ended before."""

    def __init__(self, lab: Lab, kinds: list[str], seed: int, extends: bool = False):
        self._lab, self._left, self._chance, self._extends = lab, kinds, random.Random(seed), extends
        self._cluster = Cluster(lab, cpus=1)
        self._cluster.join(1)
        lab.address = self._cluster.address
        self.counts: Counter[str] = Counter()
        self.again: list[tuple[int, int]] = []
        self.first_rows: list[float] = []

    @property
    def left(self) -> int:
        return len(self._left)

    def run(self, save: Callable[[], None]) -> None:
        """`save` is called after each sweep."""
        try:
            self._lab.plant()
            if self._extends:
                assert (ended := self._lab.start("before", "--nodes", "2").finish(600)).code == 0, ended
            assert (ended := self._sweep("whole", first=True).finish(600)).code == 0, ended
            whole = {table: self._rows("whole", table) for table in ("trials", "epochs", "predictions")}
            while self._left:
                self._killed(f"sweep-{self.counts['sweeps']}", whole)
                self.counts["sweeps"] += 1
                save()
        finally:
            self._cluster.stop()
            self._lab.end()

    def _sweep(self, name: str, first: bool = False) -> Driver:
        if first and self._extends:
            shutil.copytree(self._lab.place / "before", self._lab.place / name)
        return self._lab.start(name, "--nodes", "2", *(EXTENDED if self._extends else ()))

    def _rows(self, name: str, table: str) -> dict[tuple, dict]:
        """Rows as a repeated sweep repeats them, by key."""
        from resnetlab.storage.content_hash import repeatable
        from resnetlab.storage.schema import KEYS
        from resnetlab.storage.store import read_table

        rows = repeatable(read_table(self._lab.folder(name), table), table).to_pylist()
        found = {tuple(row[key] for key in KEYS[table]): row for row in rows}
        self.counts["doubled"] += len(rows) - len(found)
        return found

    def _killed(self, name: str, whole: dict) -> None:
        """One sweep, killed while kills are left and it runs, and continued to its end."""
        self._lab.plant()
        seen: set[tuple[str, int]] = set()
        driver = self._sweep(name, first=True)
        while self._left and self._next_moment(driver):
            seen |= set(self._lab.epochs(name))
            kind = self._left.pop()
            getattr(self, f"_kill_{kind}")(driver)
            seen |= set(self._lab.epochs(name))
            self.counts[kind] += 1
            print(
                f"{sum(self.counts[kind] for kind in (*KINDS, *OTHERS))}: {name}, {kind}, {len(seen)} rows",
                flush=True,
            )
            if kind in ("driver", *OTHERS):
                self._note(driver)
                self._lab.wait(lambda: not self._lab.workers(), 10)
                driver = self._sweep(name)
        ended = driver.finish(600)
        self._note(driver)
        if ended.code:
            raise AssertionError(ended)
        found = {table: self._rows(name, table) for table in whole}
        self.counts["lost"] += len(seen - found["epochs"].keys())
        for table, rows in whole.items():
            self.counts["lost"] += len(rows.keys() - found[table].keys())
            self.counts["wrong"] += sum(found[table][key] != rows.get(key) for key in found[table])
            self.counts["rows"] += len(found[table])
        self.counts["other tables"] += self._lab.hash(name) != self._lab.hash("whole")
        self.again += self._lab.again()

    def _note(self, driver: Driver) -> None:
        if driver.first_row:
            self.first_rows.append(driver.first_row)

    def _next_moment(self, driver: Driver) -> bool:
        """Wait for a few more rows, and a moment; False where the sweep has ended instead. One that extends is often
        killed while it starts."""
        if self._extends and self._chance.random() < 0.4:
            time.sleep(STARTING * self._chance.random())
            return driver.process.poll() is None
        wanted = driver.new_rows() + self._chance.randint(1, 3)
        self._lab.wait(lambda: driver.new_rows() >= wanted or driver.process.poll() is not None, 120, 0.05)
        time.sleep(self._chance.random())
        return driver.process.poll() is None

    def _kill_driver(self, driver: Driver) -> None:
        driver.kill()

    def _kill_extending(self, driver: Driver) -> None:
        self.counts["early"] += not driver.new_rows()
        driver.kill()

    def _kill_pausing(self, driver: Driver) -> None:
        """Before, while or after its trials end their epochs, or after it was told to go on."""
        folder = self._lab.folder(driver.name)
        for what in ["pause", "resume"][: self._chance.choice([1, 1, 2])]:
            with suppress(BadRequest):  # it has ended
                ask(folder, what)
            time.sleep(PAUSING * self._chance.random())
        self.counts["paused"] += bool((folder.read_json("sweep.json") or {}).get("paused"))
        self.counts["missed"] += driver.process.poll() is not None
        driver.kill()

    def _kill_worker(self, driver: Driver) -> None:
        workers = self._lab.workers()
        if workers:
            os.kill(self._chance.choice(workers), signal.SIGKILL)
        self.counts["missed"] += not workers

    def _kill_node(self, driver: Driver) -> None:
        self._cluster.kill_node(1)
        self._cluster.join(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pausing", action="store_true", help="kill only drivers that were asked to pause")
    parser.add_argument("--extending", action="store_true", help="kill only drivers that extend a finished study")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    other = "pausing" if options.pausing else "extending" if options.extending else ""
    out = options.out or OUT / f"{'-'.join(filter(None, ('kills', other)))}.json"
    kinds = [kind for kind, of50 in KINDS.items() for _ in range(round(of50 * options.kills / 50))]
    if other:
        kinds = [other] * options.kills
    random.Random(options.seed).shuffle(kinds)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the cluster is stopped all the same
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="resnetlab-kills-") as place:
        study = FINISHED if options.extending else STUDY
        campaign = Campaign(Lab(Path(place), study), kinds, options.seed, options.extending)

        def save() -> None:
            content = found(campaign) | {"minutes": (time.monotonic() - began) / 60}
            content["command"] = f"python tests/faults/kills.py --kills {options.kills} --seed {options.seed}"
            content["command"] += f" --{other}" if other else ""
            out.parent.mkdir(exist_ok=True)
            out.write_text(json.dumps(content, indent=1) + "\n")

        campaign.run(save)
    content = json.loads(out.read_text())
    print(json.dumps(content, indent=1))
    bad = sum(content[name] for name in ("lost", "doubled", "wrong", "sweeps_with_other_tables"))
    sys.exit(bool(bad) or content["most_epochs_begun_again_of_one"] > 1)


def found(campaign: Campaign) -> dict[str, Any]:
    """What the sweeps that are over have shown."""
    counts, again, first = campaign.counts, campaign.again, sorted(campaign.first_rows)
    kinds = {kind: counts[kind] for kind in KINDS}
    if counts["pausing"]:
        kinds = {"pausing": counts["pausing"], "paused_when_killed": counts["paused"]}
    if counts["extending"]:
        kinds = {"extending": counts["extending"], "before_a_new_row": counts["early"]}
    return {
        "about": "drivers, workers and nodes killed at random moments; rows are of trials, epochs and predictions",
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "kills": kinds,
        "kills_left": campaign.left,
        "found_no_worker": counts["missed"],  # or no driver
        "sweeps": counts["sweeps"],
        "rows": counts["rows"],
        "lost": counts["lost"],
        "doubled": counts["doubled"],
        "wrong": counts["wrong"],
        "sweeps_with_other_tables": counts["other tables"],
        "interrupted_trials": len(again),
        "most_epochs_begun_again_of_one": max((begun for begun, _ in again), default=0),
        "most_epochs_trained_again_of_one": max((ended for _, ended in again), default=0),
        "epochs_begun_again": sum(begun for begun, _ in again),
        "starts": len(first),
        "seconds_to_the_first_row": {"median": first[len(first) // 2], "most": first[-1]},
        "slack": SLACK,
    }


if __name__ == "__main__":
    main()
