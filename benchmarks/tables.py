"""10,000 trials of 100 epochs, a million rows: from the driver's rows to the final Parquet files, from these to all
that the report shows, and the frame of all epochs against the one that is put together from per-trial frames, as Ray's
ResultGrid reads them. All analyses of 1,000 trials of 50 epochs, of which some confirm. And the driver's own time per
report, sampler apart, in a simulated sweep on a real disk."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common import ROOT, Book, Row, options, ratios, spread

EPOCHS = 100
FLUSH = 10_000  # rows in a segment


def study(trials: int, epochs: int = EPOCHS, **search: Any) -> Any:
    from resnetlab.study import build_study

    return build_study(
        {
            "name": "tables",
            "dataset": {"name": "glyphs"},
            "baseline": {"blocks": 2, "width": 8, "downsample": 2, "batch_size": 64},
            "factors": {
                "blocks": {"levels": [2, 3]},
                "kernel": {"levels": [3, 5]},
                "optimizer": {"levels": ["sgd", "adamw"]},
                "lr": {"low": 0.001, "high": 1.0, "log": True},
            },
            "search": {"sampler": "random", "trials": trials, "epochs": epochs, "stopping": False} | search,
            "confirm": {"design": "none"},
        },
        "benchmark",
    )


def epoch_rows(trials: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of `trials` trials that ran side by side, in the order of their arrival, FLUSH at a time."""
    ids = [f"{number * 2654435761 % 2**48:012x}" for number in range(trials)]
    rows = []
    for epoch in range(1, EPOCHS + 1):
        for number, trial_id in enumerate(ids):
            value = 0.9 - 0.8 / (epoch + number % 7)
            rows.append(
                {
                    "trial_id": trial_id, "epoch": epoch, "train_loss": 2.5 * (1 - value), "train_accuracy": value,
                    "val_loss": 2.6 * (1 - value), "val_accuracy": value - number % 11 / 1e3, "lr": 0.1 / epoch,
                    "train_seconds": 1.5 + number % 13 / 97, "eval_seconds": 0.2 + number % 5 / 89,
                    "images_per_second": 3e3 - number % 17, "peak_memory": (300 << 20) + 4096 * (number % 1000),
                }
            )  # fmt: skip
            if len(rows) == FLUSH:
                yield rows
                rows = []
    yield rows


