"""Peers of our search, as their documentation uses them, behind one interface. Each is told a trial's accuracy after
every epoch and says whether it goes on. The packages that are not ours are found in build/syne-tune and build/peers,
where `make bench` puts them; those that are not there are left out."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import optuna
from search_worlds import World

from resnetlab.calibration.simulator import Memory
from resnetlab.experiment.messages import Ending, Report, Task
from resnetlab.study.records import EpochRecord, Status
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import one_dataset

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "build" / name) for name in ("syne-tune", "peers")]


@dataclass
class Proposal:
    """key: what the searcher knows the trial by. epoch: after which it goes on; `curve` is then that of its run."""

    key: Any
    values: dict[str, Any]
    epoch: int = 0
    curve: np.ndarray | None = None


class Searcher(Protocol):
    def next(self) -> Proposal | None:
        """None where there is nothing to start now."""
        ...

    def report(self, trial: Proposal, epoch: int, value: float) -> bool:
        """Whether the trial goes on."""
        ...

    def diverged(self, trial: Proposal) -> None: ...


class Ours:
    """The sweep's own state machine, with a study's `search` section."""

    def __init__(self, world: World, seed: int, trials: int, **search: Any):
        self._study = world.study(seed, trials, **search)
        data = one_dataset(self._study, "simulated", ["a", "b"])
        record = {"git_revision": "", "versions": "{}"}
        self._sweep = Sweep(self._study, Memory(), record, data, "explore")  # type: ignore[arg-type]
        self._begun: dict[str, Proposal] = {}

    def next(self) -> Proposal | None:
        task = self._sweep.next()
        if self._sweep.error is not None:
            raise self._sweep.error
        if task is None:
            return None
        if (trial := self._begun.get(task.trial_id)) is None:
            values = {name: getattr(task.config, name) for name in self._study.space.names}
            trial = self._begun[task.trial_id] = Proposal(task, self._study.space.active(values))
        trial.epoch = task.recorded
        return trial

    def report(self, trial: Proposal, epoch: int, value: float) -> bool:
        record = EpochRecord(
            epoch=epoch, train_loss=1.0, train_accuracy=value, val_loss=1.0, val_accuracy=value, lr=0.1,
            train_seconds=1.0, eval_seconds=0.1, images_per_second=1.0, peak_memory=1,
        )  # fmt: skip
        return self._sweep.report(trial.key.trial_id, Report((record,)))

    def diverged(self, trial: Proposal) -> None:
        task: Task = trial.key
        self._sweep.report(task.trial_id, Report(ending=Ending(Status.DIVERGED, "loss is nan (simulated)")))


def drawn(world: World, rng: np.random.Generator) -> dict[str, Any]:
    """Random values."""
    values = {name: levels[rng.integers(len(levels))] for name, levels in world.choices.items()}
    lr = world.lr(values)
    return values | {"lr": float(np.exp(rng.uniform(np.log(lr.low), np.log(lr.high))))}


class FullBudget:
    """Random values; every trial runs to its end."""

    def __init__(self, world: World, seed: int, trials: int):
        self._world, self._rng = world, np.random.default_rng(seed)

    def next(self) -> Proposal | None:
        return Proposal(None, drawn(self._world, self._rng))

    def report(self, trial: Proposal, epoch: int, value: float) -> bool:
        return epoch < self._world.epochs

    def diverged(self, trial: Proposal) -> None: ...


class Optunas:
    """Optuna: TPE, and a pruner that is asked after every epoch."""

    def __init__(self, world: World, seed: int, trials: int, pruner: optuna.pruners.BasePruner):
        self._world = world
        sampler = optuna.samplers.TPESampler(seed=seed)
        self._study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)

    def next(self) -> Proposal | None:
        trial = self._study.ask()
        values = {name: trial.suggest_categorical(name, levels) for name, levels in self._world.choices.items()}
        lr = self._world.lr(values)
        name = f"lr_{self._world.ranges.index(lr)}"
        return Proposal(trial, values | {"lr": trial.suggest_float(name, lr.low, lr.high, log=True)})

    def report(self, trial: Proposal, epoch: int, value: float) -> bool:
        trial.key.report(value, epoch)
        if epoch == self._world.epochs:
            self._study.tell(trial.key, value)
        elif trial.key.should_prune():
            self._study.tell(trial.key, state=optuna.trial.TrialState.PRUNED)
            return False
        return epoch < self._world.epochs

    def diverged(self, trial: Proposal) -> None:
        self._study.tell(trial.key, state=optuna.trial.TrialState.FAIL)


class RayTunes:
    """Random values, Ray Tune's default, and its ASHA scheduler without the rest of Ray."""

    def __init__(self, world: World, seed: int, trials: int, brackets: int):
        from ray.tune.schedulers import AsyncHyperBandScheduler

        np.random.seed(seed)  # it draws brackets from NumPy's global generator
        self._world, self._rng, self._number = world, np.random.default_rng(seed), 0
        self._scheduler = AsyncHyperBandScheduler(
            "epoch", "accuracy", "max", max_t=world.epochs, grace_period=1, reduction_factor=3, brackets=brackets
        )

    def next(self) -> Proposal | None:
        self._number += 1
        trial = SimpleNamespace(trial_id=str(self._number))
        self._scheduler.on_trial_add(None, trial)
        return Proposal(trial, drawn(self._world, self._rng))

    def report(self, trial: Proposal, epoch: int, value: float) -> bool:
        said = self._scheduler.on_trial_result(None, trial.key, {"epoch": epoch, "accuracy": value})
        return said == "CONTINUE"

    def diverged(self, trial: Proposal) -> None:
        self._scheduler.on_trial_remove(None, trial.key)


