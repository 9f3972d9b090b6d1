"""The plan: what the confirm stage will run and compare, written down and hashed before any of it runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import combinations
from statistics import stdev
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from resnetlab.errors import FolderRefused, TrialsFailed
from resnetlab.planning import designs, orientation
from resnetlab.planning.in_time import InTime
from resnetlab.planning.looks import Looks, looks_of
from resnetlab.planning.orientation import Swap
from resnetlab.study import Study, legacy
from resnetlab.study.frozen import Frozen, digest
from resnetlab.study.metrics import METRICS, Metric
from resnetlab.study.records import Phase, Status
from resnetlab.study.seeding import stream
from resnetlab.study.trial_config import RunConfig
from resnetlab.study.yaml_io import first_problem
from resnetlab.wording import level_text


class PlannedArm(Frozen):
    """One arm of the design. `companions` are tuned settings that had to change with the levels, e.g. lr."""

    name: str
    values: dict[str, Any]
    changed: dict[str, Any] = Field(default_factory=dict)
    companions: dict[str, Any] = Field(default_factory=dict)
    task: str = ""  # of a named arm: its dataset and label; only arms of one task are compared


class Layout(Frozen):
    """Arms that ran on the same seeds, and what is compared among them: all that estimates of effects rest on.

    A `Plan` is the layout of a study; runs that were made elsewhere have one of their own (`analysis.foreign`).
    """

    incumbent: dict[str, Any]  # the centre of the design: the best explored setting, or the baseline (`around`)
    around: Literal["incumbent", "baseline"] = "incumbent"
    design: str
    compared: dict[str, list[Any]]  # factor: alternative levels that arms were laid out for
    oriented: list[Swap] | None = None  # the comparisons of two levels; None: each alternative against the centre's
    not_compared: dict[str, str] = Field(default_factory=dict)  # factor, or factor=level: why
    arms: list[PlannedArm]
    infeasible: list[str] = Field(default_factory=list)  # arm: why it cannot be run
    seeds: int
    about: Literal["these", "new"] = "these"  # the images that verdicts are about; older plans know only their own
    splits: Literal["fixed", "per-block"] = "fixed"
    alpha: float  # familywise error rate
    delta: float  # smallest effect of interest, as people read the metric: points where it is a fraction
    metric: Metric = METRICS["test_accuracy"]
    variance: Literal["arms", "blocks"] = "arms"  # of an arm: its runs' own, or about what all arms of a seed share
    looks: Looks | None = None  # None: nothing is looked at before all runs have ended

    @model_validator(mode="after")
    def _arms_fit(self) -> Self:
        for arm in self.arms:
            for name, level in arm.changed.items():
                if level not in self.compared.get(name, []):
                    allowed = ", ".join(map(level_text, self.compared.get(name, []))) or "none"
                    raise ValueError(f"arm {arm.name}: {name}={level} is not among the levels compared ({allowed})")
        for name in self.compared:
            if name not in self.incumbent:
                raise ValueError(f"compared: {name} has no level in the incumbent")
        for swap in self.oriented or ():
            for level in (swap.level, swap.reference):
                there = [self.incumbent.get(swap.factor), *self.compared.get(swap.factor, [])]
                if swap.factor not in self.compared or level not in there:
                    raise ValueError(f"oriented: {swap.factor}={level} is not among the levels compared")
        return self

    @property
    def swaps(self) -> list[Swap]:
        """Every comparison of two levels of a factor, as it is oriented."""
        if self.oriented is not None:
            return self.oriented
        return orientation.around(self.incumbent, self.compared)

    @property
    def companions(self) -> list[str]:
        """The tuned settings that had to change with the levels of some arm."""
        return sorted({name for arm in self.arms for name in arm.companions})

    @property
    def references(self) -> dict[str, Any]:
        """The level of each factor that most of its comparisons have for reference."""
        sides = {name: [x.reference for x in self.swaps if x.factor == name] for name in self.compared}
        return {name: max(found, key=found.count) if found else self.incumbent[name] for name, found in sides.items()}

    @property
    def plan_hash(self) -> str:
        """Empty where nothing was planned."""
        return ""

    @property
    def least_effect(self) -> float:
        """The smallest effect of interest on the scale of the runs' values."""
        return self.delta / self.metric.scale

    @property
    def delta_text(self) -> str:
        """The same as people read it."""
        return f"{self.delta:g} {self.metric.effect.unit}".rstrip()

    @property
    def collapsed_up_to(self) -> list[float]:
        """For each arm the best value that a collapsed run may have; NaN: not known."""
        return [math.nan] * len(self.arms)

    @property
    def levels_of_guessing(self) -> list[float]:
        """For each arm what a run scores that learnt nothing; NaN: not known."""
        return [math.nan] * len(self.arms)

    @property
    def tells_collapse(self) -> bool:
        """Whether a run that collapsed can be told from one that learnt little: not of a task, which has no classes."""
        return not all(map(math.isnan, self.collapsed_up_to))