def trial_rows(asked: Any, trials: int) -> Iterator[dict[str, Any]]:
    now, config = datetime.now(UTC), asked.baseline_config(seed=0).model_dump_json()
    for number in range(trials):
        values = {
            "blocks": 2 + number % 2,
            "kernel": (3, 5)[number // 2 % 2],
            "optimizer": ("sgd", "adamw")[number % 2],
        }
        values["lr"] = 0.001 * 1000 ** (number / trials)
        yield {
            "trial_id": f"{number * 2654435761 % 2**48:012x}", "study": "tables", "number": number, "phase": "explore",
            "status": "complete", "reason": "reached the full budget", "config": config,
            "seed": number, "split_seed": 1, "stop_probability": 1.0, "epochs_run": EPOCHS, "epochs_allowed": EPOCHS,
            "val_accuracy": 0.8 + number % 97 / 1e3, "val_accuracy_best": 0.9, "val_loss": 0.6, "parameters": 7000,
            "trainable": 7000, "multiply_adds": 10**6, "train_seconds": 150.0, "eval_seconds": 20.0,
            "setup_seconds": 0.1, "checkpoint_seconds": 0.1, "restarts": 0, "device": "cpu", "device_share": 1.0,
            "threads": 1, "host": "node", "started": now, "ended": now, "data_hash": "0" * 16, **values,
        }  # fmt: skip


def write_tables(place: str, trials: int) -> dict[str, float]:
    """Run in a process of its own. Only the store's time is measured, not the time to make up rows."""
    from resnetlab.storage.results_folder import ResultsFolder
    from resnetlab.storage.store import Store

    asked = study(trials)
    store = Store(ResultsFolder.at(place), asked.space.names)
    seconds = 0.0
    for rows in epoch_rows(trials):
        began = time.perf_counter()
        for row in rows:
            store.add("epochs", row)
        store.flush()
        seconds += time.perf_counter() - began
    made = list(trial_rows(asked, trials))
    began = time.perf_counter()
    for row in made:
        store.add("trials", row)
    store.close()
    seconds += time.perf_counter() - began
    store.folder.write_json("study.json", asked.model_dump(mode="json"))
    return {"seconds": seconds, "memory": _peak()}


def read_for_report(place: str, trials: int) -> dict[str, float]:
    """Run in a process of its own: compute all data of the page and its figures; drawing is not measured."""
    from resnetlab.analysis.results import Results
    from resnetlab.report.figures.catalog import gallery
    from resnetlab.report.findings import Findings
    from resnetlab.report.sections.trial_table import trial_data

    began = time.perf_counter()
    results = Results.open(place)
    drawings = gallery(Findings(results))
    size = len(json.dumps(trial_data(results)))
    seconds = time.perf_counter() - began
    assert len(results.epochs) == EPOCHS * trials and drawings and size
    return {"seconds": seconds, "memory": _peak()}


def analyse(place: str, trials: int) -> dict[str, float]:
    """Run in a process of its own: CPU seconds from (made-up) tables to every estimate."""
    sys.path.insert(0, str(ROOT / "tests"))
    from made_results import default_study, make_results

    from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
    from resnetlab.analysis.confirm.effects_table import estimate, performance
    from resnetlab.analysis.confirm.fairness import fairness
    from resnetlab.analysis.confirm.power import block_correlation
    from resnetlab.analysis.confirm.power_preview import foresight
    from resnetlab.analysis.confirm.verdicts import claims
    from resnetlab.analysis.explore.importance import importance
    from resnetlab.analysis.explore.naive import flips, naive
    from resnetlab.analysis.results import Results

    confirm = 16 * 4
    asked = default_study(
        search={"trials": trials - confirm, "epochs": 50, "grace_period": 50, "sampler": "random"},
        confirm={"design": "fractional", "seeds": 4},
        hypotheses=["kernel 5 > kernel 3 by at least 0.5 points", "head_depth 2 within 1 point of head_depth 1"],
    )
    make_results(Path(place), asked, faults=False, test_images=200)
    began = time.process_time()
    results = Results.open(place)
    effects = estimate(results.plan, results.confirm)
    performance(results.plan, results.confirm)
    claims(asked, results.plan, results.confirm)
    levels = {name: asked.space[name].levels for name in results.plan.compared}
    flips(naive(results.trials, results.rungs, levels, results.plan.incumbent), effects)
    fairness(asked, results.plan, results.trials)
    importance(asked, results.trials, results.epochs)
    block_correlation(ConfirmRuns.of(results.plan, results.confirm).values)
    list(foresight(asked, results))
    seconds = time.process_time() - began
    assert len(results.trials) == trials
    return {"seconds": seconds, "memory": _peak()}


def one_frame(place: str, trials: int) -> dict[str, float]:
    """Trials and epochs joined in one frame."""
    from resnetlab.storage.results_folder import ResultsFolder
    from resnetlab.storage.store import read_table

    began = time.perf_counter()
    tables = [read_table(ResultsFolder.at(place), name) for name in ("epochs", "trials")]
    epochs, rows = (table.to_pandas() for table in tables if table is not None)
    frame = epochs.merge(rows[["trial_id", "blocks", "kernel", "optimizer", "lr"]], on="trial_id", suffixes=("", "_"))
    seconds = time.perf_counter() - began
    assert len(frame) == EPOCHS * trials
    return {"seconds": seconds, "memory": _peak()}


def frame_of_frames(place: str, trials: int) -> dict[str, float]:
    """The same from a result.json for each trial, read as Ray's `Result.from_path` does (a line a report,
    json_normalize), the configs put beside as its `get_dataframe` does, and pd.concat."""
    import pandas as pd

    folder = Path(place) / "per-trial"
    if not folder.exists():
        _write_per_trial(folder, place)
    began = time.perf_counter()
    frames = []
    for path in sorted(folder.iterdir()):
        lines = [json.loads(line) for line in (path / "result.json").read_text().splitlines()]
        config = json.loads((path / "params.json").read_text())
        frames.append(pd.json_normalize(lines, sep="/").assign(**config))
    frame = pd.concat(frames, ignore_index=True)
    seconds = time.perf_counter() - began
    assert len(frame) == EPOCHS * trials
    return {"seconds": seconds, "memory": _peak()}


def _write_per_trial(folder: Path, place: str) -> None:
    from resnetlab.storage.results_folder import ResultsFolder
    from resnetlab.storage.store import read_table

    epochs, trials = (read_table(ResultsFolder.at(place), name) for name in ("epochs", "trials"))
    assert epochs is not None and trials is not None
    rows = epochs.to_pandas().groupby("trial_id", sort=False)
    configs = trials.select(["trial_id", "blocks", "kernel", "optimizer", "lr"]).to_pylist()
    for config in configs:
        trial = folder / config["trial_id"]
        trial.mkdir(parents=True)
        part = rows.get_group(config["trial_id"])
        (trial / "result.json").write_text(part.to_json(orient="records", lines=True))
        (trial / "params.json").write_text(json.dumps({f"config/{key}": value for key, value in config.items()}))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


WORK: dict[str, Callable[[str, int], dict[str, float]]] = {
    "write": write_tables, "report": read_for_report, "analyse": analyse, "frame": one_frame, "frames": frame_of_frames,
}  # fmt: skip


def in_process(work: str, place: str, trials: int) -> dict[str, float]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--process", work, place, str(trials)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def tables(n: int, trials: int, few: int) -> list[Row]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in WORK}
    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        in_process("write", f"{folder}/few", few)
        in_process("frames", f"{folder}/few", few)  # writes the files that it reads
        for turn in range(n):
            found["write"].append(in_process("write", f"{folder}/{turn}", trials))
            found["report"].append(in_process("report", f"{folder}/{turn}", trials))
            for name in ("frame", "frames"):
                found[name].append(in_process(name, f"{folder}/few", few))
    seconds = {name: [answer["seconds"] for answer in answers] for name, answers in found.items()}
    title, less = f"{trials:,} trials × {EPOCHS} epochs", f"{few:,} trials × {EPOCHS} epochs"
    return [
        spread(f"{title}: rows to tables", "s", seconds["write"]),
        spread(f"{title}: rows to tables, peak memory", "MiB", [answer["memory"] for answer in found["write"]]),
        spread(f"{title}: tables to the report's data", "s", seconds["report"]),
        spread(f"{title}: report's data, peak memory", "MiB", [answer["memory"] for answer in found["report"]]),
        spread(f"{less}: one frame, from our tables", "s", seconds["frame"]),
        spread(f"{less}: one frame, from a result.json a trial", "s", seconds["frames"]),
        spread(f"{less}: our frame faster by", "×", ratios(seconds["frames"], seconds["frame"])),
    ]


def analyses(n: int, trials: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        seconds = [in_process("analyse", f"{folder}/{turn}", trials)["seconds"] for turn in range(n)]
    return [spread(f"{trials:,} trials × 50 epochs: tables to all estimates, CPU time", "s", seconds)]


def driver(n: int, trials: int, at: int) -> list[Row]:
    """Simulated sweeps on a real disk: milliseconds of the driver per report around trial `at` and in the last `at`.
    Means over reports, because those that end a trial cost most. The sampler's time and that of publishing the tables
    (which the store keeps to 2% of a sweep's time) are apart."""
    ends = {f"{at}": (at // 2, at + at // 2), f"{trials:,}": (trials - at, trials)}
    found: dict[str, dict[str, list[float]]] = {kind: {end: [] for end in ends} for kind in KINDS}
    for _ in range(n):
        place, spent = _reports(trials)
        for kind, by_end in found.items():
            for end, (low, high) in ends.items():
                values = [times[kind] for trial_id, times in spent if low <= place[trial_id] < high]
                by_end[end].append(1e3 * sum(values) / len(values))
    first, last = found["driver"].values()
    words = {"driver": "driver", "sampler": "beside it the sampler (random)", "publishing": "beside it publishing"}
    return [
        spread(f"driver per report at {trials:,} over {at} trials", "×", ratios(last, first)),
        *(
            spread(f"{words[kind]}, per report at {end} trials", "ms", values)
            for kind, by_end in found.items()
            for end, values in by_end.items()
        ),
    ]


KINDS = ("driver", "sampler", "publishing")


def _reports(trials: int) -> tuple[dict[str, int], list[tuple[str, dict[str, float]]]]:
    """One simulated sweep: each trial's number, and trial and seconds of each report."""
    from resnetlab.calibration.simulator import Truth, drive
    from resnetlab.storage.results_folder import ResultsFolder
    from resnetlab.storage.store import Store
    from resnetlab.sweep.state_machine import Sweep
    from resnetlab.sweep.task import one_dataset

    asked = study(trials, epochs=3, stopping=True)
    spent: list[tuple[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory(prefix="resnetlab-bench-") as folder:
        store = Store(ResultsFolder.at(folder), asked.space.names)
        facts = {"git_revision": "", "versions": "{}"}
        sweep = Sweep(asked, store, facts, one_dataset(asked, "0" * 16, ["a", "b"]), "explore")
        report, clock = sweep.report, sweep.clock

        def reported(trial_id: str, message: Any) -> bool:
            before = {kind: getattr(clock, kind) for kind in KINDS}
            go_on = report(trial_id, message)
            spent.append((trial_id, {kind: getattr(clock, kind) - before[kind] for kind in KINDS}))
            return bool(go_on)

        sweep.report = reported  # type: ignore[method-assign]
        drive(sweep, Truth(main={"blocks": {3: 1.0}}), slots=8)
        place = {trial_id: row["number"] for trial_id, row in store.trials.items()}
        store.close()
    return place, spent


def main() -> None:
    chosen = options(__doc__)
    book = Book("tables", chosen.quick, chosen.again)
    trials, few = (200, 50) if chosen.quick else (10_000, 1_000)
    rows = book.part("tables", lambda: tables(1 if chosen.quick else 3, trials, few))
    estimates = book.part("analyses", lambda: analyses(*((1, 200) if chosen.quick else (3, 1_000))))
    reports = book.part("driver", lambda: driver(*((1, 60, 20) if chosen.quick else (2, 2_000, 100))))
    limits = (5.0, 500.0, 10.0)
    words = ("s from rows to tables", "MiB of memory for that", "s from tables to the report's data")
    for row, limit, word in zip(rows, limits, words, strict=False):
        book.target(f"a million rows: at most {limit:g} {word}", row, limit)
    book.target("one frame at least 10 times faster than from per-trial frames", rows[-1], 10.0, at_most=False)
    book.target("all analyses of 1,000 trials at most 5 s of a core", estimates[0], 5.0)
    book.target("driver at most 1 ms per report at 100 trials", reports[1], 1.0)
    book.target("driver per report at 2,000 trials at most 1.5 times that", reports[0], 1.5)
    for row in reports[3:5]:
        book.note(row)
    book.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        print(json.dumps(WORK[sys.argv[2]](sys.argv[3], int(sys.argv[4]))))
    else:
        main()