def config_space(world: World, seed: int) -> Any:
    """For ConfigSpace, levels by their place."""
    import ConfigSpace

    space = ConfigSpace.ConfigurationSpace(seed=seed)
    for name, levels in world.choices.items():
        space.add(ConfigSpace.Categorical(name, list(range(len(levels)))))
    for at, one in enumerate(world.ranges):
        lr = ConfigSpace.Float(f"lr_{at}", (one.low, one.high), log=True)
        space.add(lr)
        if one.when:
            ((parent, level),) = one.when
            space.add(ConfigSpace.EqualsCondition(lr, space[parent], world.choices[parent].index(level)))
    return space


def of_config_space(world: World, config: Any) -> dict[str, Any]:
    values = {name: levels[int(config[name])] for name, levels in world.choices.items()}
    return values | {"lr": float(config[f"lr_{world.ranges.index(world.lr(values))}"])}


class RayBohb(RayTunes):
    """Ray Tune's BOHB searcher. It hears a trial's accuracy at the rungs of the ASHA scheduler, in place of Ray's
    synchronous Hyperband, which only its controller can run."""

    def __init__(self, world: World, seed: int, trials: int):
        from ray.tune.search.bohb import TuneBOHB

        super().__init__(world, seed, trials, 1)
        self._searcher = TuneBOHB(config_space(world, seed), metric="accuracy", mode="max")

    def next(self) -> Proposal | None:
        trial = super().next()
        assert trial is not None
        config = self._searcher.suggest(trial.key.trial_id)
        return Proposal(trial.key, of_config_space(self._world, config))

    def report(self, trial: Proposal, epoch: int, value: float) -> bool:
        told: dict[str, Any] = {"epoch": epoch, "accuracy": value}
        told["hyperband_info"] = {"budget": epoch} if epoch in (1, 3, 9, self._world.epochs) else {}
        self._searcher.on_trial_result(trial.key.trial_id, told)
        goes_on = super().report(trial, epoch, value)
        if not goes_on:
            self._searcher.on_trial_complete(trial.key.trial_id, told)
        return goes_on

    def diverged(self, trial: Proposal) -> None:
        super().diverged(trial)
        self._searcher.on_trial_complete(trial.key.trial_id, error=True)


class SyneTunes:
    """A scheduler of Syne Tune. It has no conditions: each learning rate is drawn, and the one that holds is used."""

    def __init__(self, world: World, seed: int, trials: int, name: str):
        from syne_tune.config_space import choice, loguniform
        from syne_tune.optimizer import baselines

        np.random.seed(seed)  # it draws brackets from NumPy's global generator
        self._world, self._number = world, 0
        space = {one: choice([str(level) for level in levels]) for one, levels in world.choices.items()}
        space |= {f"lr_{at}": loguniform(one.low, one.high) for at, one in enumerate(world.ranges)}
        self._scheduler = getattr(baselines, name)(
            space, "accuracy", time_attr="epoch", max_t=world.epochs, do_minimize=False, random_seed=seed
        )

    def next(self) -> Proposal | None:
        from syne_tune.backend.trial_status import Trial

        config = self._scheduler.suggest().config
        trial = Trial(self._number, config, datetime.now())
        self._number += 1
        self._scheduler.on_trial_add(trial)
        values = {
            name: next(level for level in levels if str(level) == config[name])
            for name, levels in self._world.choices.items()
        }
        lr = self._world.ranges.index(self._world.lr(values))
        return Proposal(trial, values | {"lr": float(config[f"lr_{lr}"])})

    def report(self, trial: Proposal, epoch: int, value: float) -> bool:
        result = {"epoch": epoch, "accuracy": value}
        if epoch == self._world.epochs:
            self._scheduler.on_trial_complete(trial.key, result)
            return False
        return self._scheduler.on_trial_result(trial.key, result) == "CONTINUE"

    def diverged(self, trial: Proposal) -> None:
        self._scheduler.on_trial_error(trial.key)
        self._scheduler.on_trial_remove(trial.key)


