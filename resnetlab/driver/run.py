"""Run a study: check everything, connect to Ray, drive the Sweep, leave tables. The one way in for every script."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetlab.analysis.confirm.power import enough_seeds
from resnetlab.commands import whereabouts
from resnetlab.driver import duplicate_arms, initial_weights, own_code, precision, request, warm_start
from resnetlab.driver.dataset_record import compared, guessing, image_table, known, noted, starts
from resnetlab.driver.extend import check_identity
from resnetlab.driver.live_view import LiveView
from resnetlab.driver.steering import Steering
from resnetlab.errors import (
    BadRequest,
    CannotWrite,
    ClusterLost,
    FolderRefused,
    Interrupted,
    NodeRefused,
    OtherData,
    ResnetlabError,
    StorageLost,
    TrialsFailed,
)
from resnetlab.experiment.messages import TrialContext
from resnetlab.paths import user_path
from resnetlab.provenance import code_version, command_line, provenance
from resnetlab.ray_backend import cluster, preflight
from resnetlab.ray_backend.capacity import Capacity, check_slots
from resnetlab.ray_backend.gpu.choice import choose
from resnetlab.ray_backend.watchdog import Watchdog
from resnetlab.search import cma_es
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store, write_table
from resnetlab.study import Study
from resnetlab.study.extension import Extension
from resnetlab.study.records import Status
from resnetlab.sweep import extended
from resnetlab.sweep.state_machine import Stage, Sweep
from resnetlab.sweep.task import data_key
from resnetlab.sweep.time_budget import UNLIMITED, OutOfTime, TimeBudget, Unlimited
from resnetlab.vision.data import Dataset, default_cache, prepare
from resnetlab.vision.data import check as check_data
from resnetlab.vision.training import kept_weights
from resnetlab.vision.training.accelerator import TORCH_TYPE, built_for

if TYPE_CHECKING:
    from resnetlab.vision.models.pretrained import Weights

RECORD = 30.0  # seconds between two writings of sweep.json
RECORD_SHARE = 0.01  # of a time budget, which a kill may lose at most


@dataclass(frozen=True)
class Options:
    """How to run, not what: nothing here changes an answer."""

    storage: str = "results"
    address: str | None = None  # of a Ray cluster, or `auto`; None starts Ray on this machine
    nodes: int = 1  # that the cluster should have before the first trial
    slots: int | None = None  # the most trials that may run at once; None for as many as fit
    cache: Path | None = None
    stage: Stage = "all"
    weights: Path | None = None  # a file, for trials that ask for torchvision's weights by name
    retry_failed: bool = False  # run trials again that failed or ran out of memory
    accept_changed_code: bool = False  # go on with results that other code of the study's own began
    extend: bool = False  # go on with results of a study that asked for less
    ends_process: bool = True  # this process ends with the run; a notebook's goes on
    began: float = field(default_factory=time.monotonic)  # when the run was asked for, by this clock


def results_folder(study: Study, storage: str) -> ResultsFolder:
    """Where the study's results lie. BadRequest where the storage cannot be written."""
    if not storage.strip():
        raise BadRequest("--storage: is empty (allowed: a folder or a URL)")
    root = ResultsFolder.at(storage)
    folder = root.sub(study.name)
    if root.path is not None:
        place = next(parent for parent in (folder.path, *folder.path.parents) if parent.exists())  # type: ignore[union-attr]
        try:
            tempfile.TemporaryFile(dir=place).close()  # permissions do not tell: root may write anywhere but in /proc
        except OSError:
            raise BadRequest(f"--storage {storage}: {place} cannot be written") from None
        return folder
    try:
        folder.exists()
    except StorageLost:
        raise
    except OSError as error:
        raise BadRequest(f"--storage {error}") from None
    return folder


def _open_store(folder: ResultsFolder, study: Study) -> Store:
    try:
        say = partial(print, file=sys.stderr, flush=True)
        return Store(folder, study.columns, say, study.own_columns, study.measures)
    except StorageLost:
        raise
    except OSError as error:
        raise BadRequest(f"--storage {error}") from None


