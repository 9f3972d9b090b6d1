"""`resnetlab analyse`: the effects of factors in runs that were made elsewhere, or why these runs show none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnetlab import console
from resnetlab.cli import options
from resnetlab.cli.exit_codes import report_errors
from resnetlab.errors import BadRequest

if TYPE_CHECKING:
    from resnetlab.analysis.foreign.tables import RunTable

EXAMPLE = "runs.csv --factors kernel,depth --metric test_acc --seed seed --budget epochs"


def main(
    runs: Annotated[
        str,
        typer.Argument(metavar="RUNS", help="CSV or Parquet with one row a run, or an Optuna storage (file or URL)"),
    ],
    factors: Annotated[str, typer.Option(metavar="A,B,…", help="columns that are compared")],
    metric: Annotated[str, typer.Option(help="column with the result of a run")],
    seed: Annotated[str, typer.Option(help="column with the seed: every combination of factors needs the same ones")],
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FACTOR=LEVEL",
            help="level that the others are compared with; repeatable",
            show_default="lowest, or first in alphabetical order",
        ),
    ] = None,
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="the metric is a loss or a cost")] = False,
    delta: Annotated[
        float, typer.Option(help="smallest effect of interest, in the metric's unit", show_default="none")
    ] = 0.0,
    alpha: Annotated[float, typer.Option(help="error rate of each family of comparisons")] = 0.05,
    budget: Annotated[str | None, typer.Option(help="column that must be equal in all runs, e.g. epochs")] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="column that is no budget and no status; repeatable")
    ] = None,
    study: Annotated[str | None, typer.Option(help="study in an Optuna storage that holds several")] = None,
    output: Annotated[
        Path | None, typer.Option(help="folder for effects.parquet, report.html and figures", show_default="none")
    ] = None,
    json: options.Json = False,
) -> None:
    """Compare runs that were made elsewhere, by the estimators of the confirm stage.

    Runs that do not carry a comparison are refused with the reason: unequal budgets, runs chosen or stopped by a
    search, a single seed, missing or repeated runs, missing values.
    """
    with report_errors():
        from resnetlab.analysis.foreign.comparison import Comparison
        from resnetlab.analysis.foreign.refusals import Request
        from resnetlab.report import foreign
        from resnetlab.report.terminal import screen
        from resnetlab.storage.results_folder import ResultsFolder

        if not (math.isfinite(delta) and delta >= 0):
            raise BadRequest(f"--delta {delta}: need a number of 0 or more")
        if not 0 < alpha < 1:
            raise BadRequest(f"--alpha {alpha}: need 0 < alpha < 1")
        request = Request(
            factors=_columns(factors),
            metric=metric,
            seed=seed,
            reference=_levels(reference or ()),
            budget=budget,
            ignored=tuple(ignore or ()),
            lower_is_better=lower_is_better,
            delta=delta,
            alpha=alpha,
        )
        folder = None
        if output is not None:
            folder = ResultsFolder.at(output, "--output")
            foreign.check_folder(folder)
        comparison = Comparison.of(_read(runs, study), request)
        report = None if folder is None else foreign.write(comparison, folder)
        if json:
            console.print_json(foreign.as_json(comparison, report))
            return
        foreign.show(comparison, screen(), report)


def _read(runs: str, study: str | None) -> RunTable:
    from resnetlab.analysis.foreign.tables import RunTable, Search, frame, read_runs
    from resnetlab.provenance import without_secrets
    from resnetlab.search.optuna_storage import is_storage, read_trials

    if is_storage(runs):
        trials = read_trials(runs, study)
        search = Search(trials.domains, trials.designed, trials.sampler)
        place = f"{without_secrets(runs)}, study {trials.study}"
        return RunTable(place, frame(trials.columns), trials.better, search)
    if study is not None:
        raise BadRequest(f"--study {study}: {runs} is no Optuna storage")
    return read_runs(runs)


def _columns(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


def _levels(options: Sequence[str]) -> Mapping[str, str]:
    """Reference level by factor, from the FACTOR=LEVEL of each --reference."""
    levels: dict[str, str] = {}
    for text in options:
        name, sign, level = (part.strip() for part in text.partition("="))
        if not (name and sign and level):
            raise BadRequest(f"--reference {text}: need FACTOR=LEVEL, as in --reference kernel=3")
        if name in levels:
            raise BadRequest(f"--reference {text}: {name} has one already ({levels[name]})")
        levels[name] = level
    return levels