# Fields of a plan that are not asked for or run.
EVIDENCE = ("code", "chosen_val_accuracy", "pilot", "efficiency", "guessing", "oriented", "about", "time")
# Fields in which plans of one layout may differ: how often it is run, and the study and the search that led to it.
CIRCUMSTANCES = (*EVIDENCE, "study_hash", "chosen_trial", "seeds", "asked", "adds_to")


class Plan(Layout):
    """What is compared with what, on how many seeds, and what would count as an effect."""

    version: int = 2
    study: str
    study_hash: str
    data_hash: str
    code: str
    chosen_trial: str
    chosen_val_accuracy: float
    contrasts: list[str] = Field(default_factory=list)  # the comparisons that the report will make, by name
    pilot: dict[str, float] | None = (
        None  # runs and sd (in the unit of delta) of the baseline's seeds, as known when planning
    )
    asked: dict[str, Any] = Field(default_factory=dict)  # the study's confirm section, from which this was made
    adds_to: str = ""  # hash of the plan whose arms these are, on further seeds: what was asked for once it had runs
    efficiency: float | None = None  # d-optimal: D-efficiency against running every combination that can be run
    # By name of a named arm, or under "" for all: the most that a run which learnt nothing is likely to reach. Empty:
    # not known. None: the plan is older than this, and `collapse` is the share of the incumbent's explored value below
    # which a run collapsed.
    guessing: dict[str, float] | None = None
    collapse: float = 0.5
    time: InTime | None = None  # by what design and seeds were fitted to a time budget; None: there was none

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, content: Any) -> Any:
        return legacy.renamed(content, legacy.PLAN)

    @property
    def collapsed_up_to(self) -> list[float]:
        if self.guessing is not None:
            return self.levels_of_guessing
        share = self.collapse * self.chosen_val_accuracy
        return [share if share > 0 else math.nan] * len(self.arms)

    @property
    def levels_of_guessing(self) -> list[float]:
        levels = self.guessing or {}
        return [levels.get(arm.name, levels.get("", math.nan)) for arm in self.arms]

    @property
    def plan_hash(self) -> str:
        return digest(legacy.recorded(self.content(), legacy.PLAN))[:16]

    def content(self) -> dict[str, Any]:
        """What plan.json holds: only fields that were set, so that a plan that is older than a field keeps its hash."""
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def seeds_from(self) -> str:
        """What the seeds are drawn from: what is run and compared (whichever way round), so that another plan has other
        seeds, and the same study the same ones with other code and on other machines."""
        content = self.content()
        if self.oriented is not None:
            content["contrasts"] = _contrasts(self.design, orientation.around(self.incumbent, self.compared))
        return digest(legacy.seeding(legacy.recorded(content, legacy.PLAN), EVIDENCE))[:16]

    def same_layout(self, other: Plan) -> bool:
        """Whether both run the same arms for the same comparisons, on however many seeds."""
        one, two = (
            {name: value for name, value in plan.content().items() if name not in CIRCUMSTANCES}
            for plan in (self, other)
        )
        return one == two

    def seeds_short(self, wanted: Mapping[str, Any]) -> int | None:
        """How many seeds more `wanted` (as `asked` has it) asks for, if it asks for the same otherwise; else None."""
        before, now = ({k: v for k, v in content.items() if k != "seeds"} for content in (self.asked, wanted))
        more = wanted.get("seeds", 0) - self.asked.get("seeds", 0)
        return more if before == now and more >= 0 else None

    def on_further_seeds(self, study: Study, code: str) -> Plan:
        """The plan that runs the same arms on the seeds that `study` asks for beyond this one's, with an α of its own.

        code: as in Plan. ValueError where `study` asks for something else.
        """
        wanted = asked(study)
        if not (more := self.seeds_short(wanted)):
            raise ValueError(f"plan {self.plan_hash}: {study.name} asks for no further seeds of it")
        now = {"seeds": more, "asked": wanted, "adds_to": self.plan_hash, "study_hash": study.study_hash, "code": code}
        return self.model_copy(update=now | ({} if self.time is None else {"time": None}))

    def trials(self, study: Study) -> Iterable[tuple[int, int, PlannedArm, RunConfig]]:
        """Every run as (design row, seed block, arm, config), block by block so that early ends stay balanced.

        FolderRefused where the study cannot run an arm: plan and study were not made for each other.
        """
        for block in range(self.seeds):
            seed = stream(study.seed, "confirm", self.seeds_from, block)
            split = stream(study.seed, "split", self.seeds_from, block) if self.splits == "per-block" else None
            for row, arm in enumerate(self.arms):
                try:
                    named = study.arms and study.arm_config(arm.name, seed=seed, split=split)
                    config = named or study.config(arm.values, seed=seed, split=split)
                except ValidationError as error:
                    raise FolderRefused(
                        f"plan {self.plan_hash}: arm {arm.name} cannot be run: {first_problem(error, study.trial_type)}"
                    ) from None
                yield row, block, arm, config