def _absolute(study: Study) -> Study:
    """The study with the places of its data made absolute: workers run in folders of their own."""

    def places(data: Mapping[str, Any], option: str) -> dict[str, str]:
        given = {name: data[name] for name in ("root", "font_dir") if data.get(name) is not None}
        return {name: str(user_path(place, f"{option}.{name}")) for name, place in given.items()}

    if study.dataset is None:
        return study
    dataset = study.dataset.model_copy(update=places(study.dataset.model_dump(), "dataset"))
    arms = {
        name: arm | ({"data": arm["data"] | places(arm["data"], f"arms.{name}.data")} if "data" in arm else {})
        for name, arm in study.arms.items()
    }
    return study.model_copy(update={"dataset": dataset, "arms": arms})


@dataclass(frozen=True)
class Accepted:
    """A study that can be run as asked. content: what data.json has to say; changed: accepted, in the study's code.
    warm: what `warm_start` has read. extension: what it asks beyond the study whose results the folder holds."""

    study: Study
    folder: ResultsFolder
    datasets: dict[str, Dataset]
    content: dict[str, Any]
    weights: Weights | None
    changed: list[str]
    warm: dict[str, Any]
    extension: Extension | None = None


def accept(study: Study, options: Options, dry: bool = False) -> Accepted:
    """The one gate of a run and a dry run: everything that refuses a study before anything runs. Prepares the data.

    dry: contact no cluster. Raises BadRequest, BadData, FolderRefused, StorageLost.
    """
    request.check_stage(study, options.stage)
    TimeBudget.check_length(study)
    request.check_gpus(study)
    check_slots(options.slots)
    cma_es.check_installed(study)
    file = None if options.weights is None else user_path(options.weights, "--weights")
    study, weights = initial_weights.given(_absolute(study), file)
    duplicate_arms.check(study)
    folder = results_folder(study, options.storage)
    study = initial_weights.resumed(study, folder)
    extension = check_identity(study, folder, options.extend)
    changed = own_code.accept(study, folder, options.accept_changed_code)
    cluster.check_reachable(options.address, study.resources, contact=not dry)
    precision.check(study)
    cache = options.cache or default_cache()
    configs = list(starts(study).values())
    for config in configs:
        check_data(config.data)
    wanted = {data_key(config): config.data for config in configs}
    datasets = {key: prepare(data, cache, whole=not dry) for key, data in wanted.items()}
    request.check_sizes(study, datasets)
    request.check_splits(study, datasets)
    content = compared(folder, study, datasets)
    initial_weights.check(study, datasets, weights, folder)
    warm = warm_start.read(study, folder, {content_hash for content_hash, _ in known(datasets).values()})
    if study.own.parts and not study.experiment:
        from resnetlab.driver.dry_run import own_networks

        sizes = {key: (found.shape, found.n_classes) for key, found in datasets.items()}
        one, *others = ([(each, *sizes[data_key(each)]) for each in some] for some in (configs, own_networks(study)))
        own_code.tried(study, one, cache, *others)
    return Accepted(study, folder, datasets, content, weights, changed, warm, extension)


