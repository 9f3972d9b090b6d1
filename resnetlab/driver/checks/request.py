"""Check, before anything runs, that a study can be run as requested, and tell what the run would do.

A run and a dry run make the same checks. What a run finds out when it takes the results folder (another sweep holds it,
rows are missing or of other data), a dry run finds out by reading it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from resnetlab.driver.checks.dataset_record import starts
from resnetlab.driver.checks.extend import said
from resnetlab.errors import BadData, BadRequest, FolderRefused
from resnetlab.planning.plan import Plan, asked
from resnetlab.provenance import code_version
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import check_complete, check_study, read_table
from resnetlab.study import Study, differences
from resnetlab.study.extension import Extension
from resnetlab.study.records import Phase, Status
from resnetlab.study.seeding import stream
from resnetlab.sweep import extended
from resnetlab.sweep.plan_store import check_explored, due, goes_on, planned, read_plan
from resnetlab.sweep.state_machine import Stage
from resnetlab.sweep.task import content_hash, data_key
from resnetlab.vision.data import Dataset

Rows = Collection[Mapping[str, Any]]  # of the trials table

# What each stage runs. `confirm` runs neither pilot nor search, and plans with the noise that is known.
PARTS: dict[Stage, frozenset[str]] = {
    "pilot": frozenset({"pilot"}),
    "explore": frozenset({"pilot", "explore"}),
    "plan": frozenset({"pilot", "explore"}),
    "confirm": frozenset({"confirm"}),
    "all": frozenset({"pilot", "explore", "confirm"}),
}


def check_stage(study: Study, stage: Stage) -> None:
    """Raise BadRequest for an unknown stage, or one that the study does not have."""
    if stage not in PARTS:
        raise BadRequest(f"--phase {stage}: no such phase (allowed: {', '.join(PARTS)})")
    if stage == "pilot" and not study.confirm.pilot:
        raise BadRequest("--phase pilot: confirm.pilot is 0 (allowed: 2 to 1000, e.g. --set confirm.pilot=3)")
    if stage == "explore" and study.arms and not study.confirm.pilot:
        raise BadRequest("--phase explore: a study of named arms explores nothing (allowed: plan, confirm, all)")


def check_gpus(study: Study) -> None:
    """Raise BadRequest for several GPUs for one trial, unless a task of the user's own trains, which may use them."""
    if isinstance(study.resources.gpus, float) and study.resources.gpus > 1 and not study.experiment:
        raise BadRequest(
            f"resources.gpus: {study.resources.gpus:g} for one trial, which trains on one GPU and would leave the rest "
            "idle: the networks here are small (allowed: 0, 0.0001 to 1, or auto; with 1, every GPU gets a trial)"
        )


def check_sizes(study: Study, datasets: Mapping[str, Dataset]) -> None:
    """Raise BadRequest for a batch size above the training images of some trial. datasets: by `data_key`."""
    for name, config in starts(study).items():
        train = len(datasets[data_key(config)].split("train", stream(study.seed, "split")))
        fraction = min(config.data_fraction, *_values(study, "data_fraction"), 1.0)
        images, batch = max(1, round(fraction * train)), max(config.batch_size, *_values(study, "batch_size"), 1)
        if batch > images:
            part = f" at data_fraction={fraction:g}" if fraction < 1 else ""
            raise BadRequest(
                f"batch_size: {batch} is more than the {images} training images of {config.data.name}{part}"
                f"{f', arm {name}' if name else ''} (allowed: 1 to {images})"
            )


def check_splits(study: Study, datasets: Mapping[str, Dataset]) -> None:
    """BadRequest for splits that are to be drawn for each block where a dataset prescribes its test images."""
    if study.confirm.splits == "fixed":
        return
    for name, config in starts(study).items():
        if "test" in datasets[data_key(config)].prescribed:
            raise BadRequest(
                f"confirm.splits: per-block, but {config.data.name}{f' (arm {name})' if name else ''} prescribes its "
                "test images (allowed: fixed)"
            )


def _values(study: Study, name: str) -> list[Any]:
    """The levels and bounds of a factor; empty for a setting that is not a factor."""
    branches = study.space[name].branches if name in study.space.names else ()
    return [value for branch in branches for value in branch.levels or (branch.low, branch.high)]