def pilot_trials(study: Study) -> Iterable[tuple[dict[str, Any], RunConfig]]:
    """The runs of the baseline that come before all else, as (columns of the trials table, config)."""
    for block in range(study.confirm.pilot):
        config = study.baseline_config(stream(study.seed, "pilot", block))
        values = {name: getattr(config, name) for name in study.columns} if study.arms else study.baseline_values()
        yield {"arm": "baseline", "seed_block": block} | dict(values), config


def make_plan(
    study: Study,
    trials: Iterable[Mapping[str, Any]],
    data_hash: str,
    code: str,
    guessing: Mapping[str, float] | None = None,
) -> Plan:
    """Choose the incumbent among the full-budget explore trials and lay the design around it, or around the baseline.

    `trials` are rows of the trials table. The choice uses the metric that was searched for only. guessing: as the plan
    has it. TrialsFailed where no trial reached the full budget.
    """
    trials = list(trials)
    known = _pilot(study, trials) | {"guessing": dict(guessing or {})}
    if study.arms:
        return _of_arms(study, data_hash, code, known)
    rows = [row for row in trials if row["phase"] in (Phase.EXPLORE, Phase.AUDIT)]
    centre, finished = _centre(study, rows)
    incumbent = centre["incumbent"]
    kind, alternatives, not_compared = _alternatives(study, incumbent, finished, study.confirm.design)
    found = known
    try:
        if kind == "d-optimal":
            arms, infeasible, found["efficiency"] = _optimal(study, incumbent, alternatives, rows)
        else:
            arms, infeasible = _arms(study, kind, incumbent, alternatives, rows)
            if kind == "fractional" and infeasible:  # every arm of a fraction is needed for every effect
                raise ValueError(f"the fraction cannot be run whole ({infeasible[0]})")
    except ValueError as error:
        crossed = "interactions" if kind == "fractional" else kind
        kind, alternatives, not_compared = _alternatives(study, incumbent, finished, "one-factor")
        not_compared[crossed] = f"{error}: one factor at a time instead"
        arms, infeasible = _arms(study, kind, incumbent, alternatives, rows)
    swaps = orientation.as_written(study, incumbent, alternatives)
    return Plan(
        **_of_study(study, data_hash, code),
        **centre,
        design=kind,
        compared=alternatives,
        oriented=swaps,
        not_compared=not_compared,
        arms=arms,
        contrasts=_contrasts(kind, swaps),
        infeasible=infeasible,
        **looks_of(study, kind, _triples(swaps)),
        **found,
    )


