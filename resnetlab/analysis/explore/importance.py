"""Importance for the search: which factors told good explore trials from the rest. Never an effect.

PED-ANOVA (Watanabe et al. 2023) and fANOVA (Hutter et al. 2014) as Optuna has them, on trials at equal epochs only:
those that reached the full budget (which ASHA chose), and all at the lowest rung (which is early). They have no sign,
no interval and no control of error, and in simulation they put factors that do nothing above some that do.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from resnetlab.analysis.trial_outcomes import full_budget
from resnetlab.study import Study
from resnetlab.study.records import Phase
from resnetlab.study.space import Factor
from resnetlab.wording import level_text

FEWEST = 10  # trials
TREES = 16  # of fANOVA: enough for two digits
MOST = 600  # trials that fANOVA is given: its time grows with their square
PED_ANOVA, FANOVA = "PED-ANOVA", "fANOVA"
FULL, EARLY = "full budget", "lowest rung"
COLUMNS = ["method", "data", "epoch", "trials", "factor", "importance"]


@dataclass(frozen=True)
class Importance:
    """table: method, data (`full budget` or `lowest rung`), epoch, trials (how many), factor, importance (a share: the
    factors of one method and data sum to 1), greatest first. notes: what is not there, and why."""

    table: pd.DataFrame
    notes: tuple[str, ...] = ()


def importance(study: Study, trials: pd.DataFrame, epochs: pd.DataFrame) -> Importance:
    """Importance of the study's factors among its explore trials; rows of the trials and epochs tables.

    Works without Optuna or scikit-learn, and says so then.
    """
    try:
        import optuna
    except ImportError:
        return Importance(pd.DataFrame(columns=COLUMNS), ("not computed: optuna is not installed",))
    evaluators, notes = _evaluators(optuna)
    rows: list[dict[str, Any]] = []
    for data, epoch, part in _equal_epochs(study, trials, epochs):
        if len(part) < FEWEST:
            notes.append(f"{data} (epoch {epoch}): not computed from {len(part)} trials, needs {FEWEST}")
            continue
        if part["value"].nunique() == 1:
            notes.append(
                f"{data} (epoch {epoch}): not computed: all {len(part)} trials have the same {study.searched.words}"
            )
            continue
        for method, make in evaluators.items():
            used = part if method != FANOVA or len(part) <= MOST else _spread(part)
            if len(used) < len(part):
                notes.append(f"{method}, {data} (epoch {epoch}): from {len(used):,} of {len(part):,} trials")
            found = _shares(optuna, _searched(optuna, study, used), make(len(used)))
            if not found:
                notes.append(f"{method}, {data} (epoch {epoch}): no factor tells the best trials from the rest")
            head = {"method": method, "data": data, "epoch": epoch, "trials": len(used)}
            rows += [head | {"factor": factor, "importance": share} for factor, share in found.items()]
            if absent := [name for name in study.space.names if name not in found] if found else []:
                names = ", ".join(absent)
                notes.append(f"{method}, {data} (epoch {epoch}): {names} not assessed: not active in all trials")
    return Importance(pd.DataFrame(rows, columns=COLUMNS), tuple(notes))


def _evaluators(optuna: Any) -> tuple[dict[str, Any], list[str]]:
    def ped_anova(trials: int) -> Any:
        best = max(0.1, min(0.5, 5 / trials))  # at least five trials, as its documentation advises
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # before Optuna 5
            return optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best)

    found = {PED_ANOVA: ped_anova}
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return found, [f"{FANOVA}: not computed: scikit-learn is not installed"]
    return found | {FANOVA: lambda trials: optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=0)}, []


def _equal_epochs(study: Study, trials: pd.DataFrame, epochs: pd.DataFrame) -> list[tuple[str, int, pd.DataFrame]]:
    """(what, epoch, explore trials with `value`: what was searched for, at that epoch), of trials that got there."""
    explore, column = trials[trials["phase"].isin([Phase.EXPLORE, Phase.AUDIT])], study.searched.name
    full = full_budget(explore)
    full = full[full[column].notna()]
    found = [(FULL, study.search.epochs, full.assign(value=full[column].astype(float)))]
    if study.search.rungs and study.search.rungs[0] < study.search.epochs:
        epoch = study.search.rungs[0]
        there = epochs[epochs["epoch"] == epoch].set_index("trial_id")[column]
        early = explore.assign(value=explore["trial_id"].map(there).astype(float))
        found.append((EARLY, epoch, early[early["value"].notna()]))
    return found


def _spread(part: pd.DataFrame) -> pd.DataFrame:
    """MOST trials, evenly over the search."""
    ordered = part.sort_values("number")
    return ordered.iloc[[i * len(part) // MOST for i in range(MOST)]]


def _searched(optuna: Any, study: Study, trials: pd.DataFrame) -> Any:
    """An Optuna study of these trials. A tuned value is its position in its range, 0 to 1, so that a learning rate
    counts as one factor whatever the optimizer."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    searched = optuna.create_study(direction="minimize" if study.searched.better == "lower" else "maximize")
    space = study.space
    factors = {factor.name: factor for factor in space.factors}
    kinds = {name: _distribution(optuna, factor) for name, factor in factors.items()}
    for row in trials.to_dict("records"):
        active = space.active({name: row[name] for name in kinds if not pd.isna(row[name])})
        params = {name: _coordinate(factors[name], value, active) for name, value in active.items()}
        used = {name: kinds[name] for name in params}
        searched.add_trial(optuna.trial.create_trial(params=params, distributions=used, value=row["value"]))
    return searched


def _distribution(optuna: Any, factor: Factor) -> Any:
    if factor.compared:
        return optuna.distributions.CategoricalDistribution(tuple(map(level_text, factor.levels)))
    return optuna.distributions.FloatDistribution(0.0, 1.0)


def _coordinate(factor: Factor, value: Any, active: Mapping[str, Any]) -> Any:
    if factor.compared:
        return level_text(value)
    index = factor.branch(active)
    return factor.branches[index or 0].position(value)


def _shares(optuna: Any, searched: Any, evaluator: Any) -> dict[str, float]:
    """Importance of each factor as a share of all, greatest first, and by name where they tie: Optuna's own order is
    that of a set. Empty where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = optuna.importance.get_param_importances(searched, evaluator=evaluator, normalize=False)
    total = sum(found.values())
    if not total > 0:
        return {}
    return {name: value / total for name, value in sorted(found.items(), key=lambda item: (-item[1], item[0]))}
