"""The plan that a results folder holds: found, made once, set aside where the study asks for another. Never lost."""

from __future__ import annotations

import json
from pathlib import Path

from resnetlab.errors import FolderRefused
from resnetlab.plan import Plan, asked, make_plan, read_plan
from resnetlab.study import Study
from resnetlab.tables.store import Store


def find(store: Store, study: Study) -> tuple[Plan | None, str | None]:
    """The folder's plan, None where there is none for what the study asks, and the hash of one that was set aside."""
    raw = store.folder.read("plan.json")
    if raw is None:
        return None, None
    plan = read_plan(raw, f"{store.folder.url}/plan.json")
    if plan.asked == asked(study):
        return plan, None
    store.folder.write(f"plans/{plan.plan_hash}.json", raw)
    return None, plan.plan_hash


def make(store: Store, study: Study, data_hash: str, revision: str) -> Plan:
    """Make the plan and write it. FolderRefused where trials were run by one that is lost and cannot be made again."""
    store.flush()
    plan = make_plan(study, store.trials.values(), data_hash, revision)
    kept = {None, plan.plan_hash} | {Path(name).stem for name in store.folder.names("plans")}
    lost = {row["plan_hash"] for row in store.trials.values()} - kept
    if lost:
        raise FolderRefused(
            f"{store.folder.url}/plan.json: is missing, and a plan made anew is not the one that confirm trials here "
            f"were run by ({', '.join(sorted(lost))}); put it back, or use another --name"
        )
    content = plan.content() | {"plan_hash": plan.plan_hash}
    store.folder.write("plan.json", json.dumps(content, indent=2).encode())
    return plan
