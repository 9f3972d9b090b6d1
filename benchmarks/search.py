"""Epochs until a search has found a setting whose true accuracy at the full budget is within 0.5 points of the best
there is, four trials side by side: ours with each stopping rule, and its peers, on simulated worlds (planted effects,
seed noise) and on recorded learning curves (benchmarks/curves/, replayed). The ratio to a peer is that of the medians,
with its 95% interval by bootstrap over the repeats."""

from __future__ import annotations

import heapq
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import optuna
from common import RESULTS, Book, Row, number, options, spread
from scale import suggestions
from search_peers import OURS, PEERS, SLOW, Proposal, Searcher
from search_worlds import CURVES, RECORDED, TRUTHS, World, world

SLOTS, LATEST_OF_SLOW = 4, 200
OF_SLOW = ("plain", *RECORDED)  # worlds in which those whose proposals are slow are tried
ARMS = OURS | PEERS | SLOW
BASE = "random at full budget"
HELD = ("ours, linear, asha", "ours, linear, asha-promotion")  # the default, and what took least
SURE = (
    "ours, linear, asha",
    "ours, linear, hyperband",
)  # where starts are slow: the default, and what is meant for them
FEWER = ("slow starters",)  # worlds whose searches are long


def epochs_until(searcher: Searcher, world: World, seed: int, most: int) -> int:
    """Epochs spent by all trials when the first good enough one ended; `most` if none did."""
    waiting: list[tuple[float, int, Proposal]] = []
    clock, spent, started = 0.0, 0, 0
    while spent < most:
        while len(waiting) < SLOTS and (trial := searcher.next()) is not None:
            if trial.curve is None:
                trial.curve = world.play(trial.values, seed * 100_003 + started)
            heapq.heappush(waiting, (clock + _pace(started), started, trial))
            started += 1
        if not waiting:
            break
        clock, number, trial = heapq.heappop(waiting)
        assert trial.curve is not None
        spent += 1
        trial.epoch += 1
        if trial.epoch > len(trial.curve):
            searcher.diverged(trial)
        elif searcher.report(trial, trial.epoch, float(trial.curve[trial.epoch - 1])):
            heapq.heappush(waiting, (clock + _pace(number), number, trial))
        elif trial.epoch == world.epochs and world.reached(trial.values):
            return spent
    return most


def _pace(number: int) -> float:
    return 0.7 + 0.6 * (number * 7919 % 1000) / 1000


def repeat(name: str, arm: str, most: int, seed: int) -> int:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = world(name)
    return epochs_until(ARMS[arm](place, seed, most), place, seed, most)


def arm_on(pool: ProcessPoolExecutor, name: str, arm: str, repeats: int, most: int) -> list[Row]:
    found = list(pool.map(partial(repeat, name, arm, most), range(repeats)))
    missed = sum(value >= most for value in found)
    text = f"{name}: {arm}" + (f" ({missed} of {repeats} not within {most})" if missed else "")
    return [spread(text, "epochs", found, missed=missed, arm=arm, world=name, epochs=found)]


def ratio(ours: list[float], other: list[float]) -> Row:
    """Of the medians, with a 95% interval: both resampled 4,000 times."""
    rng = np.random.default_rng(0)
    one, two = (np.median(rng.choice(np.array(values, float), (4000, len(values))), axis=1) for values in (ours, other))
    low, high = np.quantile(one / two, [0.025, 0.975])
    return {"what": "", "unit": "× its epochs", "median": float(np.median(ours) / np.median(other)), "low": float(low),
            "high": float(high), "n": len(ours)}  # fmt: skip


def table() -> str:
    """Markdown: medians of each arm in each world, from the JSON."""
    content = json.loads((RESULTS / "search.json").read_text())
    rows = [row for part in content["parts"].values() for row in part["rows"] if "world" in row]
    worlds = list(dict.fromkeys(row["world"] for row in rows))
    lines = [f"| epochs, median | {' | '.join(worlds)} |", f"|---|{'---:|' * len(worlds)}"]
    for arm in dict.fromkeys(row["arm"] for row in rows):  # those that could be installed where it was measured
        cells = []
        for name in worlds:
            row = next((row for row in rows if row["world"] == name and row["arm"] == arm), None)
            most = max(row["epochs"]) if row and row["missed"] else 0
            late = row is not None and row["median"] >= most > 0
            cells.append("–" if row is None else f"> {most}" if late else number(row["median"]))
        if any(cell != "–" for cell in cells):
            lines.append(f"| {arm} | {' | '.join(cells)} |")
    found = content["machine"]
    said = (
        f"{max(row['n'] for row in rows)} repeats, 20 of slow starters and of those whose proposals are slow, which "
        f"end after {LATEST_OF_SLOW} epochs; ours without an audit share, where none is named"
    )
    return "\n".join([*lines, "", f"{said}. –: not run. {found['cpu']}, {found['cores']} cores."])


def main() -> None:
    if "--table" in sys.argv:
        print(table())
        return
    chosen = options(__doc__, worlds="worlds, separated by commas", arms="quick: none whose proposals are slow")
    book = Book("search", chosen.quick, chosen.again)
    repeats, most = (2, 60) if chosen.quick else (40, 900)
    names = (
        chosen.worlds.split(",")
        if chosen.worlds
        else [*TRUTHS, *(name for name in RECORDED if (CURVES / name).exists())]
    )
    wanted = [arm for arm in ARMS if chosen.arms != "quick" or arm not in SLOW]
    pool = ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"))  # nothing here is timed
    for name in names:
        rows: dict[str, Row] = {}
        for arm in ARMS:
            if arm not in wanted or (arm in SLOW and name not in OF_SLOW):
                continue
            last = most if arm not in SLOW else min(most, LATEST_OF_SLOW)
            often = min(repeats, 20) if arm in SLOW or name in FEWER else repeats
            for row in book.part(f"{name}: {arm}", partial(arm_on, pool, name, arm, often, last)):
                rows[arm] = row
        peers = {arm: row for arm, row in rows.items() if arm not in OURS}
        if not peers or not {*HELD, *SURE} <= set(rows):
            continue
        for ours in SURE if name == "slow starters" else HELD:
            if name == "slow starters":
                against, limit, other = ratio(rows[ours]["epochs"], rows[BASE]["epochs"]), 1.2, BASE
            else:
                other = min(peers, key=lambda arm: peers[arm]["median"])
                against, limit = ratio(rows[ours]["epochs"], rows[other]["epochs"]), 1.05
            book.target(f"{name}: {ours}: at most {limit} of the epochs of {other}", against, limit)
    pool.shutdown()
    costs = book.part("cost", lambda: suggestions((300,) if chosen.quick else (10_000,), 3 if chosen.quick else 15))
    for row in costs:
        if "linear" in row["what"]:
            book.target(f"{row['what']}: at most 20 ms", row, 20.0)
    book.finish()


if __name__ == "__main__":
    main()