def run_study(study: Study, options: Options, watch: Callable[[Sweep], LiveView] = LiveView) -> ResultsFolder:
    """Run or continue `study`; returns the results folder, with its tables published.

    Raises a ResnetlabError that says what happened: Interrupted (with what was done kept), TrialsFailed, BadRequest, …
    """
    taken = accept(study, options)
    study, folder, datasets, content = taken.study, taken.folder, taken.datasets, taken.content
    cache = options.cache or default_cache()
    fresh = not folder.exists()
    store = _open_store(folder, study)
    try:
        data = known(datasets)
        version = _write_study(store, study, {content_hash for content_hash, _ in data.values()}, taken.extension)
        folder.write_json("data.json", content)
        if len(files := image_table(study, datasets)):
            write_table(folder, "images", files)
        own_code.keep(folder, study, taken.changed)
        kept_weights.keep(folder, taken.weights)
        warm_start.keep(folder, taken.warm)
        sweep = Sweep(
            study,
            store,
            _facts() | {"study_version": version},
            data,
            options.stage,
            code_version(),
            retry=options.retry_failed,
            guessing=guessing(study, datasets),
            code_place=cache / "code",
            warm=warm_start.trials(taken.warm),
            time=_time(study, folder, options.began),
        )
        sweep.time.check_enough(store.trials)
        shown = watch(sweep)
        for line in noted(content):
            shown.say(f"data: {line}")
        if sweep.needs_workers:
            _drive(sweep, options, cache, shown, datasets)
        else:
            sweep.next()
        if sweep.error is not None:
            raise sweep.error
        sweep.time.check_enough(store.trials)
        if store.trials and not sweep.counts().get(Status.COMPLETE):
            raise TrialsFailed(f"{study.name}: none of {len(store.trials)} trials reached the full budget")
        store.close()
        return folder
    except BaseException as error:
        with suppress(FolderRefused):  # what is in flight says more
            store.close()
            if fresh and not store.trials:  # refused before the first trial: leave nothing behind
                folder.remove()
        if isinstance(error, CannotWrite):
            first = "" if isinstance(error, StorageLost) else "make room, then "
            raise type(error)(f"{error}. What was recorded is safe; {first}{continue_hint()}") from None
        if isinstance(error, (NodeRefused, OtherData)) and store.trials:
            raise type(error)(f"{error}; then {continue_hint()}") from None
        raise


def _time(study: Study, folder: ResultsFolder, began: float) -> Unlimited:
    """The study's time budget, less what earlier sessions took."""
    if not study.time_budget:
        return UNLIMITED
    sessions = (folder.read_json("sweep.json") or {}).get("sessions", [])
    return TimeBudget(study, sum(map(_used, sessions)), began, enough=enough_seeds)


def _used(session: Mapping[str, Any]) -> float:
    """Seconds that a session took, its start included."""
    before = (session.get("startup_seconds") or 0.0) + (session.get("wall_seconds") or 0.0)
    return float(session.get("used_seconds") or before)


def _shared(
    study: Study,
    datasets: Mapping[str, Dataset],
    cache: Path,
    device: str,
    nodes: list[dict[str, Any]],
    tick: Callable[[], None],
) -> tuple[float, dict[str, Any]]:
    """The share of a GPU that a trial gets where it is to be measured, and what was seen."""
    from resnetlab.driver import dry_run
    from resnetlab.ray_backend.gpu import packing, probe

    cpus = study.resources.cpus
    on_a_gpu = probe.RayProbe(
        dry_run.heaviest(study, datasets), cache.absolute(), cpus, device, code=own_code.source(study), tick=tick
    )
    chosen, seen = packing.measure(on_a_gpu, packing.cpus_for(nodes, cpus))
    return chosen.gpus, packing.record(chosen, seen)


def _drive(sweep: Sweep, options: Options, cache: Path, watch: LiveView, datasets: Mapping[str, Dataset]) -> None:
    """Connect to Ray and run to the end, with signals and the loss of the cluster turned into an orderly stop."""
    study, folder = sweep.study, sweep.store.folder
    facts = preflight.DriverFacts.of(folder, cache.absolute(), datasets, study.resources.on_gpu)
    session = _Session(folder, study, options.began)

    def say(lost: str) -> None:
        watch.last_words(f"error: the cluster was lost: {lost}; {continue_hint()}")

    with watch.screen(folder), Watchdog(say, options.ends_process) as lifeline, _Signals() as signals:

        def alive() -> None:
            lifeline.beat()
            sweep.store.lease.renew()

        with cluster.connect(options.address, study.resources, lifeline.hold, options.nodes, alive) as look:
            from resnetlab.ray_backend import backend, sharing  # import Ray, which reads its settings then

            signals.listen()
            kinds = {node["NodeID"]: built_for() for node in look()}
            if options.address is not None:
                nodes = preflight.check(facts, alive, watch.say)
                session.note({"nodes": nodes})
                kinds = {node["node_id"]: node["torch_for"] for node in nodes}
            chosen = choose(study.resources, look(), kinds)
            session.note({"device": chosen.kind})
            if chosen.why:
                on = "CPUs" if chosen.kind == "cpu" else f"GPUs ({chosen.kind})"
                sweep.notes.append(f"trials train on {on}: {chosen.why}")
            device, gpus = TORCH_TYPE.get(chosen.kind, chosen.kind), chosen.gpus
            if gpus == "auto":
                gpus, found = _shared(study, datasets, cache, device, look(), alive)
                session.note({"gpu_share": found})
                sweep.notes.append(f"{found['trials']} trials a GPU: {found['reason']}")
            settled = study.resources.model_copy(update={"gpus": gpus, "device": None})
            precision.check(study.model_copy(update={"resources": settled}))
            capacity = Capacity(settled, look, sweep.notes.append, options.slots)
            shared = None if options.address is None else sharing.Sharing(study.name, sweep.notes.append)
            steering = Steering(sweep, capacity, continue_hint, shared)

            def time_passes() -> None:
                mine = capacity.slots if capacity.share is None else min(capacity.slots, capacity.share)
                sweep.time.passes(mine, steering.paused_seconds)

            def tick() -> None:
                signals.check()
                lifeline.beat()
                sweep.store.tick()
                steering.tick()
                time_passes()
                session.tick()
                watch.update()

            with _recorded(sweep, session, capacity, steering), steering:
                signals.wait = True
                try:
                    time_passes()
                    backend.run(
                        sweep, _context(facts, sweep, device, gpus, options.address is not None), tick, capacity
                    )
                except OutOfTime:
                    sweep.interrupt()


