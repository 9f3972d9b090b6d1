"""What the sections of a study must be to each other: all that is refused once each is sound by itself.

`check` goes through all of it. Each check raises ValueError: key, rule, what was given and what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from resnetlab.study import catalog
from resnetlab.study.metrics import CLASSIFIER
from resnetlab.study.numbers import RESERVED
from resnetlab.study.settings import check_level
from resnetlab.study.yaml_io import first_problem, suggestion

if TYPE_CHECKING:
    from resnetlab.study.study import Study

ARM_KEYS = frozenset({"data", "epochs", "source"})  # what an arm may set beside TrialConfig's factors
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # of a study and of an arm
STEADY = "constant"  # the schedule under which all epochs have one learning rate


def check(study: Study) -> None:
    """Raise ValueError for the first thing that does not fit."""
    for fits in (_precision, _fair_times, _task, _metrics, _search, _space, _kept_checkpoints):
        fits(study)


def _precision(study: Study) -> None:
    """Arithmetic that only GPUs have."""
    if study.precision == "tf32" and not study.resources.on_gpu:
        raise ValueError("precision: tf32 needs a GPU (allowed without resources.gpus: fp32, bf16)")


def _fair_times(study: Study) -> None:
    """Times are an objective only where no trial slows another."""
    if study.search.second_objective == "train_seconds" and (shared := study.resources.shared):
        raise ValueError(
            f"search.second_objective: train_seconds is no objective where trials share {shared}: they slow each "
            "other down (allowed: parameters, multiply_adds; or whole devices: resources.gpus: 1, "
            "resources.cpus: 1)"
        )


def _task(study: Study) -> None:
    """What a task of its own can be asked for."""
    if not study.experiment:
        return
    if study.own.task is None:
        raise ValueError(f"experiment: need a reference in a study file (file.py:name), got {study.experiment!r}")
    only = "is for the built-in experiment"
    for name in ("precision", "deterministic", "given_weights"):
        if getattr(study, name) != type(study).model_fields[name].get_default(call_default_factory=True):
            raise ValueError(f"{name}: {only} (allowed: a setting of the task)")
    if study.search.second_objective in ("parameters", "multiply_adds"):
        raise ValueError(f"search.second_objective: {study.search.second_objective} {only} (allowed: train_seconds)")
    if study.resources.gpus == "auto" or study.resources.compile:
        raise ValueError("resources: gpus: auto and compile: true are for the built-in experiment")
    for name, allowed in (("splits", "fixed"), ("last_epochs", 1)):
        if (asked := getattr(study.confirm, name)) != allowed:
            raise ValueError(f"confirm.{name}: {asked} {only} (allowed: {allowed})")
    for name in study.numbers:
        if not name.isidentifier() or name in RESERVED or name in study.columns:
            raise ValueError(f"metrics: {name!r} is taken, or no name (allowed: letters, digits and _)")
    _ = study.searched, study.confirmed


def _metrics(study: Study) -> None:
    """Each metric is known, and no two columns have one name."""
    if study.experiment:
        return
    called: dict[str, str] = dict.fromkeys(("loss", "accuracy_best"), "a number that is always there")
    for text in study.metrics:
        name = study.metric_name(text)
        if name == text and text not in CLASSIFIER:
            known = suggestion(text, CLASSIFIER)
            raise ValueError(f"metrics: {text!r} is not known{known}; or your own: file.py:name")
        other = called.setdefault(name, text) if name == text or name not in CLASSIFIER else "a built-in metric"
        if other != text:
            raise ValueError(f"metrics: {text} and {other} are both called {name} (allowed: different names)")
    for column in {metric.name for metric in study.measures} & set(study.columns):
        raise ValueError(f"metrics: {column} is also a setting that differs between trials (allowed: other names)")
    study.metric_on("objective", study.objective or "accuracy", "val")
    if study.confirmed.fraction and study.confirm.delta > 100:
        raise ValueError(f"confirm.delta: need at most 100 points, got {study.confirm.delta:g}")


def _search(study: Study) -> None:
    """A sampler and a stopping rule are built in, or of the study's own."""
    study.search.check_known({(part.key, part.text) for part in study.own.parts})


def _space(study: Study) -> None:
    """Baseline, factors or arms, design and hypotheses: each names what the others have."""
    known, own = study.trial_type.factor_fields(), study.trial_type.own
    for name in study.baseline:
        if name not in known:
            raise ValueError(f"baseline.{name}: not a setting{own.unknown(name, known)}")
    if study.arms or not study.factors:
        _arms(study)
        return
    try:
        study.config({}, seed=0)
    except ValidationError as error:
        raise ValueError(f"baseline: {first_problem(error, study.trial_type)}") from None
    space = study.space
    for factor in space.factors:
        for branch in factor.branches:
            for value in branch.levels or (branch.low, branch.high):
                check_level(factor.name, value, study.trial_type)
            for parent, levels in branch.when.items():
                for level in levels:
                    if not any(other.contains(level) for other in space[parent].branches):
                        allowed = "; ".join(other.describe() for other in space[parent].branches)
                        raise ValueError(
                            f"factors.{factor.name}.when.{parent}={level} is not one of its levels ({allowed})"
                        )
    problem = space.problem(study.baseline_values())
    if problem:
        raise ValueError(f"baseline: {problem}")
    for name in study.confirm.factors or ():
        if name not in space.names or not space[name].compared:
            allowed = ", ".join(f.name for f in space.factors if f.compared) or "none"
            raise ValueError(f"confirm.factors: {name!r} has no levels to compare (allowed: {allowed})")
    _design(study)
    _last_epochs(study)
    _hypotheses(study)
    study.search.check_space(space)
    _ = study.enqueued


