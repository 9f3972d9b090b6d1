"""Whether a folder's results go on as the study that is asked for: unchanged, extended (`--extend`), or not at all."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from resnetlab.errors import BadRequest, FolderRefused
from resnetlab.planning.plan import Plan, asked
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table
from resnetlab.study import ConfirmSettings, Study, build_study, differences
from resnetlab.study.extension import Extension, extension
from resnetlab.study.sections.search import SAMPLERS, UNTAUGHT
from resnetlab.study.yaml_io import first_problem
from resnetlab.sweep.longer import LongerTrials
from resnetlab.sweep.plan_store import further_seeds, goes_on, read_plan
from resnetlab.wording import plural


def check_identity(study: Study, folder: ResultsFolder, extends: bool = False) -> Extension | None:
    """What `study` asks beyond the one whose results `folder` holds; None where that is nothing, or nothing was run.

    extends: as `--extend` says. Without it, what changes confirm settings or hypotheses is no extension.
    Raises FolderRefused where the folder holds results of another study, naming what differs and whether `--extend`
    goes on from them; BadRequest for nothing to extend.
    """
    held = folder.read_json("study.json")
    if held is None:
        if extends:
            raise BadRequest(f"--extend: {folder.url} holds no results (allowed: without it, or the --name of results)")
        return None
    place = f"{folder.url}/study.json"
    try:
        old = build_study(held, place)
        before = old.identity()
    except BadRequest as error:
        raise FolderRefused(f"{error}\nmove the folder away, or use another --name") from None
    if extends:
        asks = extension(old, study)
        if asks.refused:
            _refuse(folder, "has results that --extend cannot go on from", "revert these settings", asks.refused)
        _check_looks(study, folder)
        return asks if asks.changes else None
    if changed := differences(_without_code(before), _without_code(study.identity())):
        longer = "" if extension(old, study).refused else "add --extend to go on from its results, "
        _refuse(folder, "was run with different settings", f"{longer}revert them", changed)
    if plan := _held(folder):
        more = _further(plan, study, folder)
        if more:
            raise FolderRefused(
                f"{folder.url}: confirm.seeds: {study.confirm.seeds}, but plan {plan.plan_hash} has runs on "
                f"{plural(plan.seeds, 'seed')}; add --extend to run {more} more as a second "
                "plan, revert it, or use another --name"
            )
    return None


def _refuse(folder: ResultsFolder, what: str, advice: str, lines: list[str] | tuple[str, ...]) -> None:
    said = "\n  ".join([f"{folder.url}: {what}; {advice}, or use another --name:", *lines])
    raise FolderRefused(said)


def _without_code(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Without the study's own code, of which `own_code.accept` says what has changed."""
    return {key: value for key, value in identity.items() if key != "own"}


def _held(folder: ResultsFolder) -> Plan | None:
    raw = folder.read("plan.json")
    return None if raw is None else read_plan(raw, f"{folder.url}/plan.json")


def _further(plan: Plan, study: Study, folder: ResultsFolder) -> int:
    """How many seeds the study asks for beyond those of a plan that has runs."""
    table = read_table(folder, "trials")
    return 0 if table is None else further_seeds(plan, study, table.select(["plan_hash"]).to_pylist())


def _check_looks(study: Study, folder: ResultsFolder) -> None:
    """BadRequest for further seeds that are too few for the looks at them."""
    plan = _held(folder)
    if plan is None or plan.looks is None or not (more := _further(plan, study, folder)):
        return
    try:
        ConfirmSettings.model_validate(study.confirm.model_dump() | {"seeds": more})
    except ValidationError as error:
        said = first_problem(error, ConfirmSettings)
        raise BadRequest(f"confirm.seeds: {study.confirm.seeds} is {more} more than ran: {said}") from None


def said(
    study: Study, rows: Collection[Mapping[str, Any]], asks: Extension, plan: Plan | None, folder: ResultsFolder
) -> list[str]:
    """Lines that tell what extending a folder to `study` would do. rows: of its trials table, as `extended.changes`
    leaves them; plan: that it holds."""
    lines = [f"extends it: {'; '.join(change.text for change in asks.changes)}"]
    kinds, sampler = asks.kinds, study.search.sampler
    if "budget" in kinds:
        lines += _of_longer_budget(study, LongerTrials.of(study, rows, folder))
    elif "trials" in kinds and sampler not in UNTAUGHT:
        lines.append(f"{sampler} proposes further trials from all results so far{_unlike(sampler, asks)}")
    if "trials" not in kinds and kinds & {"levels", "factor"} and sampler != "grid" and "budget" not in kinds:
        lines.append("no explore trial is added, so none tries them: raise search.trials for that")
    if plan is None:
        return lines if study.confirm.design == "none" else [*lines, "no plan has been made yet, so none changes"]
    beside = f"the verdicts of plan {plan.plan_hash} are shown beside it"
    stands = plan.seeds_short(asked(study)) is not None and not kinds & {"budget", "factor", "arm"}
    if asks.explores and stands and not _more_to_compare(study, plan):
        lines.append(
            f"plan {plan.plan_hash} stands if the search ends with the same arms to compare; else a new plan follows, "
            f"on fresh seeds, and {beside}"
        )
    elif asks.explores or not goes_on(plan, study, rows):
        lines.append(f"a new plan follows, on fresh seeds; {beside}")
        return lines
    if more := further_seeds(plan, study, rows):
        lines.append(
            "a plan that stands is run to its end; then a second one, with an error rate of its own, runs its arms on "
            f"{plural(more, 'further seed')}"
        )
    return lines


def _unlike(sampler: str, asks: Extension) -> str:
    """How further proposals of a sampler that learns may differ from those of a study that asked for all at once."""
    then, now = asks.random_first
    if sampler in ("tpe", "gp") and then != now:
        return (
            f", after {then} that it drew at random; had all been asked for from the start, it would have drawn {now}"
        )
    if sampler in SAMPLERS:
        return (
            "; had all been asked for from the start, they would be the same only with one trial at a time (--slots 1)"
        )
    return "; had all been asked for from the start, they might be others"


def _of_longer_budget(study: Study, longer: LongerTrials) -> Iterator[str]:
    """Which trials go on, and which are run again."""
    why = ", ".join(f"{many} {reason}" for reason, many in sorted(longer.again.items()))
    if not len(longer):
        yield f"every explore trial and pilot run is run again{f': {why}' if why else ''}"
        return
    yield f"{plural(len(longer), 'explore trial')} {'goes' if len(longer) == 1 else 'go'} on from kept checkpoints"
    if why:
        yield f"{plural(sum(longer.again.values()), 'explore trial')} run again: {why}"
    if study.confirm.pilot:
        yield "pilot runs are run again"
    if study.search.sampler not in UNTAUGHT:
        yield f"those that go on keep their settings; {study.search.sampler} proposes the others from longer results"


def _more_to_compare(study: Study, plan: Plan) -> bool:
    """Whether a factor that `plan` compares has a level that it does not know."""
    known = {name: [plan.incumbent[name], *levels] for name, levels in plan.compared.items()}
    return any(level not in levels for name, levels in known.items() for level in study.space[name].levels)
