"""The plan: what the confirm stage will run and compare, written down and hashed before any of it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, ValidationError

from resnetlab import design
from resnetlab.config import Frozen, TrialConfig, digest
from resnetlab.errors import TrialsFailed
from resnetlab.records import Phase, Status
from resnetlab.seeding import stream
from resnetlab.study import Study


class PlannedArm(Frozen):
    """One arm of the design. `companions` are tuned settings that had to change with the levels, e.g. lr."""

    name: str
    values: dict[str, Any]
    changed: dict[str, Any] = Field(default_factory=dict)
    companions: dict[str, Any] = Field(default_factory=dict)


class Plan(Frozen):
    """What is compared with what, on how many seeds, and what would count as an effect."""

    version: int = 1
    study: str
    study_hash: str
    data_hash: str
    code: str
    incumbent: dict[str, Any]
    chosen_trial: str
    chosen_val_accuracy: float
    design: str
    compared: dict[str, list[Any]]  # factor: alternative levels
    arms: list[PlannedArm]
    infeasible: list[str] = Field(default_factory=list)
    seeds: int
    alpha: float
    delta: float
    metric: str = "test_accuracy"

    @property
    def plan_hash(self) -> str:
        return digest(self.model_dump(mode="json"))[:16]

    def trials(self, study: Study) -> Iterable[tuple[int, int, PlannedArm, TrialConfig]]:
        """Every run as (design row, seed block, arm, config), block by block so that early ends stay balanced."""
        for block in range(self.seeds):
            seed = stream(study.seed, "confirm", self.plan_hash, block)
            for row, arm in enumerate(self.arms):
                yield row, block, arm, study.config(arm.values, seed=seed)


def make_plan(study: Study, trials: Iterable[Mapping[str, Any]], data_hash: str, code: str) -> Plan:
    """Choose the incumbent among the full-budget explore trials and lay the design around it.

    `trials` are rows of the trials table. The choice uses validation accuracy only. TrialsFailed where no trial
    reached the full budget.
    """
    rows = [row for row in trials if row["phase"] in (Phase.EXPLORE, Phase.AUDIT)]
    finished = [row for row in rows if row["status"] == Status.COMPLETE]
    if not finished:
        raise TrialsFailed(
            f"{study.name}: none of {len(rows)} explore trials reached the full budget of {study.search.epochs} "
            "epochs, so there is nothing to confirm; the reasons are in trials.parquet, column `reason`"
        )
    best = max(finished, key=lambda row: (row["val_accuracy"], -row["number"]))
    incumbent = study.space.active({name: best[name] for name in study.space.names if best[name] is not None})
    alternatives = {
        name: [level for level in study.space[name].levels if level != incumbent[name]]
        for name in study.compared_factors()
        if name in incumbent
    }
    arms, infeasible = [], []
    for arm in _lay(study, incumbent, alternatives):
        planned = _companions(study, arm, rows)
        try:
            study.config(planned.values, seed=0)
            arms.append(planned)
        except ValidationError as error:
            rule = error.errors()[0]["msg"].removeprefix("Value error, ")
            infeasible.append(f"{planned.name}: {rule}")
    return Plan(
        study=study.name,
        study_hash=study.study_hash,
        data_hash=data_hash,
        code=code,
        incumbent=incumbent,
        chosen_trial=best["trial_id"],
        chosen_val_accuracy=best["val_accuracy"],
        design=study.confirm.design,
        compared=alternatives,
        arms=arms,
        infeasible=infeasible,
        seeds=study.confirm.seeds,
        alpha=study.confirm.alpha,
        delta=study.confirm.delta,
    )


def _lay(study: Study, incumbent: Mapping[str, Any], alternatives: Mapping[str, list[Any]]) -> list[design.Arm]:
    if study.confirm.design == "one-factor":
        return design.one_factor(incumbent, alternatives)
    if study.confirm.design == "factorial":
        return design.full_factorial(incumbent, alternatives)
    baseline = study.baseline_values()
    single = {
        name: baseline[name] if baseline.get(name) in levels else levels[0] for name, levels in alternatives.items()
    }
    return design.fractional(incumbent, single)


def _companions(study: Study, arm: design.Arm, rows: list[Mapping[str, Any]]) -> PlannedArm:
    """Settings that the changed levels switch on, or whose range they change, taken from the search.

    Comparing AdamW at SGD's learning rate would compare learning rates. So a factor whose branch changes takes its
    value from the best explore trial with the arm's levels (at the most epochs, then by accuracy), or the baseline's,
    or the middle of its range.
    """
    values: dict[str, Any] = {}
    companions: dict[str, Any] = {}
    for factor in study.space.factors:
        index = factor.branch(values)
        if index is None:
            continue
        branch = factor.branches[index]
        value = arm.values.get(factor.name)
        if value is None or not branch.contains(value):
            like = [row for row in rows if _matches(row, arm.changed, factor.name, branch)]
            best = max(like, key=lambda row: (row["epochs_run"], row["val_accuracy"]), default=None)
            value = best[factor.name] if best is not None else _middle(branch)
            companions[factor.name] = value
        values[factor.name] = value
    return PlannedArm(name=arm.name, values=values, changed=dict(arm.changed), companions=companions)


def _matches(row: Mapping[str, Any], levels: Mapping[str, Any], name: str, branch: Any) -> bool:
    tried = row["val_accuracy"] is not None and row[name] is not None and branch.contains(row[name])
    return tried and all(row[factor] == level for factor, level in levels.items() if factor in branch.when)


def _middle(branch: Any) -> Any:
    if branch.levels is not None:
        return branch.levels[0]
    middle = (branch.low * branch.high) ** 0.5 if branch.log else (branch.low + branch.high) / 2
    return round(middle) if branch.integer else middle
