"""Run a study: check everything, connect to Ray, drive the Sweep, leave tables. The one way in for every script."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resnetlab.data import Dataset, default_cache, prepare
from resnetlab.data import check as check_data
from resnetlab.errors import BadRequest, FolderRefused, Interrupted, ResnetlabError, TrialsFailed
from resnetlab.provenance import provenance
from resnetlab.records import Phase, Status
from resnetlab.study import Study, differences
from resnetlab.tables.folder import Folder
from resnetlab.tables.store import Store
from resnetlab.tuning.sweep import Sweep
from resnetlab.tuning.watch import Watch


@dataclass(frozen=True)
class Options:
    """How to run, not what: nothing here changes an answer."""

    storage: str = "results"
    address: str | None = None  # of a Ray cluster, or `auto`; None starts Ray on this machine
    cache: Path | None = None


def results_folder(study: Study, storage: str) -> Folder:
    """Where the study's results lie. BadRequest where the storage cannot be written."""
    root = Folder.at(storage)
    folder = root.sub(study.name)
    if root.path is not None:
        place = next(parent for parent in (folder.path, *folder.path.parents) if parent.exists())  # type: ignore[union-attr]
        if not place.is_dir() or not os.access(place, os.W_OK):
            raise BadRequest(f"--storage {storage}: {place} cannot be written")
    return folder


def check_identity(study: Study, folder: Folder) -> None:
    """FolderRefused where the folder holds results of another study, naming what differs."""
    raw = folder.read("study.json")
    if raw is None:
        return
    try:
        held = json.loads(raw)["identity"]
    except (ValueError, KeyError, TypeError):
        raise FolderRefused(f"{folder.url}/study.json: damaged; move the folder away, or use another --name") from None
    changed = differences(held, json.loads(json.dumps(study.identity())))
    if changed:
        raise FolderRefused(
            f"{folder.url}: holds results of another study under this name; use another --name, or undo:\n  "
            + "\n  ".join(changed)
        )


def run_study(study: Study, options: Options, watch: Callable[[Sweep], Watch] = Watch) -> Folder:
    """Run or continue `study`; returns the results folder, with its tables published.

    Raises a ResnetlabError that says what happened: Interrupted (with what was done kept), TrialsFailed, BadRequest, …
    """
    folder = results_folder(study, options.storage)
    check_identity(study, folder)
    check_data(study.dataset)
    cache = options.cache or default_cache()
    dataset = prepare(study.dataset, cache)
    _check_sizes(study, dataset)
    store = Store(folder, study.space.names)
    try:
        _write_study(folder, study, dataset)
        facts = _facts(dataset)
        sweep = Sweep(study, store, facts, dataset.classes)
        if _anything_to_do(sweep):
            _drive(sweep, options, cache, watch(sweep), dataset)
        if sweep.error is not None:
            raise sweep.error
        return folder
    finally:
        store.close()


def _anything_to_do(sweep: Sweep) -> bool:
    """False where a continued sweep has ended already: then Ray need not start."""
    plan = sweep.plan
    if plan is None:
        return True
    rows = sweep.store.trials.values()
    ended = [row for row in rows if row["phase"] == Phase.CONFIRM and Status(row["status"]).ended]
    return len(ended) < sweep.progress.confirm_planned


def _drive(sweep: Sweep, options: Options, cache: Path, watch: Watch, dataset: Dataset) -> None:
    """Connect to Ray and run to the end, with signals turned into an orderly stop."""
    from resnetlab.tuning import cluster, engine

    study, folder = sweep.study, sweep.store.folder
    began, started = time.monotonic(), datetime.now(UTC)
    with watch.screen(folder), _signals(), cluster.connect(options.address, study.resources) as slots:
        cluster.check_storage(folder)
        context = {
            "folder": folder.url,
            "cache": str(cache),
            "cpus": study.resources.cpus,
            "gpus": study.resources.gpus,
        }
        up = time.monotonic()

        def tick() -> None:
            sweep.store.tick()
            watch.update()

        busy = 0.0
        try:
            busy = engine.run(sweep, context, tick)
        except Interrupted:
            sweep.interrupt()
            raise
        finally:
            sweep.store.flush()
            ended = time.monotonic()
            _write_sweep(
                folder,
                started=started.isoformat(),
                ended=datetime.now(UTC).isoformat(),
                startup_seconds=up - began,
                wall_seconds=ended - up,
                slots=slots,
                busy_seconds=busy,
                data=_describe(dataset, study),
            )


def continue_hint() -> str:
    return "run the same command again to continue"


@contextmanager
def _signals() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP end the sweep in order: what ran is kept and goes on when the sweep is continued."""

    def stop(number: int, frame: Any) -> None:
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)
        raise Interrupted(f"interrupted by {signal.Signals(number).name}; {continue_hint()}")

    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {name: signal.signal(name, stop) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _check_sizes(study: Study, dataset: Dataset) -> None:
    """BadRequest for a batch that the training split cannot fill."""
    from resnetlab.seeding import stream

    n = len(dataset.split("train", stream(study.seed, "split")))
    branches = study.space["batch"].branches if "batch" in study.space.names else ()
    wanted = [v for branch in branches for v in branch.levels or (branch.high,)]
    baseline = study.config(study.baseline_values(), seed=0).batch
    largest = max([baseline, *wanted])  # type: ignore[type-var]
    if largest > n:
        raise BadRequest(
            f"batch: {largest} is more than the {n} training images of {study.dataset.name} (allowed: 1 to {n})"
        )


def _write_study(folder: Folder, study: Study, dataset: Dataset) -> None:
    identity = json.loads(json.dumps(study.identity()))
    content = study.model_dump(mode="json") | {"identity": identity, "study_hash": study.study_hash}
    raw = folder.read("study.json")
    if raw is not None:
        held = json.loads(raw).get("data_hash")
        if held != dataset.hash:
            raise FolderRefused(
                f"{folder.url}: its data has hash {held}, but {study.dataset.name} now has {dataset.hash}"
            )
    folder.write("study.json", json.dumps(content | {"data_hash": dataset.hash}, indent=2).encode())


def _facts(dataset: Dataset) -> dict[str, Any]:
    found = provenance()
    return {
        "data_hash": dataset.hash,
        "git_revision": found["git_revision"],
        "versions": json.dumps(found["versions"], sort_keys=True),
    }


def _describe(dataset: Dataset, study: Study) -> dict[str, Any]:
    from resnetlab.seeding import stream

    seed = stream(study.seed, "split")
    sizes = {name: len(dataset.split(name, seed)) for name in ("train", "val", "test")}
    return {
        "name": study.dataset.name,
        "hash": dataset.hash,
        "classes": list(dataset.classes),
        "shape": list(dataset.shape),
        **sizes,
    }


def _write_sweep(folder: Folder, **session: Any) -> None:
    """Append this session to sweep.json; a sweep that was continued has several."""
    raw = folder.read("sweep.json")
    sessions = json.loads(raw)["sessions"] if raw else []
    content = {"sessions": [*sessions, provenance() | session]}
    folder.write("sweep.json", json.dumps(content, indent=2).encode())


def summary(folder: Folder, study: Study) -> ResnetlabError | None:
    """TrialsFailed where not one trial reached the full budget."""
    from resnetlab.tables.store import read_table

    trials = read_table(folder, "trials")
    statuses = trials["status"].to_pylist() if trials is not None else []
    if Status.COMPLETE in statuses:
        return None
    return TrialsFailed(f"{study.name}: none of {len(statuses)} trials reached the full budget")
