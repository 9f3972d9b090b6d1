"""What runs made elsewhere must have to be compared, and the refusal where they have it not: reason and remedy.

A table shows unequal budgets, runs that were stopped, a single seed, cells that are missing or unequal, and in an
Optuna storage whether a sampler chose the combinations. What it cannot show stands in `UNKNOWN`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import stats

from resnetlab.analysis.foreign.tables import RunTable
from resnetlab.errors import BadData, BadRequest
from resnetlab.study.hypotheses import means_level
from resnetlab.study.yaml_io import suggestion
from resnetlab.wording import level_text, plural

UNKNOWN = (
    "no run was left out, or repeated until it came out well",
    "factors, levels and metric were chosen before the results were seen (so every comparison here is exploratory)",
    "the metric comes from data on which no checkpoint and no setting was chosen",
)
STATUS = {"status", "state", "trial_state", "trial_status"}  # names of columns that say how a run ended
FINISHED = {"complete", "completed", "done", "finished", "ok", "success", "succeeded", "successful", "terminated"}
STOPPED = {"pruned", "stopped", "early_stopped"}  # names of columns, and values of a status
SEARCHED = {"explore", "audit", "search"}  # values of a column `phase`
BUDGET = {"budget", "epoch", "epochs", "iter", "iteration", "iterations", "iters", "step", "steps", "updates"}
NO_BUDGET = {"size", "per", "seconds", "time", "warmup", "duration", "decay", "lr"}  # as in step_size, epoch_seconds
NAMED = 3  # cells, rows or columns that a message names

Cell: TypeAlias = tuple[Any, ...]  # a level of each factor


@dataclass(frozen=True)
class Request:
    """What is asked of a table: columns by their role. reference: level of a factor, as typed. budget: a column that
    must be the same in all runs. ignored: columns that are neither budget nor sign of a search. delta: smallest effect
    of interest in the metric's own unit, 0 for none."""

    factors: tuple[str, ...]
    metric: str
    seed: str
    reference: Mapping[str, str] = field(default_factory=dict)
    budget: str | None = None
    ignored: tuple[str, ...] = ()
    lower_is_better: bool = False
    delta: float = 0.0
    alpha: float = 0.05

    @property
    def named(self) -> tuple[str, ...]:
        """The columns that have a role."""
        return (*self.factors, self.metric, self.seed, *([self.budget] if self.budget else []))


@dataclass(frozen=True)
class Crossing:
    """Balanced runs. levels: of each factor, the reference first; values: by cell, in the order of `seeds`; design:
    `factorial`, or `one-factor` where the cells differ from the reference in one factor each."""

    design: str
    levels: Mapping[str, Sequence[Any]]
    seeds: Sequence[Any]
    values: Mapping[Cell, Sequence[float]]
    notes: tuple[str, ...]


def crossing(table: RunTable, request: Request) -> Crossing:
    """The runs laid out by cell and seed. BadRequest where a column is not there or must be named, BadData where the
    runs do not carry the comparison."""
    check_columns(table, request)
    if table.rows.empty:
        raise BadData(f"{table.place}: has no runs")
    _check_ended(table, request)
    _check_choice(table)
    _check_values(table, request)
    levels = {name: _levels(table, request, name) for name in request.factors}
    _check_seeds(table, request)
    cells = list(zip(*(table.rows[name] for name in request.factors), strict=True))
    _check_duplicates(table, request, cells)
    _check_budget(table, request)
    held: dict[Cell, dict[Any, float]] = {}
    for cell, seed, value in zip(cells, table.rows[request.seed], table.rows[request.metric], strict=True):
        held.setdefault(cell, {})[seed] = float(value)
    _check_balance(table, request, held)
    levels, design = _layout(table, request, levels, set(held))
    seeds = sorted(next(iter(held.values())), key=_order)
    ran = [cell for cell in itertools.product(*levels.values()) if cell in held]
    values = {cell: [held[cell][seed] for seed in seeds] for cell in ran}
    return Crossing(design, levels, seeds, values, _notes(table, request, cells))


