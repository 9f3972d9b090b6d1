"""Rerun a recorded trial of a study's own task, and compare it with its record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from resnetlab.driver.rerun import (
    Place,
    Rerun,
    Say,
    changes,
    differences_of,
    epochs_again,
    other_predictions,
    recorded_code,
    recorded_epochs,
)
from resnetlab.errors import BadRequest, ResnetlabError
from resnetlab.experiment.messages import Ending, Report, Task, TrialContext
from resnetlab.experiment.task_run import TaskRun
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import Study
from resnetlab.study.own_config import trial_type
from resnetlab.study.records import Phase, TaskTest
from resnetlab.vision.data import default_cache
from resnetlab.vision.own_task import begin


def rerun_task(folder: ResultsFolder, row: Mapping[str, Any], study: Study, place: Place, say: Say) -> Rerun:
    """Run the task of `row` again for as many epochs as it had, with the code in the results folder, and compare.

    Raises BadRequest, with the traceback, if that code fails.
    """
    run, context = _start(folder, row, study, place, say)
    searched, recorded = study.searched, recorded_epochs(folder, row["trial_id"])
    again = epochs_again(row, place)
    differences, ending, report = [], "", Report()
    while run.epoch < again:
        try:
            report = run.step()
        except Exception as error:
            if place.debug:
                raise
            ended = Ending.of(error, context.code_place, f"epoch {run.epoch + 1}: ")
            if type(error).__name__ != "Diverged":
                raise BadRequest(f"{ended.reason}\n{ended.traceback}".rstrip()) from None
            ending = ended.reason
            say(ending)
            break
        for done in report.epochs:
            now, then = done.as_row(), recorded.get(done.epoch)
            if done.epoch <= again:
                differences += differences_of(done.epoch, then, now, list(done.metrics))
                beside = f" (recorded: {searched.show(then[searched.name])})" if then else ""
                say(f"epoch {done.epoch} of {again}: {searched.words} {searched.show(now[searched.name])}{beside}")
    if (row["status"] == "diverged") != bool(ending):
        differences.append(f"recorded as {row['status']}, {'diverged' if ending else 'did not diverge'} now")
    whole = again == row["epochs_allowed"]  # short epochs come several at a time, perhaps more than were recorded
    tested = dict(report.test.metrics) if report.test is not None and whole else {}
    differences += [f"{name}: {row[name]!r} recorded, {now!r} now" for name, now in tested.items() if row[name] != now]
    if tested and isinstance(report.test, TaskTest) and report.test.items is not None:
        differences += other_predictions(folder, row["trial_id"], report.test.items)
    metric = study.confirmed if tested else searched
    last = run.history[again - 1].metrics if 0 < again <= run.epoch and not ending else {}
    values = tested or dict(last)
    if tested:
        say(f"{metric.words} {metric.show(tested[metric.name])} (recorded: {metric.show(row[metric.name])})")
    return Rerun(
        row=row,
        training=None,
        dataset=None,
        epochs=min(run.epoch, again),
        device=context.device,
        ending=ending,
        compared=len(recorded),
        differences=differences,
        changed=changes(row, context.device, recorded_code(folder, row, study)),
        metric=metric if values else None,
        recorded=_number(row.get(metric.name)),
        measured=_number(values.get(metric.name)),
    )


def _start(
    folder: ResultsFolder, row: Mapping[str, Any], study: Study, place: Place, say: Say
) -> tuple[TaskRun, TrialContext]:
    recorded = recorded_code(folder, row, study)
    assert recorded is not None, "a task is a study's own code"
    described, source = recorded
    say(f"this runs the study's own code: {', '.join(part.text for part in described.parts)}")
    config = trial_type(described.parts).model_validate_json(row["config"])
    phase = Phase(row["phase"])
    device = place.device or ("cpu" if str(row["device"] or "cpu").startswith("cpu") else str(row["device"]))
    context = TrialContext(
        folder=folder.place,
        cache=place.cache or default_cache(),
        cpus=row["threads"] or 1,
        gpus=0.0 if device == "cpu" else 1.0,
        epoch_timeout_s=math.inf,
        device=device,
        code=source.hash[:12],
        numbers=tuple(study.numbers),
    )
    task = Task(row["trial_id"], config, phase, not phase.searched)
    try:
        return begin(task, context, keep=False, code=source.unpack(context.code_place)), context
    except ResnetlabError:
        raise
    except Exception as error:
        if place.debug:
            raise
        ended = Ending.of(error, context.code_place, "being set up: ")
        raise BadRequest(f"{ended.reason}\n{ended.traceback}".rstrip()) from None


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
