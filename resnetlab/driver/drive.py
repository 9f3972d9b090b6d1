"""Drive a sweep on a Ray cluster to its end, with signals and the loss of the cluster turned into an orderly stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from resnetlab.driver.checks import initial_weights, own_code, precision
from resnetlab.driver.live_view import LiveView
from resnetlab.driver.options import Options
from resnetlab.driver.session import Session
from resnetlab.driver.signals import Signals, continue_hint
from resnetlab.driver.steering import Steering
from resnetlab.errors import ClusterLost, FolderRefused, ResnetlabError
from resnetlab.experiment.messages import TrialContext
from resnetlab.ray_backend import cluster, preflight
from resnetlab.ray_backend.capacity import Capacity
from resnetlab.ray_backend.gpu.choice import choose
from resnetlab.ray_backend.watchdog import Watchdog
from resnetlab.study import Study
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.time_budget import OutOfTime
from resnetlab.vision.data import Dataset
from resnetlab.vision.training.accelerator import TORCH_TYPE, built_for


def drive(sweep: Sweep, options: Options, cache: Path, watch: LiveView, datasets: Mapping[str, Dataset]) -> None:
    """Connect to Ray and run `sweep` to the end.

    Raises Interrupted after a signal, Stopped where that was asked for, ClusterLost, and what refuses the cluster.
    """
    study, folder = sweep.study, sweep.store.folder
    facts = preflight.DriverFacts.of(folder, cache.absolute(), datasets, study.resources.on_gpu)
    session = Session(folder, study, options.began)

    def say(lost: str) -> None:
        watch.last_words(f"error: the cluster was lost: {lost}; {continue_hint()}")

    with watch.screen(folder), Watchdog(say, options.ends_process) as lifeline, Signals() as signals:

        def alive() -> None:
            lifeline.beat()
            sweep.store.lease.renew()

        with cluster.connect(options.address, study.resources, lifeline.hold, options.nodes, alive) as look:
            from resnetlab.ray_backend import backend, sharing  # import Ray, which reads its settings then

            signals.listen()
            nodes = None if options.address is None else preflight.check(facts, alive, watch.say)
            if nodes is not None:
                session.note({"nodes": nodes})
            device, gpus = _devices(sweep, session, look, nodes, partial(_shared, study, datasets, cache, alive))
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

            context = _context(facts, sweep, device, gpus, options.address is not None)
            with _recorded(sweep, session, capacity, steering), steering:
                signals.wait = True
                try:
                    time_passes()
                    backend.run(sweep, context, tick, capacity)
                except OutOfTime:
                    sweep.interrupt()
        sweep.tidy()


def _devices(
    sweep: Sweep,
    session: Session,
    look: Callable[[], list[dict[str, Any]]],
    nodes: list[dict[str, Any]] | None,
    shared: Callable[[str, list[dict[str, Any]]], tuple[float, dict[str, Any]]],
) -> tuple[str, float]:
    """What trials train on, by torch's name, and the share of a GPU that each takes.

    nodes: what preflight found; None on a cluster of this machine alone. shared: measures the share of a GPU.
    """
    resources = sweep.study.resources
    if nodes is None:
        kinds = {node["NodeID"]: built_for() for node in look()}
    else:
        kinds = {node["node_id"]: node["torch_for"] for node in nodes}
    chosen = choose(resources, look(), kinds)
    session.note({"device": chosen.kind})
    if chosen.why:
        on = "CPUs" if chosen.kind == "cpu" else f"GPUs ({chosen.kind})"
        sweep.notes.append(f"trials train on {on}: {chosen.why}")
    device, gpus = TORCH_TYPE.get(chosen.kind, chosen.kind), chosen.gpus
    if gpus == "auto":
        gpus, found = shared(device, look())
        session.note({"gpu_share": found})
        sweep.notes.append(f"{found['trials']} trials a GPU: {found['reason']}")
    return device, gpus


def _shared(
    study: Study,
    datasets: Mapping[str, Dataset],
    cache: Path,
    tick: Callable[[], None],
    device: str,
    nodes: list[dict[str, Any]],
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
def _recorded(sweep: Sweep, session: Session, capacity: Capacity, steering: Steering) -> Iterator[None]:
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
