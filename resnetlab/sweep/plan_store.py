"""The plan of a results folder: read, made once, or set aside if the study has changed; and the runs of plan and pilot.

A plan that was set aside stays in `plans/`. Where a study asks for more seeds than a plan that has runs, and for
nothing else, the plan is run to its end; a second one then runs the same arms on the further seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from resnetlab.errors import BadRequest, FolderRefused
from resnetlab.experiment.messages import Task
from resnetlab.planning.affordable import Fit
from resnetlab.planning.making import make_plan, pilot_trials
from resnetlab.planning.plan import Plan, PlannedArm, asked
from resnetlab.storage.layout import PLANS
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store
from resnetlab.study import Study
from resnetlab.study.records import Phase
from resnetlab.study.trial_config import RunConfig, TrialConfig, starts_from
from resnetlab.study.yaml_io import explain

Rows = Mapping[str, Mapping[str, Any]]  # of the trials table, by trial_id
DatasetOf = Callable[[RunConfig], tuple[str, Sequence[str]]]  # content hash and classes


def read_plan(raw: bytes, place: str) -> Plan:
    """Read the content of a plan.json. FolderRefused, naming `place`, if it is damaged or was edited."""
    try:
        content = json.loads(raw)
        expected = content.pop("plan_hash")
        plan = Plan.model_validate(content)
    except ValidationError as error:
        raise FolderRefused(explain(error, Plan, f"{place}: damaged")) from None
    except (ValueError, KeyError, AttributeError) as error:
        raise FolderRefused(f"{place}: damaged: {str(error).splitlines()[0]}") from None
    if plan.plan_hash != expected:
        raise FolderRefused(
            f"{place}: changed after it was made: its content has hash {plan.plan_hash}, not {expected}"
        )
    return plan


def find(store: Store, study: Study) -> tuple[Plan | None, str | None]:
    """The folder's plan, None if it has none for this study; and the hash of a plan that was set aside now, or None."""
    raw = store.folder.read("plan.json")
    if raw is None:
        return None, None
    plan = read_plan(raw, f"{store.folder.url}/plan.json")
    if goes_on(plan, study, store.trials.values()):
        return plan, None
    store.folder.write(f"{PLANS}/{plan.plan_hash}.json", raw)
    return None, plan.plan_hash


