"""Optuna, asked and told the truth: stopped trials are PRUNED with all their values, and a study is rebuilt from rows.

Ray's own `OptunaSearch` tells Optuna that a trial stopped by ASHA is COMPLETE with its truncated value, leaves a trial
with a NaN for ever RUNNING, and can be continued only from a pickle. Nothing is pickled here.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from time import perf_counter
from typing import Any, Literal, TypeVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from pydantic import ValidationError

from resnetlab.errors import BadRequest
from resnetlab.search.cma_es import CmaEs, Ended
from resnetlab.search.linear_model import LinearModel
from resnetlab.study import Study
from resnetlab.study.grid import combinations
from resnetlab.study.records import Status
from resnetlab.study.seeding import stream
from resnetlab.study.settings import typed_settings
from resnetlab.study.space import Branch, Factor
from resnetlab.study.yaml_io import first_problem

MAX_ASKS = 200  # proposals that may be infeasible or repeated in a row before the study is called empty
REPEATED = 10  # proposals in a row that repeat others, before what is left is looked for

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

STATES = {
    Status.COMPLETE: TrialState.COMPLETE,
    Status.STOPPED: TrialState.PRUNED,
    Status.DIVERGED: TrialState.FAIL,
    Status.OUT_OF_MEMORY: TrialState.FAIL,
    Status.FAILED: TrialState.FAIL,
}


Direction = Literal["maximize", "minimize"]
Propose = Callable[[list[tuple[Mapping[str, Any], float | None]], int], Mapping[str, Any]]  # of `ended`, and a seed
MakeSampler = Callable[[int], optuna.samplers.BaseSampler]  # of a seed
WarmTrial = tuple[Mapping[str, Any], Iterable[tuple[int, float]]]  # a row of a trials table, its (epoch, value) pairs
Method = TypeVar("Method", bound=Callable[..., Any])


def _timed(method: Method) -> Method:
    @wraps(method)
    def counted(search: OptunaSampler, *arguments: Any) -> Any:
        began = perf_counter()
        try:
            return method(search, *arguments)
        finally:
            search.seconds += perf_counter() - began

    return counted  # type: ignore[return-value]


class OptunaSampler:
    """Proposals for one study. The first is always the baseline. `seconds`: that proposing and telling have taken.

    propose: of the study's own, in place of Optuna's samplers, which then only keep the record. make: an Optuna sampler
    that the study refers to. warm: ended trials of other sweeps, told as what they are; nothing else is made of them.
    """

    def __init__(
        self,
        study: Study,
        propose: Propose | None = None,
        make: MakeSampler | None = None,
        warm: Sequence[WarmTrial] = (),
    ):
        self.study = study
        self.seconds = 0.0
        self._space = study.space
        self._second = study.search.second_objective
        first: Direction = "minimize" if study.searched.better == "lower" else "maximize"
        directions: list[Direction] = [first, "minimize"] if self._second else [first]
        self.optuna = optuna.create_study(directions=directions, study_name=study.name)
        self._asked: dict[str, optuna.Trial] = {}
        self._values: dict[str, dict[int, float]] = {}
        self._grid = study.grid if study.search.sampler == "grid" else None
        self.infeasible: list[str] = []
        self.why_ended = ""
        self._propose, self._make = propose, make
        self._points: dict[str, tuple[int, dict[str, Any]]] = {}  # number and values of each trial that is under way
        self._ended: dict[int, Ended] = {}  # by number
        self._known: set[frozenset[tuple[str, Any]]] = set()  # what runs or has run
        self._linear: LinearModel | None = None
        if study.search.sampler == "linear":
            self._linear = LinearModel(self._space, study.search.epochs, study.searched.sign)
        self._warm = [self._told(row, epochs) for row, epochs in warm]
        self._cma: CmaEs | None = None
        if study.search.sampler == "cma-es":
            self._cma = CmaEs(study, stream(study.seed, "sampler"))
            self._cma.begin_at(self._warm, study.search.epochs)

    # -- proposing ---------------------------------------------------------------------------------------------------

    def reserve(self, points: Iterable[Mapping[str, Any]]) -> None:
        """Propose none of these points, unless `ask` is given it."""
        self._known |= {_key(self._parameters(point)) for point in points}

    @_timed
    def ask(self, number: int, point: Mapping[str, Any] | None = None) -> tuple[optuna.Trial, dict[str, Any]] | None:
        """The factor values of proposal `number`; None where the sampler finds no feasible point any more that is not
        running or has not run, unless points may be repeated. `why_ended` says why. point: what it must be.

        Give the trial back through `started` under the id that its config gets.
        """
        if self._grid is not None and number >= len(self._grid):
            return None
        repeated, unseen = 0, None
        for attempt in range(MAX_ASKS):
            given = point if not attempt else None
            fixed = given or unseen or self._fixed(number, attempt)
            if fixed is not None:
                self.optuna.enqueue_trial(self._parameters(fixed))
            self.optuna.sampler = self._sampler(number, attempt)
            trial = self.optuna.ask()
            values = self._suggest(trial)
            problem = self._infeasible(values)
            if problem is None and (given or not self._repeats(trial)):
                return trial, values
            self.optuna.tell(trial, state=TrialState.FAIL)
            if problem is not None:
                self.infeasible.append(problem)
                continue
            repeated += 1
            if repeated == REPEATED and (points := self._combinations()) is not None:
                unseen = self._unseen(points, stream(self.study.seed, "unseen", number))
                if unseen is None:
                    self.why_ended = "every combination that can be run has been proposed"
                    return None
        self.why_ended = f"{MAX_ASKS} proposals in a row could not be run, or repeated others"
        return None

    def _repeats(self, trial: optuna.Trial) -> bool:
        return not self.study.search.repeat and self._grid is None and _key(trial.params) in self._known

    def _new(self, point: Mapping[str, Any]) -> bool:
        """Whether the point can be run, and does not or did not run, unless points may be repeated."""
        known = not self.study.search.repeat and _key(self._parameters(point)) in self._known
        return not known and self.study.feasible(point)

    def _combinations(self) -> list[dict[str, Any]] | None:
        """All points of the space; None where there are very many, or they are not discrete."""
        try:
            return combinations(self._space, integers=True)
        except ValueError:
            return None

    def _unseen(self, points: list[dict[str, Any]], seed: int) -> dict[str, Any] | None:
        """One of `points` that can be run, and does not or did not run."""
        left = [point for point in points if _key(self._parameters(point)) not in self._known]
        random.Random(seed).shuffle(left)
        return next((point for point in left if self.study.feasible(point)), None)

    def _fixed(self, number: int, attempt: int) -> dict[str, Any] | None:
        """The point that proposal `number` must be: the baseline first, then what the study asks for, then the grid's,
        the sequence's, or that of CMA-ES or the study's own sampler, which are asked again where their point is
        infeasible or repeated."""
        if not attempt and 1 <= number <= len(self.study.enqueued):
            return self.study.enqueued[number - 1]
        if number and self._cma is not None and attempt < MAX_ASKS // 2:
            return self._cma.propose(stream(self.study.seed, "sampler", number, attempt), self._ended)
        if number and self._linear is not None and attempt < MAX_ASKS // 2:
            return self._linear.propose(stream(self.study.seed, "sampler", number, attempt), self._new)
        if number and self._propose is not None:
            return self._own(self._propose, stream(self.study.seed, "sampler", number, attempt) % 2**32)
        if attempt:
            return None
        if self._grid is not None:
            return self._of_grid(number)
        if number == 0:
            return self.study.baseline_values()
        return self._sobol(number) if self.study.search.sampler == "quasi-random" else None

    def _of_grid(self, number: int) -> dict[str, Any]:
        """Point `number`, or the first one left if it has run: further levels change the order of a grid."""
        assert self._grid is not None
        places = [number, *range(len(self._grid))]
        left = (self._grid[at] for at in places if _key(self._parameters(self._grid[at])) not in self._known)
        return next(left, self._grid[number])

    def _own(self, propose: Propose, seed: int) -> dict[str, Any]:
        """BadRequest where what is proposed is no point of the space."""
        ended = [*self._warm, *(self._ended[number] for number in sorted(self._ended))]
        proposed = propose([(dict(trial.values), trial.objective) for trial in ended], seed)
        name = self.study.search.sampler
        if unknown := [key for key in proposed if key not in self._space.names]:
            allowed = ", ".join(self._space.names)
            raise BadRequest(f"search.sampler: {name}: proposed {unknown[0]!r}, no factor (allowed: {allowed})")
        plain = {key: getattr(value, "item", lambda value=value: value)() for key, value in proposed.items()}
        values = typed_settings(plain, self.study.trial_type)
        if problem := self._space.problem(values):
            raise BadRequest(f"search.sampler: {name}: proposed a point that the study does not have: {problem}")
        return self._space.active(values)

    def _sobol(self, number: int) -> dict[str, Any]:
        """Point `number` of a scrambled Sobol sequence with one coordinate for each branch of each factor.

        Optuna's own QMCSampler takes conditional parameters from a pseudo-random generator, and keeps its position
        in the study, where it is lost when the study is rebuilt from rows.
        """
        coordinates = [(f.name, i) for f in self._space.factors for i in range(len(f.branches))]
        from scipy.stats import qmc  # a second of imports, for the one sampler that needs it

        engine = qmc.Sobol(len(coordinates), scramble=True, rng=stream(self.study.seed, "sobol"))
        unit = dict(zip(coordinates, engine.fast_forward(number).random(1)[0], strict=True))
        values: dict[str, Any] = {}
        for factor in self._space.factors:
            index = factor.branch(values)
            if index is not None:
                values[factor.name] = factor.branches[index].at(float(unit[factor.name, index]))
        return values

    def started(self, trial_id: str, trial: optuna.Trial, point: tuple[int, Mapping[str, Any]] | None = None) -> None:
        """point: number and values of the proposal, which samplers other than Optuna's hear of at the trial's end."""
        self._asked[trial_id] = trial
        self._values[trial_id] = {}
        self._known.add(_key(trial.params))
        if point is not None:
            self._points[trial_id] = point[0], dict(point[1])
            if self._linear is not None:
                self._linear.begun(trial_id, point[1])

    def _sampler(self, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        """Seeded anew for each proposal, so that a continued sweep draws as an uninterrupted one would."""
        seed = stream(self.study.seed, "sampler", number, attempt) % 2**32
        kind, first = self.study.search.sampler, self.study.search.random_first
        if kind == "tpe" and attempt < 3:  # it would propose an infeasible level, never seen to be bad, for ever
            return optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=first
            )
        if kind == "gp" and attempt < 3:
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=first)
        if self._make is not None and attempt < MAX_ASKS // 2:
            return self._make(seed)
        return optuna.samplers.RandomSampler(seed=seed)

    def _suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for factor in self._space.factors:
            index = factor.branch(values)
            if index is None:
                continue
            name, distribution = _parameter(factor, index)
            if isinstance(distribution, CategoricalDistribution):
                values[factor.name] = trial.suggest_categorical(name, distribution.choices)
            elif isinstance(distribution, IntDistribution):
                values[factor.name] = trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
            elif isinstance(distribution, FloatDistribution):
                values[factor.name] = trial.suggest_float(
                    name, distribution.low, distribution.high, log=distribution.log
                )
        return values

    def _infeasible(self, values: Mapping[str, Any]) -> str | None:
        try:
            self.study.config(values, seed=0)
        except ValidationError as error:
            return first_problem(error, self.study.trial_type)
        return None

    # -- telling -----------------------------------------------------------------------------------------------------

    @_timed
    def reported(self, trial_id: str, epoch: int, value: float) -> None:
        """An intermediate value: of the metric that is searched for, after `epoch`."""
        self._values[trial_id][epoch] = value
        if self._linear is not None:
            self._linear.reported(trial_id, epoch, value)
        if not self._second:  # Optuna's trials with two objectives have none, and its TPE fails on those that do
            self._asked[trial_id].report(value, epoch)

    @_timed
    def ended(self, trial_id: str, status: Status, cost: float | None) -> None:
        """Tell Optuna how the trial ended; `cost` is the second objective's value, where there is one."""
        trial, values = self._asked.pop(trial_id), self._values.pop(trial_id)
        state = STATES[status]
        if self._linear is not None and state is TrialState.FAIL:
            self._linear.lost(trial_id)
        if trial_id in self._points:
            number, point = self._points.pop(trial_id)
            self._ended[number] = _ended(point, values, state)
        if self._second:
            trial.set_user_attr(self.study.searched.name, {str(epoch): value for epoch, value in values.items()})
        if state is TrialState.COMPLETE:
            last = values[max(values)]
            objectives = [last, float(cost or 0.0)] if self._second else [last]
            self.optuna.tell(trial, objectives)
        else:
            self.optuna.tell(trial, state=state)

    # -- rebuilding --------------------------------------------------------------------------------------------------

    def replay(self, row: Mapping[str, Any], epochs: Iterable[tuple[int, float]]) -> None:
        """Take in a recorded explore trial: `row` of the trials table, its (epoch, value) pairs."""
        values = {name: row[name] for name in self._space.names if row[name] is not None}
        status = Status(row["status"])
        if status.ended:
            self._known.add(_key(self._parameters(values)))
            self._ended[row["number"]] = self._told(row, epochs)
            return
        self.optuna.enqueue_trial(self._parameters(values))
        self.optuna.sampler = optuna.samplers.RandomSampler(seed=0)  # not used: all values are given
        trial = self.optuna.ask()
        self._suggest(trial)
        self.started(row["trial_id"], trial, (row["number"], values))
        for epoch, value in epochs:
            self.reported(row["trial_id"], epoch, value)

    def _told(self, row: Mapping[str, Any], epochs: Iterable[tuple[int, float]]) -> Ended:
        """Tell Optuna of an ended trial from its row."""
        values = {name: row[name] for name in self._space.names if row[name] is not None}
        kept, status = dict(epochs), Status(row["status"])
        self.optuna.add_trial(self._frozen(values, kept, status, row))
        if self._linear is not None:
            name = row["trial_id"], len(self.optuna.trials)
            self._linear.begun(name, values)
            for epoch, value in kept.items():
                self._linear.reported(name, epoch, value)
            if STATES[status] is TrialState.FAIL:
                self._linear.lost(name)
        return _ended(values, kept, STATES[status])

    def _frozen(
        self, values: Mapping[str, Any], epochs: Mapping[int, float], status: Status, row: Mapping[str, Any]
    ) -> optuna.trial.FrozenTrial:
        """An ended trial as `ended` leaves it. Asking for each again would search all trials before it."""
        distributions = {}
        for factor in self._space.factors:
            index = factor.branch(values)
            if index is not None:
                name, found = _parameter(factor, index)
                distributions[name] = found
        state = STATES[status]
        name = self.study.searched.name
        attributes = {name: {str(epoch): value for epoch, value in epochs.items()}} if self._second else {}
        objectives = None
        if state is TrialState.COMPLETE:
            last = epochs[max(epochs)]
            objectives = [last, float(row[self._second] or 0.0)] if self._second else [last]
        return optuna.trial.create_trial(
            state=state,
            values=objectives,
            params=self._parameters(values),
            distributions=distributions,
            user_attrs=attributes,
            intermediate_values={} if self._second else dict(epochs),
        )

    def _parameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Factor values under the names that Optuna knows them by."""
        return {name: values[factor] for name, (factor, _) in self.placed(values).items()}

    def placed(self, values: Mapping[str, Any]) -> dict[str, tuple[str, BaseDistribution]]:
        """Factor and distribution of each of Optuna's parameters that apply where the factors have these values."""
        placed: dict[str, tuple[str, BaseDistribution]] = {}
        kept: dict[str, Any] = {}
        for factor in self._space.factors:
            index = factor.branch(kept)
            if index is not None:
                name, distribution = _parameter(factor, index)
                placed[name] = factor.name, distribution
                kept[factor.name] = values[factor.name]
        return placed


def _key(parameters: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    """Of a point, by Optuna's names. True and 1 are two levels."""
    return frozenset((name, (type(value) is bool, value)) for name, value in parameters.items())


def _ended(values: dict[str, Any], epochs: Mapping[int, float], state: TrialState) -> Ended:
    lost = state is TrialState.FAIL or not epochs
    return Ended(values, None if lost else epochs[max(epochs)], max(epochs, default=0))


def _parameter(factor: Factor, index: int) -> tuple[str, BaseDistribution]:
    """Optuna's name and distribution of a branch; branches of one factor are different parameters to Optuna."""
    name = factor.name if len(factor.branches) == 1 else f"{factor.name}@{index}"
    return name, distribution(factor.branches[index])


def distribution(branch: Branch) -> BaseDistribution:
    if branch.levels is not None:
        return CategoricalDistribution(branch.levels)
    if branch.integer:
        return IntDistribution(int(branch.low), int(branch.high), log=branch.log)  # type: ignore[arg-type]
    return FloatDistribution(float(branch.low), float(branch.high), log=branch.log)  # type: ignore[arg-type]
