"""Noise floor and power: against closed forms, the design note's table and simulation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.power import (
    SWAP,
    block_correlation,
    interaction,
    main_effect,
    noise_floor,
    outlook,
    pooled_sd,
)
from resnetlab.calibration.error_rates import Scenario, repeats, simulated_plan
from resnetlab.calibration.simulator import Truth, confirm_rows, confirm_values


@pytest.mark.parametrize("sd, plain, holm", [(0.3, 2, 2), (0.4, 2, 3), (0.6, 4, 5), (0.75, 5, 7), (1.0, 8, 12)])
def test_seeds_of_a_crossed_design_for_half_a_point(sd, plain, holm):
    """The table of seeds for 0.5 points that a 2^(5-1) design needs, computed independently when this was designed."""
    assert main_effect(16).seeds_needed(0.5, sd) == plain
    assert main_effect(16).seeds_needed(0.5, sd, alpha=0.05 / 5) == holm


def test_power_of_a_swap_is_that_of_the_two_sample_t_test():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((40_000, 2, 4)) + np.array([0.0, 1.5])[:, None]
    p = stats.ttest_ind(draws[:, 0], draws[:, 1], axis=1).pvalue
    assert SWAP.power(1.5, 1.0, 4) == pytest.approx((p < 0.05).mean(), abs=0.01)


def test_power_of_a_cube_is_what_the_estimator_has():
    truth = Truth(main={"kernel": {5: 0.8}}, sd=0.74)
    found = list(repeats(Scenario("test", "fractional", 4, truth), 2000, seed=1))
    names = [item.name for item in found[0].questions.items]
    hits = np.concatenate([a.estimates.p[:, names.index("kernel: 5 - 3")] <= 0.05 for a in found])
    assert hits.mean() == pytest.approx(main_effect(16).power(0.8, 0.74, 4), abs=0.025)


def test_an_interaction_needs_twice_the_effect():
    assert interaction(16).detectable(0.7, 3) == pytest.approx(2 * main_effect(16).detectable(0.7, 3))


@given(
    st.sampled_from([SWAP, main_effect(8), main_effect(16), interaction(32)]), st.floats(0.01, 5), st.integers(2, 40)
)
def test_the_smallest_detectable_effect_is_found_four_times_in_five(shape, sd, seeds):
    effect = shape.detectable(sd, seeds)
    assert shape.power(effect, sd, seeds) == pytest.approx(0.8, abs=1e-6)
    assert shape.seeds_needed(effect * 1.0001, sd) <= seeds


@given(st.floats(0.05, 3), st.floats(0.1, 3))
def test_seeds_needed_are_the_fewest(effect, sd):
    seeds = SWAP.seeds_needed(effect, sd)
    if seeds is None:
        assert SWAP.power(effect, sd, 10_000) < 0.8
    else:
        assert SWAP.power(effect, sd, seeds) >= 0.8 > SWAP.power(effect, sd, seeds - 1)


def test_one_seed_detects_nothing():
    assert SWAP.power(5.0, 0.1, 1) == 0.0 and SWAP.detectable(0.1, 1) == float("inf")
    assert SWAP.seeds_needed(0.0001, 10.0) is None


def test_the_noise_floor_covers_the_true_sd():
    rng = np.random.default_rng(1)
    floors = [pooled_sd(list(rng.normal(0.8, 0.0074, (6, 3)))) for _ in range(800)]
    covered = np.mean([floor.low <= 0.0074 <= floor.high for floor in floors])
    assert 0.93 < covered < 0.97 and floors[0].df == 12 and floors[0].runs == 18


def test_the_noise_floor_takes_replicates_of_runs_that_trained_only():
    plan = simulated_plan("one-factor", 3)
    values = confirm_values(Truth(), [arm.values for arm in plan.arms], 3, 1, np.random.default_rng(0))[0]
    values[0, 0], values[1, 1] = np.nan, 0.1
    runs = ConfirmRuns.of(plan, pd.DataFrame(confirm_rows(plan, values)))
    floor = noise_floor(runs.trained)
    assert (floor.df, floor.arms, floor.runs) == (10, 6, 16)
    assert floor.sd == pytest.approx(0.0074, rel=0.6) and floor.smallest <= floor.sd <= floor.largest
    assert not noise_floor(values[:, :1]).known


def test_the_correlation_within_seed_blocks_is_measured():
    rng = np.random.default_rng(2)
    arms = [arm.values for arm in simulated_plan("fractional", 2).arms]
    for shared in (0.0, 0.5):
        many = confirm_values(Truth(shared=shared), arms, 60, 1, rng)[0]
        found = block_correlation(many)
        assert found.correlation == pytest.approx(shared, abs=0.15) and found.low < shared < found.high
    few = confirm_values(Truth(shared=0.3), arms, 4, 400, rng)
    covered = np.mean([(f := block_correlation(values)).low <= 0.3 <= f.high for values in few])
    assert 0.92 < covered < 0.98


def test_blocks_with_a_missing_run_are_left_out_and_counted():
    values = np.random.default_rng(0).normal(0.8, 0.01, (4, 3))
    values[0, 0] = np.nan
    assert block_correlation(values).blocks == 2
    values[1, 1] = np.nan
    assert np.isnan(block_correlation(values).correlation) and "1 of 3 seed blocks" in block_correlation(values).note


def test_the_outlook_of_a_plan():
    plan = simulated_plan("fractional", 2)
    table = outlook(plan, sd=0.0075, epochs=15).set_index(["estimand", "holm"])
    main = table.loc["average over the other factors", False]
    assert main["seeds_needed"] == 5 and main["epochs_needed"] == 1200
    assert table.loc[("average over the other factors", True), "seeds_needed"] == 7
    assert main["detectable"] == pytest.approx(main_effect(16).detectable(0.0075, 2))
    assert table.loc[("interaction", False), "detectable"] == pytest.approx(2 * main["detectable"])
    swaps = outlook(simulated_plan("one-factor", 3), sd=0.0075, epochs=15)
    assert set(swaps["estimand"]) == {"change at the incumbent"} and swaps["tests"].tolist() == [5, 5]
    assert swaps["seeds_needed"].tolist()[0] == SWAP.seeds_needed(0.5, 0.75)
