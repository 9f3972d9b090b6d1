"""A recorded trial of a study's own task, run again and compared."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from resnetlab.driver import own_code
from resnetlab.driver.rerun import Place, Rerun, Say, changes, differences_of, recorded_epochs
from resnetlab.errors import BadRequest, ResnetlabError
from resnetlab.experiment.messages import Ending, Report, Task, TrialContext
from resnetlab.experiment.task_run import TaskRun
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import Study
from resnetlab.study.records import Phase
from resnetlab.study.trial_config import trial_type
from resnetlab.vision.data import default_cache
from resnetlab.vision.own_task import begin


def rerun_task(folder: ResultsFolder, row: Mapping[str, Any], study: Study, place: Place, say: Say) -> Rerun:
    """Run the task of `row` again for as many epochs as it had, from the code in the results folder, and compare.

    BadRequest where its code fails, with its traceback.
    """
    run, context = _start(folder, row, study, place, say)
    searched, recorded = study.searched, recorded_epochs(folder, row["trial_id"])
    again = (row["epochs_run"] or 0) + (row["status"] == "diverged")  # the epoch in which it diverged left no row
    differences, ending, report = [], "", Report()
    for epoch in range(1, again + 1):
        try:
            report = run.step()
        except Exception as error:
            ended = Ending.of(error, context.code_place, f"epoch {epoch}: ")
            if type(error).__name__ != "Diverged":
                raise BadRequest(f"{ended.reason}\n{ended.traceback}".rstrip()) from None
            ending = ended.reason
            say(ending)
            break
        now, then = report.epochs[-1].as_row(), recorded.get(epoch)
        differences += differences_of(epoch, then, now, list(report.epochs[-1].metrics))
        beside = f" (recorded: {searched.show(then[searched.name])})" if then else ""
        say(f"epoch {epoch} of {again}: {searched.words} {searched.show(now[searched.name])}{beside}")
    if (row["status"] == "diverged") != bool(ending):
        differences.append(f"recorded as {row['status']}, {'diverged' if ending else 'did not diverge'} now")
    tested = dict(report.test.metrics) if report.test is not None else {}
    differences += [f"{name}: {row[name]!r} recorded, {now!r} now" for name, now in tested.items() if row[name] != now]
    metric = study.confirmed if tested else searched
    values = tested or (dict(report.epochs[-1].metrics) if report.epochs and not ending else {})
    if tested:
        say(f"{metric.words} {metric.show(tested[metric.name])} (recorded: {metric.show(row[metric.name])})")
    return Rerun(
        row, None, None, run.epoch, context.device, ending, len(recorded), differences, changes(row, context.device),
        metric if values else None, _number(row.get(metric.name)), _number(values.get(metric.name)),
    )  # fmt: skip


def _start(
    folder: ResultsFolder, row: Mapping[str, Any], study: Study, place: Place, say: Say
) -> tuple[TaskRun, TrialContext]:
    how = json.loads(row["settings"] or "{}")
    described, source = own_code.kept(folder, how.get("code", study.own.source))
    say(f"this runs the study's own code: {', '.join(part.text for part in described.parts)}")
    config = trial_type(described.parts).model_validate_json(row["config"])
    phase = Phase(row["phase"])
    device = place.device or ("cpu" if str(row["device"] or "cpu").startswith("cpu") else "cuda")
    context = TrialContext(
        folder=folder.place,
        cache=place.cache or default_cache(),
        cpus=row["threads"] or 1,
        gpus=1.0 if device == "cuda" else 0.0,
        epoch_timeout_s=math.inf,
        code=source.hash[:12],
        numbers=tuple(study.numbers),
    )
    task = Task(row["trial_id"], config, phase, not phase.searched)
    try:
        return begin(task, context, keep=False), context
    except ResnetlabError:
        raise
    except Exception as error:
        ended = Ending.of(error, context.code_place, "being set up: ")
        raise BadRequest(f"{ended.reason}\n{ended.traceback}".rstrip()) from None


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