def _kept_checkpoints(study: Study) -> None:
    """Checkpoints are kept of trials that a longer budget can go on from."""
    if not study.search.keep_checkpoints:
        return
    why = ""
    if study.experiment:
        why = "of a task of your own it is not known whether its epochs depend on trial.epochs"
    elif study.arms:
        why = "named arms explore nothing"
    elif all(map(catalog.depends_on_budget, used := _schedules(study))):
        why = f"schedule: {', '.join(sorted(used))} depends on the budget, so no trial can go on to a longer one"
    if why:
        raise ValueError(f"search.keep_checkpoints: {why} (allowed: false)")


def _arms(study: Study) -> None:
    """A study of named arms: nothing is searched, every arm is run on the confirm stage's seeds."""
    if not study.arms:
        raise ValueError("need factors (at least one), or arms (at least two)")
    if study.factors or len(study.arms) < 2 or study.confirm.design != "arms":
        raise ValueError("arms: need at least two, without factors, and confirm.design: arms")
    if study.confirm.around != "incumbent":
        raise ValueError(f"confirm.around: {study.confirm.around} is for factors; arms are held to the first")
    known = study.trial_type.factor_fields() | ARM_KEYS
    for name, changes in study.arms.items():
        if not NAME.fullmatch(name):
            raise ValueError(f"arms: {name!r} is not a name (allowed: letters, digits, '.', '_', '-')")
        for key in changes:
            if key not in known:
                raise ValueError(f"arms.{name}.{key}: not a setting{study.trial_type.own.unknown(key, known)}")
        source = changes.get("source")
        if source is not None and (source not in study.arms or "source" in study.arms[source]):
            allowed = ", ".join(arm for arm, other in study.arms.items() if "source" not in other and arm != name)
            raise ValueError(f"arms.{name}.source: {source!r} is not an arm to start from (allowed: {allowed})")
        try:
            study.arm_config(name, seed=0)
        except ValidationError as error:
            raise ValueError(f"arms.{name}: {first_problem(error, study.trial_type)}") from None
    tasks = [study.arm_task(name) for name in study.arms]
    _primaries(study, [name for i, name in enumerate(study.arms) if tasks[i] in tasks[:i]])
    _last_epochs(study)
    _hypotheses(study)


def _last_epochs(study: Study) -> None:
    """A mean over the last epochs is one over runs at the same rate, of networks that are alike."""
    asked = study.confirm.last_epochs
    if asked == 1 or study.experiment:
        return
    key = f"confirm.last_epochs: {asked}"
    if study.confirm.design == "none":
        raise ValueError(f"{key}, but nothing is confirmed (allowed with design: none: 1)")
    if study.arms:
        runs: list[Any] = [study.arm_config(name, seed=0) for name in study.arms]
        schedules, epochs = {run.schedule for run in runs}, min(run.epochs for run in runs)
    else:
        schedules, epochs = _schedules(study), study.search.epochs
    if asked > epochs:
        raise ValueError(f"{key}, but runs have {epochs} (allowed: 1 to {epochs})")
    if decaying := sorted(schedules - {STEADY}):
        raise ValueError(
            f"{key} with schedule {', '.join(decaying)}: while the learning rate falls, accuracy rises, so that "
            "such a mean lies below the last epoch, and further for some arms than for others: of 3 epochs under "
            f"one-cycle by 2 to 13 points (docs/statistics.md) (allowed: 1, or schedule: {STEADY})"
        )


def _schedules(study: Study) -> set[str]:
    """All that trials of a study of factors can have."""
    branches = study.space["schedule"].branches if "schedule" in study.space.names else ()
    fixed: Any = study.config(study.baseline_values(), seed=0)
    return {str(level) for branch in branches for level in branch.levels or ()} | {fixed.schedule}


def _design(study: Study) -> None:
    compared = len(study.compared_factors())
    if study.confirm.design == "arms":
        raise ValueError("confirm.design: arms needs arms instead of factors")
    if study.confirm.design == "fractional" and not 2 <= compared <= 8:
        raise ValueError(f"confirm.design: fractional takes 2 to 8 factors with levels, got {compared}")
    if study.confirm.design != "none" and not compared:
        raise ValueError("confirm: no factor has levels to compare; give one levels, or set confirm.design: none")
    _primaries(study, study.compared_factors())
    if study.confirm.around == "baseline" and study.confirm.design == "none":
        raise ValueError("confirm.around: baseline needs a design, got design: none")
    if study.confirm.arms is not None and study.confirm.design != "d-optimal":
        raise ValueError(f"confirm.arms: only design: d-optimal takes it, got design: {study.confirm.design}")


def _primaries(study: Study, compared: Sequence[str]) -> None:
    for name in study.confirm.primaries or ():
        if name not in compared:
            allowed = ", ".join(compared) or "none"
            raise ValueError(f"confirm.primaries: {name!r} is not compared (allowed: {allowed})")


def _hypotheses(study: Study) -> None:
    seen: dict[tuple[Any, ...], str] = {}
    for found in study.declared:
        tasks = [study.arm_task(name) for name in (found.level, found.reference)] if study.arms else []
        if len(set(tasks)) > 1:
            raise ValueError(f"hypotheses: {found.text!r}: arms of different tasks ({' and '.join(tasks)})")
        if not study.arms and found.factor not in study.compared_factors():
            allowed = ", ".join(study.compared_factors()) or "none"
            raise ValueError(
                f"hypotheses: {found.text!r}: {found.factor} is not in confirm.factors (allowed: {allowed})"
            )
        pair = [repr(found.level), repr(found.reference)]
        pair = sorted(pair) if found.relation == "within" else pair
        key = found.factor, *pair, found.relation, found.margin
        if key in seen:
            raise ValueError(f"hypotheses: {found.text!r} says the same as {seen[key]!r}")
        seen[key] = found.text