def _centre(study: Study, rows: list[Mapping[str, Any]]) -> tuple[dict[str, Any], list[Mapping[str, Any]]]:
    """The fields of a plan that say what its design is laid around, and the explore trials, in `rows`, at the full
    budget, from which it is chosen: none where it is the baseline, whose design does not depend on the search."""
    if study.confirm.around == "baseline":
        values = study.baseline_values()
        return {"incumbent": values, "around": "baseline", "chosen_trial": "", "chosen_val_accuracy": 0.0}, []
    searched = study.searched
    finished = [row for row in rows if row["status"] == Status.COMPLETE]
    if not finished:
        reasons = [row["reason"] for row in rows if row.get("reason")]
        last = f", the last: {reasons[-1]}" if reasons else ""
        raise TrialsFailed(
            f"{study.name}: none of {len(rows)} explore trials reached the full budget of {study.search.epochs} "
            f"epochs, so there is nothing to confirm; the reasons are in trials.parquet, column `reason`{last}"
        )
    best = max(finished, key=lambda row: (searched.sign * row[searched.name], -row["number"]))
    values = study.space.active({name: best[name] for name in study.space.names if best[name] is not None})
    chosen = {"chosen_trial": best["trial_id"], "chosen_val_accuracy": best[searched.name]}
    return {"incumbent": values} | chosen, finished


def _of_study(study: Study, data_hash: str, code: str) -> dict[str, Any]:
    """The fields of a plan that follow from the study alone, whatever its design."""
    known: dict[str, Any] = {}
    if study.confirmed != METRICS["test_accuracy"]:
        known["metric"] = study.confirmed
    if study.confirm.splits != "fixed":
        known["splits"] = study.confirm.splits
    if study.confirm.variance != "arms":
        known["variance"] = study.confirm.variance
    return known | {
        "about": "these" if study.confirm.looks != "none" or study.experiment else study.confirm.images,
        "version": 2,
        "study": study.name,
        "study_hash": study.study_hash,
        "data_hash": data_hash,
        "code": code,
        "seeds": study.confirm.seeds,
        "alpha": study.confirm.alpha,
        "delta": study.confirm.delta,
        "asked": asked(study),
    }


