"""A study's own sampler, stopping rule and task, tried before the first trial, in a process of their own.

A job comes as JSON on standard input. The answers go to standard output, a JSON object a line: `left` names what is
still to be tried, `note` is for people to hear, and `problem` says what is wrong, in words. `rehearsal` asks, and
ends this process when its time is over.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from resnetlab.errors import BadRequest, ResnetlabError
from resnetlab.experiment.messages import Ending, Task, TrialContext
from resnetlab.experiment.source import Source
from resnetlab.experiment.task_run import TaskRun
from resnetlab.study import Study, build_study
from resnetlab.study.records import Phase, Status
from resnetlab.study.trial_config import RunConfig
from resnetlab.vision.own_task import begin

VALUES = (0.5, 0.4, 0.6)  # of the objective after one epoch and the next, made up
ROUNDING = 1e-6  # relative: by how much equal seeds may differ, where threads add numbers in another order


def main() -> None:
    """Answer one job."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a user's code prints is not an answer
    text = sys.stdin.read()
    if not text:  # it was started early, and the study was refused before this
        return
    job = json.loads(text)
    study = build_study(job["study"], "study").model_copy(update={"code": job["code"]})
    steps = list(_steps(study, job["keys"], Path(job["place"]), Path(job["cache"]), job["alone"]))
    for answer in _answers(steps, job["seconds"]):
        print(json.dumps(answer), file=answers, flush=True)


@dataclass(frozen=True)
class Step:
    """One thing to try. call: tries it; what people should hear of it, or an empty text. BadRequest where something is
    wrong. seconds: how long it will take, where that is known."""

    what: str
    call: Callable[[], str]
    seconds: Callable[[], float] = lambda: 0.0


def _answers(steps: list[Step], limit: float) -> Iterator[dict[str, Any]]:
    began = time.monotonic()
    for number, step in enumerate(steps):
        yield {"left": [each.what for each in steps[number:]]}
        if time.monotonic() - began + step.seconds() > limit:
            return
        try:
            note = step.call()
        except ResnetlabError as error:
            yield {"problem": str(error)}
            return
        if note:
            yield {"note": note}
    yield {"left": []}


def _steps(study: Study, keys: Collection[str], place: Path, cache: Path, alone: bool) -> Iterator[Step]:
    own = {part.key: f"{part.key}: {part.text}" for part in study.own.parts if part.key in keys}
    if name := own.get("search.sampler"):
        yield Step(name, partial(_sampler, study, place / "code", alone))
    if name := own.get("search.stopping"):
        yield Step(name, partial(_stopping_rule, study, place / "code"))
    if name := own.get("experiment"):
        yield from TaskTrials(study, name, place, cache).steps()


def _sampler(study: Study, place: Path, alone: bool) -> str:
    """Ask for two trials: before any has ended (alone: it never is, trials run one at a time), and after one has ended
    and one has failed."""
    from resnetlab.search.optuna_sampler import OptunaSampler
    from resnetlab.sweep import own_search

    search = OptunaSampler(study, own_search.sampler(study, place), own_search.optunas(study, place))
    number = len(study.enqueued)  # of the last trial that is not the sampler's

    def asked(trial_id: str, at: int, when: str) -> bool:
        try:
            found = search.ask(at)
        except BadRequest as error:
            raise BadRequest(f"{error}\nwhen it was asked {when}") from None
        if found is not None:
            search.started(trial_id, found[0], (at, found[1]))
        return found is not None

    asked("baseline", 0, "for the baseline")
    others = not alone and asked("next", number + 1, "while no trial had ended: `done` is empty")
    search.reported("baseline", 1, VALUES[0])
    search.ended("baseline", Status.COMPLETE, 1.0)
    when = "after the baseline had ended"
    if others:
        search.ended("next", Status.FAILED, None)
        when += ", and another trial had failed: its objective is None"
    asked("last", number + 2, when)
    return ""


def _stopping_rule(study: Study, place: Path) -> str:
    """Ask for a decision after each of a few epochs: of two trials that run side by side, then of a third one."""
    from resnetlab.sweep import own_search

    rule = own_search.rule(study, place)
    stopped: set[str] = set()
    for trials in (("first", "second"), ("third",)):
        for epoch, value in enumerate(VALUES[: study.search.epochs - 1], start=1):
            for trial_id in trials:
                found = None if trial_id in stopped else rule.report(trial_id, epoch, value)
                if found is not None and found.decision == "stop":
                    stopped.add(trial_id)
    return ""


