"""Variances about what the arms of a seed share: the estimator, when it falls back, and what a plan makes of it."""

import numpy as np
import pandas as pd
import pytest
from test_looks_sweep import study

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.contrasts import FLOOR, CellMeans, contrast
from resnetlab.analysis.confirm.effects_table import estimate
from resnetlab.analysis.confirm.estimands import between, estimands
from resnetlab.calibration.error_rates import simulated_plan
from resnetlab.calibration.shared_seeds import Case, measure_shared
from resnetlab.calibration.simulator import Truth, confirm_rows, confirm_values
from resnetlab.planning.making import make_plan, sketch


def table(arms=4, seeds=3, repeats=20_000, sd=(1.0, 2.0, 0.5, 1.5), block=3.0):
    rng = np.random.default_rng(0)
    shared = block * rng.standard_normal((repeats, 1, seeds))
    return np.array(sd)[:arms, None] * rng.standard_normal((repeats, arms, seeds)) + shared


def test_but_for_the_floor_it_is_unbiased_for_unlike_variances_whatever_the_blocks_add(monkeypatch):
    monkeypatch.setattr("resnetlab.analysis.confirm.contrasts.FLOOR", -np.inf)
    values = table()
    found = CellMeans.of(values, blocks=True)
    assert found.variance.mean(0) == pytest.approx([1.0, 4.0, 0.25, 2.25], abs=0.06)
    assert CellMeans.of(values).variance.mean(0) == pytest.approx(np.array([1, 4, 0.25, 2.25]) + 9, rel=0.06)


def test_the_note_s_formula_and_its_floor():
    values = table(repeats=5)
    residual = (
        values - values.mean(2, keepdims=True) - values.mean(1, keepdims=True) + values.mean((1, 2), keepdims=True)
    )
    q = (residual**2).sum(2) / 2
    expected = 4 / 2 * (q - q.sum(1, keepdims=True) / 12)
    least = FLOOR * q.sum(1, keepdims=True) / 3
    found = CellMeans.of(values, blocks=True)
    assert np.allclose(found.variance, np.maximum(expected, least)) and (found.df == 2).all()
    assert (expected < least).any() and (CellMeans.of(np.zeros((3, 2)), blocks=True).variance == 0).all()


def test_a_missing_run_or_two_arms_bring_the_arms_own_variances_back():
    values = table(repeats=2)
    values[0, 1, 2] = np.nan
    found, own = CellMeans.of(values, blocks=True), CellMeans.of(values)
    assert np.array_equal(found.variance[0], own.variance[0])
    assert not np.allclose(found.variance[1], own.variance[1])
    values[1, 3] = np.nan  # an arm that does not run any more: the others are a whole table
    three = CellMeans.of(values, blocks=True).variance[1]
    assert np.allclose(three[:3], CellMeans.of(values[1, :3], blocks=True).variance) and np.isnan(three[3])
    assert np.array_equal(CellMeans.of(values[1, :2], blocks=True).variance, own.variance[1, :2])


def test_a_plan_says_which_variance_and_only_where_it_is_not_the_arms_own():
    plain, together = sketch(study({"looks": "none"})), sketch(study({"looks": "none", "variance": "blocks"}))
    assert "variance" not in plain.content() and "variance" not in plain.asked
    assert together.content()["variance"] == "blocks" and together.plan_hash != plain.plan_hash
    assert estimands(together).blocks and not estimands(plain).blocks
    assert between(together, [("kernel", 5, 3)]).blocks
    tasks = {"plain": {}, "wide": {"width": 32}, "font": {"data": {"label": "font"}}}
    found = make_plan(study({"looks": "none", "variance": "blocks"}, arms=tasks), [], "d", "c")
    assert not estimands(found).blocks  # a seed moves arms of another task by another amount


def test_effects_use_it_and_say_so_where_runs_are_missing():
    plan = simulated_plan("fractional", 3).model_copy(update={"variance": "blocks"})
    arms = [arm.values for arm in plan.arms]
    values = confirm_values(Truth(main={"kernel": {5: 1.0}}, shared=0.7), arms, 3, 1, np.random.default_rng(0))[0]

    def effects(values):
        return estimate(ConfirmRuns.of(plan, pd.DataFrame(confirm_rows(plan, values)))).set_index("name")

    asked = estimands(plan)
    whole = effects(values)
    by_hand = contrast(CellMeans.of(values[None], blocks=True), asked.weights(np.ones(16, dtype=bool)), crossed=True)
    kernel = [item.name for item in asked.items].index("kernel: 5 - 3")
    assert whole.loc["kernel: 5 - 3", "standard_error"] == pytest.approx(by_hand.standard_error[0, kernel])
    assert "about what the arms of a seed share" in whole.loc["kernel: 5 - 3", "method"]
    assert "runs are missing" not in " ".join(whole["note"])
    values[2, 1] = np.nan
    missing = effects(values).loc["kernel: 5 - 3"]
    assert "runs are missing, so the arms' own variances are taken" in missing.note
    assert "about what the arms of a seed share" not in missing.method


def test_an_arm_without_any_run_does_not_keep_the_others_from_it():
    """Where all of an arm's runs failed, the others still share their seeds, and are not said to be by themselves."""
    arms = {"plain": {}, "wide": {"width": 32}, "deep": {"blocks": 4}, "lost": {"kernel": 5}}
    plan = make_plan(study({"looks": "none", "variance": "blocks", "seeds": 3}, arms=arms), [], "d", "c")
    values = table(seeds=3, repeats=1)[0] / 100 + 0.5
    values[[arm.name for arm in plan.arms].index("lost")] = np.nan
    found = estimate(ConfirmRuns.of(plan, pd.DataFrame(confirm_rows(plan, values)))).set_index("name")
    there = found[found["estimate"].notna()]
    assert 0 < len(there) < len(found) and there["method"].str.contains("about what the arms of a seed share").all()
    assert not there["note"].str.contains("own variances are taken").any()


def test_it_brings_power_where_seeds_move_together_and_loses_none_where_they_do_not():
    lines = {}
    for shared in (0.0, 0.5):
        for variance in ("arms", "blocks"):
            case = Case("equal variances", "one-factor", 5, shared, variance)
            lines[shared, variance] = measure_shared(case, 2_000)
    assert lines[0.5, "blocks"]["power"] > lines[0.5, "arms"]["power"] + 0.10
    assert lines[0.0, "blocks"]["power"] > lines[0.0, "arms"]["power"] - 0.02  # n = 2,000: within 1.6 points
    assert all(line["coverage"] >= 0.93 for line in lines.values())
