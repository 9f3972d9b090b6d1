"""Make a plan: the design around the incumbent that the search has found, or around the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import stdev
from typing import Any

from pydantic import ValidationError

from resnetlab.errors import TrialsFailed
from resnetlab.planning import designs, orientation
from resnetlab.planning.looks import looks_of
from resnetlab.planning.plan import Plan, PlannedArm, asked, contrast_names
from resnetlab.study import Study
from resnetlab.study.metrics import METRICS
from resnetlab.study.records import Phase, Status
from resnetlab.study.seeding import stream
from resnetlab.study.trial_config import RunConfig
from resnetlab.study.yaml_io import first_problem
from resnetlab.wording import level_text


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
        contrasts=contrast_names(kind, swaps),
        infeasible=infeasible,
        **looks_of(study, kind, orientation.triples(swaps)),
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
