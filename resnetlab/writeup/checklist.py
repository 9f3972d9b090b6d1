"""What conferences ask of an empirical paper, answered from the record: questions of the reproducibility checklist of
Pineau et al. (2021, JMLR 22: 164) with what this folder says to them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from resnetlab.analysis.results import Results
from resnetlab.analysis.sweep_cost import cost
from resnetlab.analysis.trial_outcomes import WORDS, Counts
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import duration, level, listed, settings
from resnetlab.report.sections.provenance import distinct, recorded_commands, revisions
from resnetlab.study.records import Phase, Status
from resnetlab.wording import plural
from resnetlab.writeup import error_bars

UNKNOWN = "Not recorded."


def answers(findings: Findings) -> list[tuple[str, str]]:
    """Question and answer; of a folder with a plan. What the tables do not tell says so."""
    results = findings.results
    return [(question, answer or UNKNOWN) for question, answer in [
        ("Data", _data(results)),
        ("Splits", _splits(results)),
        ("Search space", _space(findings)),
        ("Choice of settings", _choice(findings)),
        ("Runs", _runs(results)),
        ("Seeds", _seeds(results)),
        ("Error bars", _errors(findings)),
        ("Left out", _left_out(results)),
        ("Hardware", _hardware(results)),
        ("Compute", _compute(results)),
        ("Software", _software(results)),
        ("Commands", "; ".join(recorded_commands(results.sweep))),
        ("For the authors", "Licences, consent and possible harms of the data, and what the study cannot show, are not "
                            "in the tables of a sweep."),
    ]]  # fmt: skip


def _data(results: Results) -> str:
    data, study = results.sweep.get("data") or {}, results.study
    if study.dataset is None:
        return f"Those of the study's own task, {study.experiment}."
    classes = data.get("classes")
    number = classes if isinstance(classes, int) else len(classes or ())
    found = [study.dataset.name, f"{number} classes" if number else ""]
    found.append(f"content hash {data.get('hash') or distinct(results.trials, 'data_hash')}")
    bad = " Files that could not be read were left out; data.json counts them." if data.get("bad_rows") else ""
    return f"{', '.join(filter(None, found))}.{bad}"


def _splits(results: Results) -> str:
    data = results.sweep.get("data") or {}
    sizes = [f"{data[split]} {split}" for split in ("train", "val", "test") if isinstance(data.get(split), int)]
    redrawn = results.planned.splits != "fixed"
    first = results.trials[results.trials["phase"] != Phase.CONFIRM] if redrawn else results.trials
    seed = distinct(first, "split_seed")
    drawn = f" Drawn from the split seed {seed}." if seed else ""
    if redrawn:
        drawn += (
            f" For the confirm runs the split was drawn again with each block of seeds (split seeds "
            f"{distinct(results.confirm, 'split_seed') or 'not recorded'}), so test images of a block may have been "
            "training or validation images of the search."
        )
    last = results.study.confirm.last_epochs
    read = "once by each pilot and confirm run, at its last epoch"
    if last > 1:
        read = f"by each pilot and confirm run in each of its last {last} epochs, whose mean is compared"
    searched = "" if results.study.arms else "The search used the validation split; the"
    return f"{listed(sizes) + '. ' if sizes else ''}{searched or 'The'} test split was read {read}.{drawn}"


def _space(findings: Findings) -> str:
    study = findings.results.study
    if study.arms:
        return f"None: the study names its arms ({', '.join(study.arms)})."
    return "; ".join(
        f"{factor.name}: "
        + " or ".join(
            ", ".join(map(level, branch.levels))
            if branch.levels is not None
            else f"{level(branch.low)} to {level(branch.high)}{' (log)' if branch.log else ''}"
            for branch in factor.branches
        )
        for factor in study.space.factors
    ) + "."  # fmt: skip


def _choice(findings: Findings) -> str:
    plan, results = findings.results.planned, findings.results
    if results.study.arms:
        return "Nothing was tuned."
    if plan.around == "baseline":
        moved = listed(plan.companions)
        but = f" Tuned settings that go with its levels are the search's: {moved}." if moved else ""
        return (
            f"The search chose no level that is compared: the design is laid around the baseline of the study file "
            f"({settings(plan.incumbent)}).{but}"
        )
    return (
        f"The best of {Counts.of(results.explore).words()} by {findings.searched.words} at the full budget: trial "
        f"{plan.chosen_trial} ({settings(plan.incumbent)})."
    )


def _runs(results: Results) -> str:
    plan = results.planned
    seeds = f"{'at most ' if plan.looks else ''}{plural(plan.seeds, 'seed')}"
    return (
        f"{Counts.of(results.confirm).words('confirm')}, of {len(plan.arms)} arms × {seeds}. "
        f"All trials of the study: {Counts.of(results.trials).words('')}."
    )


def _seeds(results: Results) -> str:
    seeds = results.confirm.drop_duplicates("seed_block").sort_values("seed_block")["seed"].dropna()
    return (
        f"Root seed {results.study.seed}; those of the confirm runs are drawn from the hash of the plan: "
        f"{', '.join(map(str, seeds)) or 'none'}."
    )


def _errors(findings: Findings) -> str:
    plan = findings.results.planned
    return (
        f"95% confidence intervals of differences of arm means over {error_bars.seeds(findings)} (t, "
        f"{error_bars.variance(findings)}); familywise error rate {plan.alpha:g} by Holm's method. "
        f"{error_bars.cover(findings)}"
    )


def _left_out(results: Results) -> str:
    counts = Counts.of(results.confirm).by_status
    lost = [f"{n} {WORDS[Status(status)]}" for status, n in counts.items() if n and status != Status.COMPLETE]
    others = len(results.other_confirm)
    said = f"Confirm runs without a result: {listed(lost)}." if lost else "No confirm run is without a result."
    more = f" {plural(others, 'run')} of other plans are not part of these effects." if others else ""
    collapsed = " Runs that collapsed to guessing are counted." if results.planned.tells_collapse else ""
    return f"{said}{more}{collapsed}"


def _hardware(results: Results) -> str:
    trials, sweep = results.trials, results.sweep
    known = [distinct(trials, "device"), sweep.get("platform"), f"{sweep['cores']} cores" if sweep.get("cores") else ""]
    threads = distinct(trials, "threads")
    known.append(f"threads a trial: {threads}" if threads else "")
    said = "; ".join(str(part) for part in known if part)
    return f"{said}." if said else ""


def _compute(results: Results) -> str:
    found = cost(results.trials)
    if found.empty:
        return ""
    hours = found.groupby("phase", sort=False)["device_seconds"].sum() / 3600
    parts = [f"{phase} {value:.3g}" for phase, value in hours.items() if phase in list(Phase)]
    energy = found["energy"].sum(min_count=1)
    joules = "" if pd.isna(energy) else f" {energy / 3.6e6:.3g} kWh as the GPUs tell."
    wall = results.sweep.get("wall_seconds")
    clock = f" Wall time {duration(wall)}." if wall else ""
    return (
        f"{hours.sum():.3g} device-hours in all ({listed(parts)}), {found['epochs_run'].sum():.0f} epochs, failed and "
        f"stopped trials included.{clock}{joules}"
    )


def _software(results: Results) -> str:
    versions: Any = results.sweep.get("versions")
    known = ", ".join(f"{name} {version}" for name, version in versions.items()) if isinstance(versions, dict) else ""
    return f"{known + '; ' if known else ''}code {revisions(results.trials)}."
