"""Run failed trials again: under their own id if their config stays the same, else replaced by another trial."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from resnetlab.planning.plan import Plan
from resnetlab.storage.store import Store
from resnetlab.study import Study
from resnetlab.study.records import Phase, Status
from resnetlab.study.trial_config import RunConfig
from resnetlab.wording import plural

FAILED = (Status.FAILED, Status.OUT_OF_MEMORY)
AGAIN = "run again after it ended as"


def reopen(store: Store, plan: Plan | None) -> list[str]:
    """Let the trials that failed or ran out of memory be run again, with what befell them kept in `reason`; what people
    must hear. Where there is a plan, what was run before it stays as it is: the plan rests on what was known then. So
    does what a look has counted: it would have decided otherwise."""
    opened = left = counted = 0
    looked = _looked(store, plan)
    for trial_id, row in list(store.trials.items()):
        if row["status"] not in FAILED:
            continue
        if row["plan_hash"] != (plan.plan_hash if plan else None):
            left += row["phase"] != Phase.CONFIRM
            continue
        if row["phase"] == Phase.CONFIRM and row["seed_block"] < looked:
            counted += 1
            continue
        again: dict[str, Any] = {
            "status": str(Status.INTERRUPTED),
            "reason": f"{AGAIN} {row['status']}: {row['reason'] or 'unknown'}",
        }
        if not row["epochs_run"]:  # else its worker says so
            again["restarts"] = (row["restarts"] or 0) + 1
        store.add("trials", {"trial_id": trial_id, **again})
        opened += 1
    said = [f"{plural(opened, 'trial')} that failed {'is' if opened == 1 else 'are'} run again"]
    if left:
        stay = "stays" if left == 1 else "stay"
        said.append(f"{left} that failed before the plan was made {stay} as before: it cannot change")
    if counted:
        verb = "stays" if counted == 1 else "stay"
        said.append(f"{counted} that a look has counted as lost {verb} so: its decision rests on them")
    return said


def _looked(store: Store, plan: Plan | None) -> int:
    """How many blocks of the plan's runs have been looked at."""
    if plan is None or plan.looks is None:
        return 0
    from resnetlab.analysis.confirm.looks_taken import of_rows  # seconds of imports, for plans that look

    return of_rows(plan, store.trials.values()).block


def replace(store: Store, study: Study, plan: Plan | None) -> Iterator[tuple[RunConfig, Phase, dict[str, Any]]]:
    """Replace trials that never trained because their weights were missing, if the study now names a file for them.

    Marks them as replaced, and yields config, phase and columns of the trial that takes the place of each explore
    trial; new runs of pilot and plan follow from the study. Explore trials stay as they are once there is a plan.
    """
    ids: set[str] = set()
    rows = sorted(store.trials.values(), key=lambda row: row["number"])
    top = max([study.explore_trials - 1, *(row["number"] for row in rows)]) + 1
    for row in _waiting_for(rows, study.given_weights, plan):
        phase, content = Phase(row["phase"]), json.loads(row["config"])
        ids.add(row["trial_id"])
        mark: dict[str, Any] = {"status": str(Status.REPLACED), "plan_hash": None}
        by = "the same run, from the weights that were given"
        if phase.searched:
            content["weights"] = study.given_weights[content["weights"]]
            config = study.trial_type.model_validate(content | {"data": study.dataset})
            by, mark["number"] = f"trial {config.trial_id}", top  # the number is that of the proposal
            top += 1
            columns = {name: row[name] for name in ("number", "stop_probability", *study.columns)}
            columns["reason"] = f"in place of trial {row['trial_id']} ({row['status']}: {row['reason']})"
        mark["reason"] = f"replaced by {by}; {row['reason'] or row['status']}"
        store.add("trials", {"trial_id": row["trial_id"], **mark})
        if phase.searched:
            yield config, phase, columns


def _waiting_for(rows: list[dict[str, Any]], given: Mapping[str, str], plan: Plan | None) -> Iterator[dict[str, Any]]:
    """Rows that never trained and start from one of the `given` weights, or from a trial that does."""
    idle = [row for row in rows if not row["epochs_run"] and row["status"] != Status.REPLACED] if given else []
    idle = [row for row in idle if plan is None or Phase(row["phase"]) is Phase.CONFIRM]
    wanted = set(given)
    for _ in range(2):  # what starts from another trial comes second
        found = [row for row in idle if json.loads(row["config"])["weights"] in wanted]
        yield from found
        wanted = {f"trial:{row['trial_id']}" for row in found}