def goes_on(plan: Plan, study: Study, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether `plan` is one of `study`: it asks for the same, or, of a plan with runs among `rows`, for more seeds."""
    return plan.asked == asked(study) or further_seeds(plan, study, rows) > 0


def further_seeds(plan: Plan, study: Study, rows: Iterable[Mapping[str, Any]]) -> int:
    """How many seeds `study` asks for beyond those of a plan that has runs among `rows`, and of nothing else more; else
    0."""
    more = plan.seeds_short(asked(study))
    return more if more and any(row["plan_hash"] == plan.plan_hash for row in rows) else 0


def second(store: Store, study: Study, plan: Plan, code: str) -> Plan | None:
    """Set aside `plan`, all of whose runs have ended, and write the one on further seeds; None if none are asked."""
    if not further_seeds(plan, study, store.trials.values()):
        return None
    store.flush()
    set_aside(store.folder)
    return _write(store, plan.on_further_seeds(study, code))


def set_aside(folder: ResultsFolder) -> None:
    """Move plan.json, if there is one, to where `due` finds it."""
    if (raw := folder.read("plan.json")) is not None:
        plan = read_plan(raw, f"{folder.url}/plan.json")
        folder.write(f"{PLANS}/{plan.plan_hash}.json", raw)
        folder.delete("plan.json")


def check_explored(unfinished: int) -> None:
    """Raise BadRequest if a plan would be made while explore trials are unfinished."""
    if unfinished:
        raise BadRequest(f"--phase confirm: {unfinished} explore trials have not ended; use --phase all")


def make(
    store: Store, study: Study, data_hash: str, code: str, guessing: Mapping[str, float], fit: Fit | None = None
) -> Plan:
    """Make the plan that `due` returns and write it; raises the same errors."""
    store.flush()
    return _write(store, due(store.folder, study, store.trials.values(), data_hash, code, guessing, fit=fit))


def _write(store: Store, plan: Plan) -> Plan:
    content = plan.content() | {"plan_hash": plan.plan_hash}
    store.folder.write("plan.json", json.dumps(content, indent=2).encode())
    return plan


def due(
    folder: ResultsFolder,
    study: Study,
    rows: Collection[Mapping[str, Any]],
    data_hash: str,
    code: str,
    guessing: Mapping[str, float],
    held: Plan | None = None,
    fit: Fit | None = None,
) -> Plan:
    """The plan that follows from `rows` of the trials table, or one that was set aside earlier and stands for it: an
    equal one, or, with runs, one of the same layout for which no fewer seeds were asked.

    guessing: as in Plan. held: a plan of the folder that a run would set aside first. fit: makes the plan smaller or
    larger, to fit into the time that is left; None: the plan is what the study asks for.
    Raises TrialsFailed if there is nothing to confirm, FolderRefused if confirm trials belong to a plan that is lost
    and cannot be made again.
    """

    def planned_for(fitted: Study) -> Plan:
        return make_plan(fitted, rows, data_hash, code, guessing)

    fresh = planned_for(study) if fit is None else fit(study, planned_for)
    aside = [*_set_aside(folder), *([held] if held else [])]
    plan = next((old for old in aside if old.seeds_from == fresh.seeds_from), None)
    if plan is None:
        alike = [
            old for old in aside if old.same_layout(fresh) and goes_on(old, study, rows) and _runs(old, study, rows)
        ]
        plan = max(alike, key=lambda old: old.asked["seeds"], default=fresh)
    lost = {row["plan_hash"] for row in rows} - {None, plan.plan_hash, *(old.plan_hash for old in aside)}
    if lost:
        raise FolderRefused(
            f"{folder.url}/plan.json: is missing, and a plan made anew is not the one that confirm trials here "
            f"were run by ({', '.join(sorted(lost))}); put it back, or use another --name"
        )
    return plan


def _runs(plan: Plan, study: Study, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the runs of `plan` among `rows` are those that it has for `study`: of its budget, among other things."""
    wanted = {config.trial_id for _, _, _, config in plan.trials(study)}
    return all(row["trial_id"] in wanted for row in rows if row["plan_hash"] == plan.plan_hash)


def _set_aside(folder: ResultsFolder) -> Iterator[Plan]:
    for name in folder.names(PLANS):
        if (raw := folder.read(f"{PLANS}/{name}")) is not None:
            yield read_plan(raw, f"{folder.url}/{PLANS}/{name}")


def planned(plan: Plan, study: Study) -> list[tuple[int, int, PlannedArm, RunConfig]]:
    """The plan's runs, as `Plan.trials` yields them. FolderRefused if one cannot be run, or two are the same run."""
    trials = list(plan.trials(study))
    arms: dict[str, str] = {}
    for _, _, arm, config in trials:
        if (first := arms.setdefault(config.trial_id, arm.name)) != arm.name:
            raise FolderRefused(f"plan {plan.plan_hash}: arms {first} and {arm.name} are the same run")
    return trials


def pilot(study: Study, rows: Rows, dataset: DatasetOf) -> Iterator[tuple[dict[str, Any], Task]]:
    """The pilot's runs of the baseline: columns of each row, and the task."""
    numbers = [row["number"] for row in rows.values()]
    first = max([study.explore_trials - 1, *numbers]) + 1
    for number, (columns, config) in enumerate(pilot_trials(study), first):
        task = Task(config.trial_id, config, Phase.PILOT, test=True, data_hash=dataset(config)[0])
        yield {"number": number} | columns, task


def runs(plan: Plan, study: Study, rows: Rows, dataset: DatasetOf) -> Iterator[tuple[dict[str, Any], Task]]:
    """The plan's runs: columns of each row, and the task. FolderRefused as in `planned`."""
    others = [row["number"] for row in rows.values() if row["plan_hash"] != plan.plan_hash]
    trials = planned(plan, study)
    data = {f"trial:{config.trial_id}": config.data for _, _, _, config in trials if isinstance(config, TrialConfig)}
    sources = {starts_from(config).removeprefix("trial:") for _, _, _, config in trials}
    for number, (row, block, arm, config) in enumerate(trials, 1 + max(others, default=-1)):
        weights = starts_from(config)
        keep, of_source = config.trial_id in sources, data.get(weights)
        task = Task(config.trial_id, config, Phase.CONFIRM, True, dataset(config)[0], keep, of_source)
        columns = {
            "number": number,
            "arm": arm.name,
            "plan_hash": plan.plan_hash,
            "design_row": row,
            "seed_block": block,
            **arm.values,
        }
        if study.arms and weights in study.given_weights.values():
            columns["weights"] = weights  # the plan may be older than the weights file
        yield columns, task
