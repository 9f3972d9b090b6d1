"""The search as an Optuna study in a storage that other tools open, e.g. optuna-dashboard. Made from the tables: it is
never read back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from resnetlab.errors import BadRequest
from resnetlab.search.optuna_sampler import STATES, OptunaSampler
from resnetlab.search.optuna_storage import open_storage
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table
from resnetlab.study import Study
from resnetlab.study.records import Phase, Status

OURS = "resnetlab"  # user attribute of studies that this has written
KEPT = ("trial_id", "phase", "status", "reason", "epochs_run", "parameters", "train_seconds")


def write(study: Study, folder: ResultsFolder, where: str) -> int:
    """Write the explore trials of `folder` to `where`: stopped ones as pruned, with all values that they reported.

    where: a file (`.db` is SQLite, `.log` or `.journal` Optuna's journal), or a URL that Optuna takes. A study of this
    name that an earlier call has written is replaced. Returns the number of trials. BadRequest.
    """
    search, trials = OptunaSampler(study), read_table(folder, "trials")
    values = _values(folder, study.searched.name)
    rows = [] if trials is None else [row for row in trials.to_pylist() if Phase(row["phase"]).searched]
    rows = [row for row in rows if row["status"] != Status.REPLACED]
    frozen = [_frozen(search, row, values.get(row["trial_id"], {})) for row in rows]
    try:
        storage = open_storage(where)
        if study.name in optuna.get_all_study_names(storage):
            held = optuna.load_study(study_name=study.name, storage=storage)
            if OURS not in held.user_attrs:
                raise BadRequest(f"--optuna {where}: has another study {study.name}; give another file")
            optuna.delete_study(study_name=study.name, storage=storage)
        made = optuna.create_study(storage=storage, study_name=study.name, directions=search.optuna.directions)
        made.set_user_attr(OURS, folder.url)
        second = study.search.second_objective
        made.set_metric_names([study.searched.name, *([second] if second else [])])
        made.add_trials(frozen)
    except BadRequest:
        raise
    except Exception as error:  # of the storage: SQLAlchemy's, the file system's, the journal's
        raise BadRequest(f"--optuna {where}: cannot be written: {str(error).splitlines()[0]}") from None
    return len(frozen)


def _values(folder: ResultsFolder, column: str) -> dict[str, dict[int, float]]:
    """A column of `epochs` by epoch, of each trial."""
    epochs = read_table(folder, "epochs")
    found: dict[str, dict[int, float]] = {}
    if epochs is not None:
        columns = (epochs[name].to_pylist() for name in ("trial_id", "epoch", column))
        for trial_id, epoch, value in zip(*columns, strict=True):
            found.setdefault(trial_id, {})[epoch] = value
    return found


def _frozen(search: OptunaSampler, row: Mapping[str, Any], values: dict[int, float]) -> FrozenTrial:
    placed, second = search.placed(row), search.study.search.second_objective
    status = Status(row["status"])
    state = STATES.get(status, TrialState.RUNNING)
    results = [row[search.study.searched.name], *([float(row[second] or 0.0)] if second else [])]
    trial = create_trial(
        state=state,
        values=results if state is TrialState.COMPLETE else None,
        params={name: row[factor] for name, (factor, _) in placed.items()},
        distributions={name: distribution for name, (_, distribution) in placed.items()},
        user_attrs={name: row[name] for name in KEPT if row[name] is not None},
        intermediate_values={} if second else values,  # Optuna has them for one objective only
    )
    trial.datetime_start = _local(row["started"])
    trial.datetime_complete = _local(row["ended"]) if status.ended else None
    return trial


def _local(when: datetime | None) -> datetime | None:
    """As Optuna has times: of this machine's zone, without saying so."""
    return when.astimezone().replace(tzinfo=None) if when is not None else None