def _context(facts: preflight.DriverFacts, sweep: Sweep, device: str, gpus: float, shared: bool) -> TrialContext:
    """What every trial is told. shared: on a cluster, whose nodes may leave: none takes more than an epoch with it."""
    resources = sweep.study.resources
    return TrialContext(
        folder=facts.folder.place,
        cache=facts.cache,
        cpus=resources.cpus,
        gpus=gpus,
        epoch_timeout_s=resources.epoch_timeout_s,
        device=device,
        versions=preflight.decisive(),
        compile=resources.compile,
        every_epoch=shared,
        contents=initial_weights.contents(facts.folder, sweep.store.trials.values()),
        code=own_code.version(sweep.study),
        metrics=sweep.study.scored,
        confirmed=sweep.study.confirmed_score,
        last_epochs=sweep.study.confirm.last_epochs,
        numbers=tuple(sweep.study.numbers),
    )


@contextmanager
def _recorded(sweep: Sweep, session: _Session, capacity: Capacity, steering: Steering) -> Iterator[None]:
    """Around the run on a cluster that is up: however it ends, what ran is on disk, and when it ended."""
    session.cluster_up(sweep, capacity, steering)
    try:
        yield
    except ResnetlabError as error:
        sweep.interrupt()
        with suppress(FolderRefused):
            sweep.store.flush()
            session.write(ended=True)
        if isinstance(error, ClusterLost):
            raise ClusterLost(f"the cluster was lost: {error}; {continue_hint()}") from None
        raise
    sweep.store.flush()
    session.write(ended=True)


def continue_hint() -> str:
    command = command_line().replace(" --retry-failed", "")
    return f"continue with: {command}" if command else "run the same study again to continue it"


class _Signals:
    """SIGINT, SIGTERM and SIGHUP end the sweep in order: what ran is kept and goes on when the sweep is continued.

    While Tune's loop runs, a signal is kept until the next round: an exception in the midst of Ray's compiled code
    comes out as something else. A second signal does not wait.

    When Ray starts it takes SIGTERM for itself: with a Python handler that ends the process, and a compiled one
    under it that has it killed three seconds later by an alarm. So `listen` is called again once Ray runs.

    Python lets only the main thread handle signals: a sweep in another leaves them to whoever runs it.
    """

    NAMES = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.wait = False
        self._caught: signal.Signals | None = None

    def __enter__(self) -> _Signals:
        handlers = {name: signal.getsignal(name) for name in self.NAMES}
        taken = threading.current_thread() is threading.main_thread()
        self._before = {
            name: handler
            for name, handler in handlers.items()
            if taken and handler is not signal.SIG_IGN  # nohup
        }
        self.listen()
        return self

    def listen(self) -> None:
        """From now on, a signal comes here first."""
        for name in self._before:
            signal.signal(name, self._catch)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        signal.alarm(0)
        for name, handler in self._before.items():
            signal.signal(name, handler)
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:  # while Ray started
            self._caught = signal.SIGTERM
            self.check()

    def _catch(self, number: int, frame: Any) -> None:
        signal.alarm(0)
        again = self._caught is not None
        self._caught = signal.Signals(number)
        if again or not self.wait:
            self.check()

    def check(self) -> None:
        """Raise Interrupted where a signal has come."""
        if self._caught is not None:
            raise Interrupted(f"interrupted by {self._caught.name}; {continue_hint()}")