def check_rows(study: Study, folder: ResultsFolder, rows: Rows, hashes: Collection[str]) -> None:
    """Check that the rows of a folder are of this study and its data. hashes: of its datasets.

    Raises FolderRefused if study.json is missing or a row is of another study, BadData if one is of other data.
    """
    if rows and folder.read("study.json") is None:
        raise FolderRefused(
            f"{folder.url}/study.json: is missing, so nothing says which study the {len(rows)} trials here "
            "belong to; put it back, or use another --name"
        )
    check_study((row["study"] for row in rows), study.name, folder)
    others = sorted({row["data_hash"] for row in rows} - set(hashes))
    if others:
        raise BadData(
            f"{folder.url}: was run on data with hash {', '.join(others)}, which is now {', '.join(sorted(hashes))}: "
            "restore the data, or begin under another name"
        )


def look(
    study: Study,
    folder: ResultsFolder,
    hashes: Collection[str],
    guessing: Mapping[str, float],
    stage: Stage,
    retry: bool = False,
    extension: Extension | None = None,
) -> list[str]:
    """Lines that tell what a run would do in `folder`. Takes no lease and writes nothing.

    hashes: of the study's datasets. guessing: as in Plan. retry: whether failed trials are to run again.
    extension: what the study asks beyond the one that the folder holds.
    Raises the errors that a run would raise: FolderRefused, BadData, BadRequest, TrialsFailed.
    """
    check_complete(folder)
    table = read_table(folder, "trials")
    rows: list[dict[str, Any]] = [] if table is None else table.to_pylist()
    check_rows(study, folder, rows, hashes)
    raw = folder.read("plan.json")
    held = None if raw is None else read_plan(raw, f"{folder.url}/plan.json")
    if extension is not None:
        changes = {row["trial_id"]: row for row in extended.changes(study, rows, folder)}
        rows = [row | changes.get(row["trial_id"], {}) for row in rows]
    afresh = extension is not None and extension.explores
    plan = held if held is not None and not afresh and goes_on(held, study, rows) else None
    if plan is not None:
        planned(plan, study)
    elif study.confirm.design != "none":
        if stage == "confirm":
            check_explored(sum(Phase(row["phase"]).searched and not Status(row["status"]).ended for row in rows))
        if stage == "confirm" or (stage in ("plan", "all") and _explored(study, rows) and not retry):
            due(folder, study, rows, content_hash(hashes), code_version(), guessing, held)
    if not rows and held is None:
        known = folder.read("study.json") is not None
        return [f"results: {folder.url}: " + ("the same study, of which nothing has run" if known else "a new folder")]
    so_far = list(_ended(study, rows, plan))
    if held is None and extension is None and study.confirm.design != "none":
        so_far.append("no plan yet")
    lines = [f"results: {folder.url}: continues: {', '.join(so_far)}"]
    if extension is not None:
        lines += [f"  {line}" for line in said(study, rows, extension, held, folder)]
    elif held is not None and plan is None:
        runs = sum(row["plan_hash"] == held.plan_hash for row in rows)
        changed = "; ".join(differences(held.asked, asked(study)))
        lines.append(f"  a new plan takes the place of {held.plan_hash} ({changed}), whose {runs} runs are set aside")
    return lines


def _explored(study: Study, rows: Rows) -> bool:
    """True if every run before the plan has ended, so that a plan would be made from these rows. False with given
    weights, for which some may run again."""
    early = [row for row in rows if row["plan_hash"] is None and row["status"] != Status.REPLACED]
    expected = study.confirm.pilot + study.reachable_trials
    return len(early) >= expected and all(Status(row["status"]).ended for row in early) and not study.given_weights


def _ended(study: Study, rows: Rows, plan: Plan | None) -> Iterator[str]:
    """Of each part of the study, how many of its trials have ended: `3 of 10 explore trials ended`."""

    def part(name: str, planned: int | str, runs: Iterable[Mapping[str, Any]]) -> str:
        ended = [row for row in runs if Status(row["status"]).ended]
        failed = sum(row["status"] not in (Status.COMPLETE, Status.STOPPED) for row in ended)
        return f"{len(ended)} of {planned} {name} ended" + (f" ({failed} without a result)" if failed else "")

    if study.confirm.pilot:
        yield part("pilot runs", study.confirm.pilot, (row for row in rows if row["phase"] == Phase.PILOT))
    if not study.arms:
        yield part("explore trials", study.reachable_trials, (row for row in rows if Phase(row["phase"]).searched))
    if plan is not None:
        most = len(plan.arms) * plan.seeds
        yield part(
            "confirm runs",
            f"at most {most}" if plan.looks else most,
            (row for row in rows if row["plan_hash"] == plan.plan_hash),
        )
