"""Run a study: check everything, connect to Ray, drive the Sweep, leave tables. The one way in for every script."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from resnetlab.driver.checks import own_code, request, warm_start
from resnetlab.driver.checks.accept import accept
from resnetlab.driver.checks.dataset_record import guessing, image_table, known, noted
from resnetlab.driver.drive import drive
from resnetlab.driver.live_view import LiveView
from resnetlab.driver.options import Options
from resnetlab.driver.session import used_seconds
from resnetlab.driver.signals import continue_hint
from resnetlab.errors import BadRequest, CannotWrite, FolderRefused, NodeRefused, OtherData, StorageLost, TrialsFailed
from resnetlab.provenance import code_version, provenance
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store, write_table
from resnetlab.study import Study
from resnetlab.study.extension import Extension
from resnetlab.study.records import Status
from resnetlab.sweep import extended
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.time_budget import UNLIMITED, TimeBudget, Unlimited
from resnetlab.vision.data import default_cache
from resnetlab.vision.training import kept_weights


def run_study(study: Study, options: Options, watch: Callable[[Sweep], LiveView] = LiveView) -> ResultsFolder:
    """Run or continue `study`; returns the results folder, with its tables published.

    Raises a ResnetlabError that says what happened: Interrupted (with what was done kept), TrialsFailed, BadRequest, …
    """
    taken = accept(study, options)
    study, folder, datasets, content = taken.study, taken.folder, taken.datasets, taken.content
    cache = options.cache or default_cache()
    fresh = not folder.exists()
    store = _open_store(folder, study)
    try:
        data = known(datasets)
        version = _write_study(store, study, {content_hash for content_hash, _ in data.values()}, taken.extension)
        folder.write_json("data.json", content)
        if len(files := image_table(study, datasets)):
            write_table(folder, "images", files)
        own_code.keep(folder, study, taken.changed)
        kept_weights.keep(folder, taken.weights)
        warm_start.keep(folder, taken.warm)
        sweep = Sweep(
            study,
            store,
            _facts() | {"study_version": version},
            data,
            options.stage,
            code_version(),
            retry=options.retry_failed,
            guessing=guessing(study, datasets),
            code_place=cache / "code",
            warm=warm_start.trials(taken.warm),
            time=_time(study, folder, options.began),
        )
        sweep.time.check_enough(store.trials)
        shown = watch(sweep)
        for line in [*(f"data: {line}" for line in noted(content)), *taken.notes]:
            shown.say(line)
        if sweep.needs_workers:
            drive(sweep, options, cache, shown, datasets)
        else:
            sweep.next()
        if sweep.error is not None:
            raise sweep.error
        sweep.time.check_enough(store.trials)
        if store.trials and not sweep.counts().get(Status.COMPLETE):
            raise TrialsFailed(f"{study.name}: none of {len(store.trials)} trials reached the full budget")
        store.close()
        return folder
    except BaseException as error:
        with suppress(FolderRefused):  # what is in flight says more
            store.close()
            if fresh and not store.trials:  # refused before the first trial: leave nothing behind
                folder.remove()
        if isinstance(error, CannotWrite):
            first = "" if isinstance(error, StorageLost) else "make room, then "
            raise type(error)(f"{error}. What was recorded is safe; {first}{continue_hint()}") from None
        if isinstance(error, (NodeRefused, OtherData)) and store.trials:
            raise type(error)(f"{error}; then {continue_hint()}") from None
        raise


def _open_store(folder: ResultsFolder, study: Study) -> Store:
    try:
        say = partial(print, file=sys.stderr, flush=True)
        return Store(folder, study.columns, say, study.own_columns, (*study.measures, *study.borrowed))
    except StorageLost:
        raise
    except OSError as error:
        raise BadRequest(f"--storage {error}") from None


def _write_study(store: Store, study: Study, hashes: set[str], extension: Extension | None) -> int:
    """study.json, before the first row; the version of the study. extension: what it asks beyond the one before. Raises
    FolderRefused where a folder with rows lacks it, or rows are of another study, BadData where they are of other data
    than the datasets with these `hashes`."""
    folder = store.folder
    request.check_rows(study, folder, list(store.trials.values()), hashes)
    return extended.write_study(store, study, extension)


def _time(study: Study, folder: ResultsFolder, began: float) -> Unlimited:
    """The study's time budget, less what earlier sessions took."""
    if not study.time_budget:
        return UNLIMITED
    from resnetlab.analysis.confirm.power import enough_seeds  # half a second that only time budgets are to cost

    sessions = (folder.read_json("sweep.json") or {}).get("sessions", [])
    return TimeBudget(study, sum(map(used_seconds, sessions)), began, enough=enough_seeds)


def _facts() -> dict[str, Any]:
    found = provenance()
    return {"git_revision": found["git_revision"], "versions": json.dumps(found["versions"], sort_keys=True)}
