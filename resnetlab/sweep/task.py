"""A task's first row, and the datasets that tasks read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from resnetlab.experiment.messages import Cell, Task
from resnetlab.study import Study
from resnetlab.study.frozen import digest
from resnetlab.study.records import Status
from resnetlab.study.trial_config import PLACES, RunConfig, TrialConfig


def first_row(task: Task, study: str) -> dict[str, Cell | datetime]:
    """A task's row in the trials table of the study `study` when it is handed out for the first time."""
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
    """Names a trial's dataset as its config asks for it; empty where that is a task, which has data of its own."""
    return digest(config.data.identity()) if isinstance(config, TrialConfig) else ""


def content_hash(hashes: Iterable[str]) -> str:
    """The data that a plan names: the hash of the one dataset that its trials read, or over those of all of them."""
    first, *others = sorted(set(hashes))
    return digest([first, *others])[:16] if others else first


def one_dataset(study: Study, content_hash: str, classes: Sequence[str]) -> dict[str, tuple[str, Sequence[str]]]:
    """The `data` of a Sweep whose trials all read one dataset."""
    return {data_key(study.config(study.baseline_values(), seed=0)): (content_hash, classes)}