def _pilot(study: Study, trials: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The field `pilot` of a plan; nothing where fewer than two runs of the baseline ended."""
    ended = [row for row in trials if row["phase"] == Phase.PILOT and row["status"] == Status.COMPLETE]
    if len(ended) < 2:
        return {}
    metric = study.confirmed
    return {"pilot": {"runs": len(ended), "sd": metric.scale * stdev(row[metric.name] for row in ended)}}


def _of_arms(study: Study, data_hash: str, code: str, known: Mapping[str, Any]) -> Plan:
    """The plan of a study of named arms: nothing was searched, and the first arm is what others are compared with."""
    arms = []
    for name in study.arms:
        config = study.arm_config(name, seed=0)
        values = {key: getattr(config, key) for key in study.columns}
        arms.append(PlannedArm(name=name, values=values, task=study.arm_task(name)))
    pairs = [
        ("arm", arm.name, first.name)
        for arm in arms
        if (first := next(other for other in arms if other.task == arm.task)) is not arm
    ]
    alone = [arm for arm in arms if sum(other.task == arm.task for other in arms) == 1]
    return Plan(
        **_of_study(study, data_hash, code),
        incumbent=arms[0].values,
        chosen_trial="",
        chosen_val_accuracy=0.0,
        design="arms",
        compared={},
        not_compared={arm.name: f"no other arm is trained for the same ({arm.task})" for arm in alone},
        arms=arms,
        contrasts=[designs.contrast_name(*pair) for pair in pairs],
        **looks_of(study, "arms", pairs),
        **known,
    )


def _triples(oriented: Iterable[Swap]) -> list[tuple[str, Any, Any]]:
    return [(found.factor, found.level, found.reference) for found in oriented]


def _contrasts(kind: str, oriented: Iterable[Swap]) -> list[str]:
    """The names of the comparisons of two levels, and in a crossed design of each pair of these."""
    swaps = _triples(oriented)
    names = [designs.contrast_name(*swap) for swap in swaps]
    if kind in ("factorial", "fractional"):
        pairs = combinations(swaps, 2)
        names += [designs.interaction_name(one, other) for one, other in pairs if one[0] != other[0]]
    return names


def asked(study: Study) -> dict[str, Any]:
    """What a plan answers to: where this changes, a new plan is needed, with fresh runs for all its arms."""
    confirm = legacy.in_use(study.confirm.model_dump(mode="json", exclude={"pilot"}), legacy.LATER_CONFIRM)
    return legacy.recorded(confirm | {"hypotheses": list(study.hypotheses)}, {})


def sketch(study: Study) -> Plan:
    """The plan as it would be if the baseline were chosen: what the confirm stage costs and can find, said before
    anything runs. Its hash names nothing."""
    row: dict[str, Any] = dict.fromkeys(study.space.names) | study.baseline_values()
    row |= {"trial_id": "baseline", "number": 0, "phase": Phase.EXPLORE, "status": Status.COMPLETE}
    row[study.searched.name] = 0.0
    return make_plan(study, [row | {"epochs_run": study.search.epochs}], data_hash="", code="")


def _alternatives(
    study: Study, incumbent: Mapping[str, Any], finished: list[Mapping[str, Any]], kind: str
) -> tuple[str, dict[str, list[Any]], dict[str, str]]:
    """The design that can be laid, the levels that it compares with the incumbent's, and what it leaves out and why.

    All but one factor at a time cross the factors, so they take none that applies only at some levels of another; a
    two-level fraction takes one alternative a factor. The level of a hypothesis comes first, then one that early
    stopping let no trial carry to the full budget (those of the audit are exempt from it): it may have been wronged.
    """
    compared, left_out = {}, {}
    names = study.compared_factors() if kind != "none" else []
    for name in names:
        factor = study.space[name]
        parents = [parent for branch in factor.branches for parent in branch.when if parent in names]
        if name not in incumbent:
            left_out[name] = "does not apply at the incumbent"
        elif kind != "one-factor" and parents:
            left_out[name] = f"applies only at some levels of {parents[0]}, so a {kind} design cannot cross the two"
        else:
            branch = next(branch for branch in factor.branches if branch.holds(incumbent))
            compared[name] = [level for level in branch.levels or () if level != incumbent[name]]
    if kind == "fractional" and not 2 <= len(compared) <= 8:
        left_out["interactions"] = (
            f"a two-level fraction needs 2 to 8 factors, here are {len(compared)}: one factor at a time instead"
        )
        kind = "one-factor"
    if kind == "fractional":
        baseline = study.baseline_values()
        for name, levels in compared.items():
            reached = {row[name] for row in finished if row["phase"] == Phase.EXPLORE}
            asked_for = _asked_for(study, name, incumbent[name])
            chosen = min(levels, key=lambda x: (_place(asked_for, x), x in reached, x != baseline.get(name)))
            left_out |= {
                f"{name}={level_text(level)}": f"a two-level fraction compares one alternative, {level_text(chosen)}"
                for level in levels
                if level != chosen
            }
            compared[name] = [chosen]
    return kind, compared, left_out


def _asked_for(study: Study, factor: str, incumbent: Any) -> list[Any]:
    """The levels that hypotheses compare with the incumbent's, in the order in which they are declared."""
    pairs = [(found.level, found.reference) for found in study.declared if found.factor == factor]
    return [one if other == incumbent else other for one, other in pairs if incumbent in (one, other)]


def _place(levels: list[Any], level: Any) -> int:
    return levels.index(level) if level in levels else len(levels)


def _arms(
    study: Study,
    kind: str,
    incumbent: Mapping[str, Any],
    alternatives: Mapping[str, list[Any]],
    rows: list[Mapping[str, Any]],
) -> tuple[list[PlannedArm], list[str]]:
    """The design's arms with the settings that go with their levels, and those that cannot be run, with the reason."""
    lay: Any = {"factorial": designs.full_factorial, "fractional": designs.fractional}.get(kind, designs.one_factor)
    levels = {name: found[0] for name, found in alternatives.items()} if kind == "fractional" else alternatives
    arms: dict[str, PlannedArm] = {}
    infeasible = []
    for arm in lay(incumbent, levels):
        planned = _companions(study, arm, incumbent, rows)
        trial_id, problem = _feasible(study, planned)
        if problem is None and trial_id in arms:
            problem = f"trains the same network as {arms[trial_id].name}"
        if problem is None:
            arms[trial_id] = planned
        else:
            infeasible.append(f"{planned.name}: {problem}")
    return list(arms.values()), infeasible


def _optimal(
    study: Study, incumbent: Mapping[str, Any], alternatives: Mapping[str, list[Any]], rows: list[Mapping[str, Any]]
) -> tuple[list[PlannedArm], list[str], float]:
    """The arms of a D-optimal design among the combinations that can be run, how many cannot and why, its efficiency.

    ValueError where main effects cannot be told apart.
    """
    seed = stream(study.seed, "d-optimal")
    kept: dict[str, designs.Arm] = {}
    problems: dict[str, list[str]] = {}
    for arm in designs.candidates(incumbent, alternatives, seed):
        trial_id, problem = _feasible(study, _companions(study, arm, incumbent, []))
        if problem is None and trial_id in kept:
            problem = "trains the same network as another arm"
        if problem is not None:
            problems.setdefault(problem.partition(", got ")[0], []).append(arm.name)
        else:
            kept[trial_id] = arm
        if len(kept) == designs.MOST_CANDIDATES:
            break
    if "incumbent" not in {arm.name for arm in kept.values()}:
        raise ValueError("the incumbent cannot be run")
    chosen, efficiency = designs.d_optimal(list(kept.values()), alternatives, study.confirm.arms, seed)
    infeasible = [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {problem}"
        for problem, names in problems.items()
    ]
    return [_companions(study, arm, incumbent, rows) for arm in chosen], infeasible, efficiency


def _feasible(study: Study, arm: PlannedArm) -> tuple[str, str | None]:
    """The id of the network that `arm` trains, or the rule by which it cannot be run."""
    try:
        return study.config(arm.values, seed=0).trial_id, None
    except ValidationError as error:
        return "", first_problem(error, study.trial_type)


def _companions(
    study: Study, arm: designs.Arm, incumbent: Mapping[str, Any], rows: list[Mapping[str, Any]]
) -> PlannedArm:
    """Settings that the changed levels switch on, or whose range they change, taken from the search.

    Comparing AdamW at SGD's learning rate would compare learning rates. So a factor whose branch changes takes its
    value from the best explore trial with the arm's levels (at the most epochs, then by what was searched for), or the
    baseline's, or the middle of its range.
    """
    values: dict[str, Any] = {}
    companions: dict[str, Any] = {}
    searched = study.searched
    for factor in study.space.factors:
        index = factor.branch(values)
        if index is None:
            continue
        branch = factor.branches[index]
        value = arm.values.get(factor.name)
        moved = factor.name not in arm.changed and factor.branch(incumbent) != index
        if value is None or moved or not branch.contains(value):
            tried = [row for row in rows if row[searched.name] is not None]
            like = [row for row in tried if _matches(row, arm.changed, factor.name, branch)]
            best = max(like, key=lambda row: (row["epochs_run"], searched.sign * row[searched.name]), default=None)
            value = best[factor.name] if best is not None else _middle(branch)
            companions[factor.name] = value
        values[factor.name] = value
    name = arm.name if arm.changed else study.confirm.around
    return PlannedArm(name=name, values=values, changed=dict(arm.changed), companions=companions)


def _matches(row: Mapping[str, Any], levels: Mapping[str, Any], name: str, branch: Any) -> bool:
    tried = row[name] is not None and branch.contains(row[name])
    return tried and all(row[factor] == level for factor, level in levels.items() if factor in branch.when)


def _middle(branch: Any) -> Any:
    if branch.levels is not None:
        return branch.levels[0]
    middle = (branch.low * branch.high) ** 0.5 if branch.log else (branch.low + branch.high) / 2
    return round(middle) if branch.integer else middle