def check_columns(table: RunTable, request: Request) -> None:
    """BadRequest where a column that the request names is not there, or has two roles."""
    roles = [*(("--factors", name) for name in request.factors), ("--metric", request.metric), ("--seed", request.seed)]
    roles += [("--budget", request.budget)] if request.budget else []
    known = [str(name) for name in table.rows.columns]
    if not request.factors:
        raise BadRequest("--factors: need at least one column, as in --factors kernel,depth")
    for option, name in [*roles, *(("--ignore", name) for name in request.ignored)]:
        if name not in known:
            raise BadRequest(f"{option} {name}: {table.place} has no such column{suggestion(name, known)}")
    for name, count in Counter(name for _, name in [*roles, *(("", name) for name in request.ignored)]).items():
        if count > 1:
            raise BadRequest(f"{name}: is named for two roles (allowed: one of factor, metric, seed, budget, ignored)")
    for name in request.reference:
        if name not in request.factors:
            raise BadRequest(f"--reference {name}={request.reference[name]}: {name} is not among --factors")
    for name, better in table.better.items():
        if name == request.metric and better == "higher" and request.lower_is_better:
            raise BadRequest(f"--lower-is-better: {table.place} says that {name} is to be maximised")


def _check_ended(table: RunTable, request: Request) -> None:
    """Runs that a search stopped or chose, by columns that say so."""
    for column in table.rows.columns:
        if column in (*request.named, *request.ignored):
            continue
        kind = _word(column)
        values = [value for value in table.rows[column] if not _missing(value)]
        words = Counter(_word(value) for value in values)
        if kind == "phase" and (found := sum(words[word] for word in SEARCHED)):
            raise BadData(
                f"{table.place}: column {column!r}: {_runs(found)} chosen by a search, which tries most where it did "
                "well: compare only runs that were laid out beforehand, on fresh seeds"
            )
        stopped = sum(words[word] for word in STOPPED)
        if kind in STOPPED:
            stopped = sum(words[word] for word in ("true", "1", "1.0", "yes"))
        if stopped and kind in STATUS | STOPPED:
            raise BadData(
                f"{table.place}: column {column!r}: {_runs(stopped)} stopped early by a search: those that remain were "
                "chosen by their results; run every combination to the full budget, on fresh seeds"
            )
        other = {word: n for word, n in words.items() if word not in FINISHED}
        if kind in STATUS and other:
            raise BadData(
                f"{table.place}: column {column!r}: {_runs(sum(other.values()))} not finished ({_counted(other)}): run "
                f"them again, or leave the level out in all combinations (--ignore {column}: it says something else)"
            )


def _check_values(table: RunTable, request: Request) -> None:
    """Missing values, and metrics that are no finite numbers."""
    for name in request.named:
        missing = [row for row, value in enumerate(table.rows[name], 1) if _missing(value) and name != request.metric]
        missing += [row for row, value in enumerate(table.rows[name], 1) if value is None and name == request.metric]
        if missing:
            raise BadData(
                f"{table.place}: column {name!r}: no value in {plural(len(missing), 'row')} ({_listed(missing)}): fill "
                "it in, or run again what failed; a run left out would make the cells unequal"
            )
    for row, value in enumerate(table.rows[request.metric], 1):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise BadData(f"{table.place}: column {request.metric!r}, row {row}: need a number, got {value!r}")
        if not math.isfinite(value):
            raise BadData(
                f"{table.place}: column {request.metric!r}, row {row}: need a finite number, got {value}: a run that "
                "diverged has no value; leave its level out in all combinations, and say so, or run it again"
            )


def _levels(table: RunTable, request: Request, name: str) -> list[Any]:
    """The levels of a factor, the reference first."""
    levels = sorted(set(table.rows[name]), key=_order)
    if len(levels) == 1:
        raise BadData(
            f"{table.place}: factor {name!r} has one level, {level_text(levels[0])}: need two or more to "
            "compare; leave it out of --factors, or add runs with another level"
        )
    if 2 * len(levels) > len(table.rows) and len(levels) > 2:
        raise BadData(
            f"{table.place}: factor {name!r} has {len(levels)} levels in {len(table.rows)} runs: it is continuous, or "
            "different in each run, and has nothing to average over; need few levels, each run with every seed"
        )
    if name not in request.reference:
        return levels
    text = request.reference[name]
    found = [level for level in levels if means_level(text, level)]
    if not found:
        raise BadRequest(f"--reference {name}={text}: no such level (allowed: {', '.join(map(level_text, levels))})")
    return [found[0], *(level for level in levels if level != found[0])]


def _check_seeds(table: RunTable, request: Request) -> None:
    seeds = set(table.rows[request.seed])
    if len(seeds) == 1:
        raise BadData(
            f"{table.place}: column {request.seed!r}: all {len(table.rows)} runs have one seed, {next(iter(seeds))}: "
            "an effect cannot be told from the luck of a seed; run every combination with two seeds or more"
        )