def _write_study(store: Store, study: Study, hashes: set[str], extension: Extension | None) -> int:
    """study.json, before the first row; the version of the study. extension: what it asks beyond the one before. Raises
    FolderRefused where a folder with rows lacks it, or rows are of another study, BadData where they are of other data
    than the datasets with these `hashes`."""
    folder = store.folder
    request.check_rows(study, folder, list(store.trials.values()), hashes)
    return extended.write_study(store, study, extension)


def _facts() -> dict[str, Any]:
    found = provenance()
    return {"git_revision": found["git_revision"], "versions": json.dumps(found["versions"], sort_keys=True)}


class _Session:
    """This run in sweep.json. A sweep that was continued has several; the top level sums them up."""

    def __init__(self, folder: ResultsFolder, study: Study, asked: float):
        self._folder, self._asked = folder, asked
        self._began = self._written = time.monotonic()
        self._earlier = (folder.read_json("sweep.json") or {}).get("sessions", [])
        data = study.dataset
        here = whereabouts(folder.path, None if data is None else data.root or data.font_dir)
        self._content: dict[str, Any] = provenance() | here | {"started": datetime.now(UTC).isoformat(), "ended": None}

    def note(self, more: Mapping[str, Any]) -> None:
        self._content |= more

    def cluster_up(self, sweep: Sweep, capacity: Capacity, steering: Steering) -> None:
        self._sweep, self._capacity, self._steering = sweep, capacity, steering
        self._every = min(RECORD, RECORD_SHARE * sweep.time.seconds)
        now = time.monotonic()
        self._content |= {"slots": capacity.slots, "startup_seconds": now - self._began}
        self._began = now
        self.write(ended=False)

    def tick(self) -> None:
        """Call often: writes when nodes, requests or other sweeps change, and every `RECORD` seconds, so that a sweep
        that waits says for what."""
        content, sweep = self._content, self._sweep
        changed = len(self._capacity.log) != len(content["node_changes"]) or sweep.paused != content["paused"]
        changed |= bool(sweep.shared) != bool(content["shared"])
        if changed or time.monotonic() - self._written > self._every:
            self.write(ended=False)

    def write(self, ended: bool) -> None:
        sweep, now = self._sweep, time.monotonic()
        waiting = {"trials": 0 if ended else sweep.queued, "for": "" if ended else sweep.waits_for}
        self._content |= {
            "wall_seconds": now - self._began,
            "busy_seconds": sweep.clock.busy,
            "reports": sweep.clock.reports,
            "report_seconds": sweep.clock.driver,
            "sampler_seconds": sweep.clock.sampler,
            "publish_seconds": sweep.clock.publishing,
            "paused_seconds": self._steering.paused_seconds,
            "paused": sweep.paused and not ended,
            "shared": "" if ended else sweep.shared,
            "waiting": waiting,
            "node_changes": list(self._capacity.log),
            "used_seconds": now - self._asked - self._steering.paused_seconds,
        }
        if (budget := sweep.time.record()) is not None:
            self._content["time_budget"] = budget
        self._written = now
        if ended:
            self._content["ended"] = datetime.now(UTC).isoformat()
        sessions = [*self._earlier, self._content]
        totals = {name: sum(s.get(name) or 0.0 for s in sessions) for name in ("wall_seconds", "busy_seconds")}
        totals["used_seconds"] = sum(map(_used, sessions))
        data = self._folder.read_json("data.json")
        content = self._content | totals | {"started": sessions[0]["started"], "data": data, "sessions": sessions}
        self._folder.write_json("sweep.json", content)
