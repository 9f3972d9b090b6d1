"""Importance for the search: on equal epochs only; without Optuna or scikit-learn it is reported as missing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resnetlab.analysis.explore import importance as module
from resnetlab.analysis.explore.importance import COLUMNS, EARLY, FANOVA, FEWEST, FULL, PED_ANOVA, importance
from resnetlab.study import build_study

ROOT = Path(__file__).resolve().parents[1]
STUDY = build_study(
    {
        "name": "s",
        "dataset": {"name": "glyphs"},
        "factors": {
            "kernel": {"levels": [3, 5]},
            "se": {"levels": [False, True]},
            "optimizer": {"levels": ["sgd", "adamw"]},
            "lr": [
                {"when": {"optimizer": "sgd"}, "low": 0.01, "high": 1.0, "log": True},
                {"when": {"optimizer": "adamw"}, "low": 1e-4, "high": 1e-2, "log": True},
            ],
            "momentum": {"when": {"optimizer": "sgd"}, "low": 0.5, "high": 0.99},
        },
        "search": {"epochs": 9, "grace_period": 1, "reduction_factor": 3},
    },
    "test",
)


def explored(n=60, seed=0, stop=0.0):
    """Trials in which only kernel counts at epoch 9 and only se at epoch 1, and their epochs."""
    rng = np.random.default_rng(seed)
    trials, epochs = [], []
    for i in range(n):
        kernel, se, sgd = 3 + 2 * rng.integers(2), bool(rng.integers(2)), bool(rng.integers(2))
        lr = float(10 ** rng.uniform(-2, 0) * (1 if sgd else 0.01))
        early, last = 0.3 + 0.1 * se + rng.normal(0, 0.005), 0.7 + 0.1 * (kernel == 5) + rng.normal(0, 0.005)
        ran = 1 if rng.random() < stop else 9
        values = np.linspace(early, last, 9)[:ran]
        trials.append(
            {"trial_id": f"t{i}", "phase": "audit" if i % 5 == 0 else "explore", "epochs_run": ran, "epochs_allowed": 9,
             "status": "complete" if ran == 9 else "stopped", "val_accuracy": values[-1], "kernel": kernel, "se": se,
             "optimizer": "sgd" if sgd else "adamw", "lr": lr, "momentum": rng.uniform(0.5, 0.99) if sgd else np.nan}
        )  # fmt: skip
        epochs += [{"trial_id": f"t{i}", "epoch": e + 1, "val_accuracy": v} for e, v in enumerate(values)]
    return pd.DataFrame(trials), pd.DataFrame(epochs)


def shares(found, method, data):
    table = found.table
    part = table[(table["method"] == method) & (table["data"] == data)]
    assert part["importance"].sum() == pytest.approx(1.0) and part["importance"].is_monotonic_decreasing
    return part.set_index("factor")["importance"]


def test_what_told_trials_apart_at_the_full_budget_and_at_the_lowest_rung():
    found = importance(STUDY, *explored(200))
    assert list(found.table.columns) == COLUMNS
    assert shares(found, PED_ANOVA, FULL).idxmax() == "kernel" and shares(found, PED_ANOVA, EARLY).idxmax() == "se"
    assert found.table.groupby("data")["epoch"].unique().map(list).to_dict() == {FULL: [9], EARLY: [1]}
    assert (found.table["trials"] == 200).all()


def test_a_learning_rate_is_one_factor_whatever_the_optimizer():
    factors = set(importance(STUDY, *explored()).table["factor"])
    assert "lr" in factors and not any("@" in name for name in factors)


def test_trials_that_were_stopped_count_only_where_they_were():
    trials, epochs = explored(stop=0.5)
    table = importance(STUDY, trials, epochs).table.groupby("data")["trials"].unique().map(list)
    assert table.to_dict() == {FULL: [int((trials["status"] == "complete").sum())], EARLY: [60]}
    scrambled = trials.assign(val_accuracy=trials["val_accuracy"].where(trials["status"] == "complete", 0.999))
    pd.testing.assert_frame_equal(importance(STUDY, scrambled, epochs).table, importance(STUDY, trials, epochs).table)


def test_confirm_trials_are_not_search():
    trials, epochs = explored(20)
    both = pd.concat([trials, trials.assign(phase="confirm", val_accuracy=0.1)])
    pd.testing.assert_frame_equal(importance(STUDY, both, epochs).table, importance(STUDY, trials, epochs).table)


def test_too_few_trials_are_a_named_absence():
    trials, epochs = explored(FEWEST - 1)
    found = importance(STUDY, trials, epochs)
    assert found.table.empty
    assert f"{FULL} (epoch 9): not computed from 9 trials, needs 10" in found.notes
    assert importance(STUDY, trials.iloc[:0], epochs.iloc[:0]).table.empty


def test_trials_that_are_all_alike_have_no_importance():
    trials, epochs = explored(12)
    same = trials.assign(kernel=3, se=True, optimizer="sgd", lr=0.1, momentum=0.9, val_accuracy=0.5)
    found = importance(STUDY, same, epochs.assign(val_accuracy=0.5))
    assert found.table.empty
    assert f"{FULL} (epoch 9): not computed: all 12 trials have the same validation accuracy" in found.notes


def test_without_optuna_or_scikit_learn_the_absence_is_named(monkeypatch):
    trials, epochs = explored(20)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    found = importance(STUDY, trials, epochs)
    assert set(found.table["method"]) == {PED_ANOVA}
    assert f"{FANOVA}: not computed: scikit-learn is not installed" in found.notes
    monkeypatch.setitem(sys.modules, "optuna", None)
    found = importance(STUDY, trials, epochs)
    assert found.table.empty and list(found.table.columns) == COLUMNS
    assert found.notes == ("not computed: optuna is not installed",)


def test_fanova_where_scikit_learn_is_there():
    pytest.importorskip("sklearn")
    found = importance(STUDY, *explored())
    assert shares(found, FANOVA, FULL).idxmax() == "kernel" and shares(found, FANOVA, EARLY).idxmax() == "se"
    assert any("momentum not assessed" in note for note in found.notes)


def test_importance_says_of_itself_that_it_is_no_effect():
    assert "Never an effect" in module.__doc__ and "estimate" not in COLUMNS and "effect" not in COLUMNS


def test_fanova_of_many_trials_uses_some_of_them_and_says_so(monkeypatch):
    monkeypatch.setattr(module, "MOST", 40)
    trials, epochs = explored(100)
    found = importance(STUDY, trials.assign(number=range(100)), epochs)
    assert set(found.table.groupby("method")["trials"].max().items()) == {(FANOVA, 40), (PED_ANOVA, 100)}
    assert "fANOVA, full budget (epoch 9): from 40 of 100 trials" in found.notes


def test_factors_that_tie_have_one_order_in_every_process():
    """Two factors of the reference sweep tie; Optuna orders them as a set does, by the seed of Python's hashes."""
    code = (
        "from resnetlab.analysis import results\n"
        "from resnetlab.analysis.explore import importance\n"
        "found = results.Results.open('results/reference/default')\n"
        "print(list(importance.importance(found.study, found.trials, found.epochs).table['factor']))\n"
    )
    said = set()
    for seed in "02":
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
    assert len(said) == 1