def _check_duplicates(table: RunTable, request: Request, cells: Sequence[Cell]) -> None:
    """Two runs of a cell with one seed: another factor, a log of epochs, or a copy."""
    keys = list(zip(cells, table.rows[request.seed], strict=True))
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if not twice:
        return
    cell, seed = twice[0]
    rows = [row for row, key in enumerate(keys, 1) if key == twice[0]]
    same = table.rows.iloc[[row - 1 for row in rows]]
    differing = [
        str(column)
        for column in same.columns
        if column not in (*request.named, *request.ignored) and len(set(map(repr, same[column]))) > 1
    ]
    budgets = [name for name in differing if _is_budget(name)]
    remedy = "keep one of them, the one that was made first"
    if budgets:
        remedy = f"they differ in {budgets[0]!r}: keep one row a run, at the same {budgets[0]} in all"
    elif differing:
        remedy = f"they differ in {_listed(differing)}: name what is another factor in --factors"
    raise BadData(
        f"{table.place}: {len(rows)} runs of {_name(request, cell)} with {request.seed}={seed} (rows {_listed(rows)}), "
        f"need one: {remedy}"
    )


def _check_budget(table: RunTable, request: Request) -> None:
    """Unequal budgets, and columns that may be one."""
    if request.budget:
        budgets = Counter(table.rows[request.budget])
        if len(budgets) > 1:
            raise BadData(
                f"{table.place}: runs of unequal budgets, {request.budget}: {_counted(budgets)}: what trained longer "
                "is not comparable; run all at one budget, or leave out those of another"
            )
    for column in table.rows.columns:
        budgets = Counter(value for value in table.rows[column] if not _missing(value))
        if column not in (*request.named, *request.ignored) and _is_budget(str(column)) and len(budgets) > 1:
            raise BadRequest(
                f"{table.place}: column {column!r} looks like a budget and differs between runs ({_counted(budgets)}): "
                f"name it with --budget {column} if it is what a run was allowed (it must be equal then), in --factors "
                f"if it is compared, with --ignore {column} if it is something else"
            )


def _check_choice(table: RunTable) -> None:
    """Combinations that a sampler chose: known of a storage only, which records them and not the sampler."""
    search = table.search
    if search is None or search.designed:
        return
    remedy = (
        "a search tries most where it did well; run the comparison with GridSampler or enqueue_trial, every "
        "combination with every seed"
    )
    if search.sampler:
        raise BadData(f"{table.place}: the trials were chosen by {search.sampler}: {remedy}")
    names = [name for name, domain in search.domains.items() if domain is None or len(domain) > 1]
    ranges = [name for name in names if search.domains[name] is None]
    if ranges:
        raise BadData(f"{table.place}: a sampler chose {_listed(ranges)} from a range: {remedy}")
    tried = set(zip(*(map(repr, table.rows[name]) for name in names), strict=True))
    possible = math.prod(len(search.domains[name] or ()) for name in names)
    if len(tried) < possible:
        raise BadData(
            f"{table.place}: {len(tried)} of {possible} combinations of {', '.join(names)} were tried, and the storage "
            f"does not say that a person chose which: {remedy}"
        )


def _check_balance(table: RunTable, request: Request, held: Mapping[Cell, Mapping[Any, float]]) -> None:
    """Every cell with the same seeds."""
    counts = {cell: len(runs) for cell, runs in held.items()}
    if max(counts.values()) == 1:
        raise BadData(
            f"{table.place}: every combination has one run, so nothing tells how far seeds alone spread: run each with "
            "two seeds or more"
        )
    seeds = set().union(*held.values())
    lacking = {cell: sorted(seeds - set(runs), key=_order) for cell, runs in held.items() if seeds - set(runs)}
    if not lacking:
        return
    if len(set(counts.values())) > 1:
        few, many = (pick(counts, key=lambda cell: counts[cell]) for pick in (min, max))
        raise BadData(
            f"{table.place}: unbalanced: {plural(counts[many], 'run')} of {_name(request, many)}, {counts[few]} of "
            f"{_name(request, few)}{_follows(request, held)}: run what is missing (of the latter, {request.seed}="
            f"{_listed(lacking[few])}), or leave those seeds out everywhere"
        )
    cell = next(iter(lacking))
    raise BadData(
        f"{table.place}: seeds differ between combinations: {_name(request, cell)} has {request.seed}="
        f"{_listed(sorted(held[cell], key=_order))}, others have {_listed(lacking[cell])}: a block is one seed in "
        "every combination; run the missing ones, or number the replicates of each combination in a column, and give "
        "that as --seed"
    )


