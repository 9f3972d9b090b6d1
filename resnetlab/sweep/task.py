"""The first row of a trial in the trials table, what its `settings` say of changed code, and keys and hashes of the
datasets that trials read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from resnetlab.experiment.messages import Cell, Task
from resnetlab.study import Study
from resnetlab.study.data_config import PLACES
from resnetlab.study.frozen import digest
from resnetlab.study.records import CODES_BEFORE, Status
from resnetlab.study.trial_config import RunConfig, TrialConfig


def first_row(task: Task, study: str) -> dict[str, Cell | datetime]:
    """The row with which a trial enters the trials table, when its task is first handed out. study: its name."""
    return {
        "trial_id": task.trial_id,
        "study": study,
        "phase": str(task.phase),
        "status": str(Status.WAITING),
        "config": task.config.model_dump_json(exclude={"data": set(PLACES)}),
        "seed": task.config.seed,
        "split_seed": task.config.split_seed,
        "epochs_run": 0,
        "epochs_allowed": task.config.epochs,
        "restarts": 0,
        "started": datetime.now(UTC),
        "data_hash": task.data_hash,
    }


def data_key(config: RunConfig) -> str:
    """Key of the dataset that a config asks for; empty for a study's own task, which has its own data."""
    return digest(config.data.identity()) if isinstance(config, TrialConfig) else ""


def content_hash(hashes: Iterable[str]) -> str:
    """Hash of the data that a plan names: that of its trials' dataset, or one over the hashes of all their datasets."""
    first, *others = sorted(set(hashes))
    return digest([first, *others])[:16] if others else first


def one_dataset(study: Study, content_hash: str, classes: Sequence[str]) -> dict[str, tuple[str, Sequence[str]]]:
    """The argument `data` of a Sweep whose trials all read one dataset. content_hash, classes: of that dataset."""
    return {data_key(study.config(study.baseline_values(), seed=0)): (content_hash, classes)}


def with_codes(row: Mapping[str, Any], settings: str) -> str:
    """The `settings` column as a worker reports it, with the versions of own code that the trial's earlier epochs ran:
    those of `row` that are others."""
    then, now = json.loads(row.get("settings") or "{}"), json.loads(settings)
    before = [*then.get(CODES_BEFORE, []), then.get("code")] if row.get("epochs_run") else []
    codes = [code for code in dict.fromkeys(before) if code and code != now.get("code")]
    return json.dumps(now | {CODES_BEFORE: codes}) if codes else settings
