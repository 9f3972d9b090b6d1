"""The plan: what the confirm stage will run and compare, written down and hashed before any of it runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from resnetlab.errors import FolderRefused
from resnetlab.planning import designs, orientation
from resnetlab.planning.in_time import InTime
from resnetlab.planning.looks import Looks
from resnetlab.planning.orientation import Swap
from resnetlab.study import Study, legacy
from resnetlab.study.frozen import Frozen, digest
from resnetlab.study.metrics import METRICS, Metric
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
            content["contrasts"] = contrast_names(self.design, orientation.around(self.incumbent, self.compared))
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


def contrast_names(kind: str, oriented: Iterable[Swap]) -> list[str]:
    """The names of the comparisons of two levels, and in a crossed design of each pair of these."""
    swaps = orientation.triples(oriented)
    names = [designs.contrast_name(*swap) for swap in swaps]
    if kind in ("factorial", "fractional"):
        pairs = combinations(swaps, 2)
        names += [designs.interaction_name(one, other) for one, other in pairs if one[0] != other[0]]
    return names


def asked(study: Study) -> dict[str, Any]:
    """What a plan answers to: where this changes, a new plan is needed, with fresh runs for all its arms."""
    confirm = legacy.in_use(study.confirm.model_dump(mode="json", exclude={"pilot"}), legacy.LATER_CONFIRM)
    return legacy.recorded(confirm | {"hypotheses": list(study.hypotheses)}, {})