class Smacs:
    """SMAC's multi-fidelity optimizer (random forest, Hyperband). A setting that it asks for at a larger budget goes on
    from where it stood, though SMAC itself would have it trained anew."""

    def __init__(self, world: World, seed: int, trials: int):
        from smac import MultiFidelityFacade, Scenario

        self._world = world
        scenario = Scenario(
            config_space(world, seed), deterministic=True, n_trials=trials, min_budget=1, max_budget=world.epochs,
            seed=seed, output_directory=ROOT / "build" / "smac" / f"{world.name}-{seed}",
        )  # fmt: skip
        intensifier = MultiFidelityFacade.get_intensifier(scenario, eta=3)
        self._smac = MultiFidelityFacade(
            scenario, lambda config, seed, budget: 0.0, intensifier=intensifier, overwrite=True, logging_level=False
        )
        self._begun: dict[Any, Proposal] = {}

    def next(self) -> Proposal | None:
        info = self._smac.ask()
        trial = self._begun.setdefault(info.config, Proposal(info, of_config_space(self._world, info.config)))
        trial.key = info
        return trial

    def report(self, trial: Proposal, epoch: int, value: float) -> bool:
        from smac.runhistory.dataclasses import TrialValue

        trial.epoch = epoch
        if epoch >= min(round(trial.key.budget), self._world.epochs):
            self._smac.tell(trial.key, TrialValue(cost=1 - value))
            return False
        return True

    def diverged(self, trial: Proposal) -> None:
        from smac.runhistory.dataclasses import TrialValue
        from smac.runhistory.enumerations import StatusType

        self._smac.tell(trial.key, TrialValue(cost=1.0, status=StatusType.CRASHED))


def _pruned(make: Callable[[World], optuna.pruners.BasePruner]) -> Callable[[World, int, int], Searcher]:
    return lambda world, seed, trials: Optunas(world, seed, trials, make(world))


Make = Callable[[World, int, int], Searcher]
RULES = ("asha", "asha-promotion", "hyperband", "median", "rising", "none")
OURS: dict[str, Make] = {
    f"ours, tpe, {rule}": lambda world, seed, trials, rule=rule: Ours(world, seed, trials, sampler="tpe", stopping=rule)
    for rule in RULES
}
OURS |= {
    f"ours, linear, {rule}": lambda world, seed, trials, rule=rule: Ours(
        world, seed, trials, sampler="linear", stopping=rule
    )
    for rule in ("asha", "asha-promotion", "hyperband", "none")
}
OURS["ours, linear, asha-promotion, audit 0.1"] = lambda world, seed, trials: Ours(
    world, seed, trials, sampler="linear", stopping="asha-promotion", audit=0.1
)
PEERS: dict[str, Make] = {
    "random at full budget": FullBudget,
    "Optuna TPE, successive halving": _pruned(
        lambda world: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    ),
    "Optuna TPE, Hyperband": _pruned(
        lambda world: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=world.epochs, reduction_factor=3)
    ),
    "Optuna TPE, median pruner": _pruned(lambda world: optuna.pruners.MedianPruner()),
    "Ray Tune ASHA": lambda world, seed, trials: RayTunes(world, seed, trials, 1),
    "Ray Tune asynchronous Hyperband": lambda world, seed, trials: RayTunes(world, seed, trials, 2),
}
SLOW: dict[str, Make] = {}  # a proposal takes a tenth of a second and more
if importlib.util.find_spec("syne_tune"):
    PEERS["Syne Tune ASHA"] = lambda world, seed, trials: SyneTunes(world, seed, trials, "ASHA")
    SLOW["Syne Tune ASHACQR"] = lambda world, seed, trials: SyneTunes(world, seed, trials, "ASHACQR")
    SLOW["Syne Tune BOHB"] = lambda world, seed, trials: SyneTunes(world, seed, trials, "BOHB")
if importlib.util.find_spec("hpbandster"):
    SLOW["Ray Tune BOHB"] = RayBohb
if importlib.util.find_spec("smac"):
    SLOW["SMAC, multi-fidelity"] = Smacs