def _follows(request: Request, held: Mapping[Cell, Mapping[Any, float]]) -> str:
    """Said where the better cells have more runs, as after a search."""
    if len(held) < 5:
        return ""
    means = [float(np.mean(list(runs.values()))) for runs in held.values()]
    found = stats.spearmanr([len(runs) for runs in held.values()], means)
    better = -found.statistic if request.lower_is_better else found.statistic
    if not (better > 0 and found.pvalue < 0.05):
        return ""
    return f", and better combinations have more runs (rank correlation {better:+.2f}), as a search leaves them"


def _layout(
    table: RunTable, request: Request, levels: Mapping[str, list[Any]], cells: set[Cell]
) -> tuple[dict[str, list[Any]], str]:
    """Levels with the reference first, and the design that the cells are."""
    if len(cells) == math.prod(map(len, levels.values())):
        return dict(levels), "factorial" if len(levels) > 1 else "one-factor"
    centres = [cell for cell in cells if all(sum(map(_differ, cell, other)) <= 1 for other in cells)]
    if centres:
        centre = dict(zip(levels, centres[0], strict=True))
        for name in request.reference:
            if levels[name][0] != centre[name]:
                raise BadRequest(
                    f"--reference {name}={request.reference[name]}: the runs change one factor at a time from "
                    f"{_name(request, centres[0])}, so need {name}={level_text(centre[name])}"
                )
        return {name: [centre[name], *(x for x in found if x != centre[name])] for name, found in levels.items()}, (
            "one-factor"
        )
    absent = [cell for cell in itertools.product(*levels.values()) if cell not in cells]
    raise BadData(
        f"{table.place}: unbalanced: {plural(len(absent), 'combination')} of {math.prod(map(len, levels.values()))} "
        f"without a run ({'; '.join(_name(request, cell) for cell in absent[:NAMED])}{' …' * (len(absent) > NAMED)}): "
        "need every combination of the levels, or a reference and one change at a time; run what is missing, or leave "
        "a factor or a level out"
    )


def _differ(one: Any, other: Any) -> bool:
    return bool(one != other)


def _notes(table: RunTable, request: Request, cells: Sequence[Cell]) -> tuple[str, ...]:
    """What a reader must know of runs that are accepted."""
    notes = []
    rest = [name for name in table.rows.columns if name not in (*request.named, *request.ignored)]
    by_cell = table.rows[rest].map(repr).groupby(pd.Series([repr(cell) for cell in cells]))
    fixed = by_cell.nunique().le(1).all()
    along = [str(name) for name in rest if fixed[name] and table.rows[name].map(repr).nunique() > 1]
    if along:
        notes.append(f"goes with the combinations and so is part of what is compared: {_listed(along)}")
    if request.budget is None and not any(_is_budget(str(name)) for name in table.rows.columns):
        notes.append("no column tells the budget: that all runs had the same is taken on trust")
    return tuple(notes)


def _is_budget(name: str) -> bool:
    words = set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()))
    return bool(words & BUDGET) and not words & NO_BUDGET


def _word(value: Any) -> str:
    """`early_stopped` for `Early stopped`, `pruned` for `TrialState.PRUNED`."""
    return re.sub(r"[ -]", "_", re.sub(r"^\w*[a-z]\w*\.", "", str(value).strip().lower()))


def _missing(value: Any) -> bool:
    return value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value)) or value == ""


def _order(value: Any) -> tuple[int, Any]:
    """Truth values and numbers by size, then text."""
    return (0, value) if isinstance(value, bool | int | float) else (1, str(value))


def _name(request: Request, cell: Cell) -> str:
    return ", ".join(f"{name}={level_text(level)}" for name, level in zip(request.factors, cell, strict=True))


def _listed(items: Sequence[Any]) -> str:
    return ", ".join(map(str, items[:NAMED])) + (f" and {len(items) - NAMED} more" if len(items) > NAMED else "")


def _counted(counts: Mapping[Any, int]) -> str:
    """`3 in 4 runs, 9 in 20 runs`"""
    ordered = sorted(counts, key=lambda value: (-counts[value], *_order(value)))
    return _listed([f"{level_text(value)} in {plural(counts[value], 'run')}" for value in ordered])


def _runs(number: int) -> str:
    return f"{plural(number, 'run')} {'was' if number == 1 else 'were'}"