class TaskTrials:
    """One epoch of the study's own task at each of a few points. name: what messages call it."""

    def __init__(self, study: Study, name: str, place: Path, cache: Path):
        self._study, self._name, self._place = study, name, place
        self._code = Source(study.code, study.own.folder).unpack(place / "code")
        self._context = TrialContext(
            folder=str(place / "results"),
            cache=cache,
            cpus=study.resources.cpus,
            gpus=0,
            epoch_timeout_s=study.resources.epoch_timeout_s,
            every_epoch=True,
            code=study.own.source[:12],
            numbers=tuple(study.numbers),
        )
        if not self._context.task_data.exists():  # half of a download must not stay where trials look for the whole
            self._context = replace(self._context, cache=place / "cache")
        self._test = study.search.epochs == 1  # a later epoch, after which the test split is read, is not waited for
        self._seconds = 0.0  # that the first epoch took, and what came before it
        self._first: TaskRun | None = None

    def steps(self) -> Iterator[Step]:
        """The baseline, the same once more, a trial of one epoch to its end, and the ends of the space, or the other
        arms."""
        baseline = self._study.baseline_config(seed=0)
        yield Step(f"{self._name} at the baseline", partial(self._baseline, baseline))
        yield Step(f"{self._name} with the same seed again", partial(self._again, baseline), lambda: self._seconds)
        if not self._test and self._study.confirm.design != "none":
            yield Step(f"{self._name} on the test split", partial(self._short, baseline), lambda: self._seconds)
        for where, config in self._study.far_configs():
            yield Step(f"{self._name} at {where}", partial(self._far, config, where), lambda: self._seconds)

    def _baseline(self, config: RunConfig) -> str:
        began = time.monotonic()
        self._first = self._run(config, keep=True)
        self._seconds = time.monotonic() - began
        if self._first.resumes:
            self._run(config, keep=True, epoch=False)  # which loads the state
        return ""

    def _again(self, config: RunConfig) -> str:
        assert self._first is not None
        directed = {name for name, number in self._study.numbers.items() if number.direction}
        for one, other in zip(self._first.history, self._run(config).history, strict=False):
            for name in directed & one.metrics.keys():
                values = one.metrics[name], other.metrics[name]
                if not math.isclose(*values, rel_tol=ROUNDING, abs_tol=ROUNDING**2):
                    raise BadRequest(
                        f"{self._name}: epoch {one.epoch}: {name} is {values[0]!r}, and {values[1]!r} when it is run "
                        "again with the same seed (allowed: all randomness from trial.seed(purpose))\n"
                        f"at {config.own_words}"
                    )
        return ""

    def _short(self, config: RunConfig) -> str:
        """The numbers of the test split after one epoch, of which only the names count. Code that cannot do with one
        epoch is told, and code that yields more is let alone: no trial of the study asks for one."""
        task = Task(config.trial_id, config.model_copy(update={"epochs": 1}), Phase.CONFIRM, True)
        run = None
        try:
            run = begin(task, self._context, False, self._code)
            run.step()
        except BadRequest as error:
            if run is not None and run.ended:
                raise BadRequest(f"{error}\nat {config.own_words}") from None
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            ending = Ending.of(error, self._place / "code")
            return f"{self._name}, to its end with trial.epochs = 1: {ending.reason}"
        return ""

    def _far(self, config: RunConfig, where: str) -> str:
        try:
            self._run(config)
        except _Expected as error:
            return f"{self._name} at {where}: {error.line}"
        return ""

    def _run(self, config: RunConfig, keep: bool = False, epoch: bool = True) -> TaskRun:
        """A trial that has run its first epoch, and as many as fit into one report where they are short.

        Raises BadRequest with the settings, and _Expected where a search would go on.
        """
        task = Task(config.trial_id, config, Phase.CONFIRM if self._test else Phase.EXPLORE, self._test)
        at = f"at {config.own_words}"
        try:
            run = begin(task, self._context, keep, self._code)
            if epoch:
                run.step()
            return run
        except ResnetlabError as error:
            raise BadRequest(f"{error}\n{at}") from None
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            ending = Ending.of(error, self._place / "code")
            said = f"{self._name}: {ending.reason}\n{at}\n{ending.traceback}".rstrip()
            kind = _Expected(said, f"{ending.reason}, {at}") if ending.status.expected else BadRequest(said)
            raise kind from None


class _Expected(BadRequest):
    """A trial ended as some of a search do. line: how, in one line."""

    def __init__(self, said: str, line: str):
        super().__init__(said)
        self.line = line


if __name__ == "__main__":
    main()
