"""Simple effects are shown because an interaction was found: their intervals account for that, or there are none."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.contrasts import holm
from resnetlab.analysis.confirm.effects_table import estimate
from resnetlab.analysis.confirm.selected import found_up_to, interval
from resnetlab.calibration.error_rates import simulated_plan
from resnetlab.calibration.simulator import Truth, confirm_rows, confirm_values
from resnetlab.planning import designs
from resnetlab.planning.plan import PlannedArm


@pytest.mark.parametrize("true", [0.0, 4.0, 12.0], ids=["none", "some", "large"])
def test_among_studies_that_find_the_interaction_the_interval_covers(true):
    """A main effect of variance 1 and an interaction of variance 4, 16 degrees of freedom, ten interactions (n = 300
    that are found): at least 90%, where the usual interval covers from 29%."""
    rng, df, count = np.random.default_rng(0), 16, 200_000
    main, found = rng.normal(0, 1, count), rng.normal(true, 2, count)
    sd = np.sqrt(rng.chisquare(df, count) / df)
    cut = stats.t.ppf(1 - 0.05 / 20, df) * 2 * sd
    chosen = np.flatnonzero(np.abs(found) > cut)[:300]
    covered, usual = [], []
    for j in chosen:
        effect, error = main[j] + found[j] / 2, np.sqrt(2) * sd[j]
        low, high = interval(effect, error, df, 1.0, found[j] - effect, cut[j])
        covered.append(low <= true / 2 <= high)
        usual.append(abs(effect - true / 2) <= stats.t.ppf(0.975, df) * error)
    assert len(chosen) == 300 and np.mean(covered) >= 0.90
    assert true > 0 or np.mean(usual) < 0.45


def test_far_beyond_the_threshold_it_is_the_usual_interval():
    low, high = interval(10.0, 1.0, 20.0, 1.0, 30.0, 3.0)
    half = stats.t.ppf(0.975, 20)
    assert (low, high) == pytest.approx((10 - half, 10 + half), abs=0.05)
    assert interval(1.0, 1.0, 20.0, 0.0, 5.0, 3.0) == pytest.approx((1 - half, 1 + half))
    assert np.isnan(interval(1.0, np.nan, 20.0, 1.0, 0.0, 3.0)).all()


def test_the_threshold_of_a_test_is_where_holms_method_stops_finding_it():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random(6) ** 4
        at = found_up_to(p, 2, 0.05)
        for value, found in ((at * 0.999, True), (at * 1.001, False)):
            other = p.copy()
            other[2] = value
            assert (holm(other)[2] <= 0.05) == found


def effects_of(plan, truth, seed=0):
    arms = [arm.values for arm in plan.arms]
    (values,) = confirm_values(truth, arms, plan.seeds, 1, np.random.default_rng(seed))
    return estimate(ConfirmRuns.of(plan, pd.DataFrame(confirm_rows(plan, values))))


STRONG = Truth(together=(({"blocks": 4, "kernel": 5}, -6.0),), main={"kernel": {5: 3.0}}, sd=0.5)


def test_a_simple_effect_is_shown_with_that_interval_alone():
    found = effects_of(simulated_plan("fractional", 3), STRONG).set_index("name")
    row = found.loc["kernel: 5 - 3 where blocks=3"]
    assert row["verdict"] == "effect" and row["low"] < 3 / 100 < row["high"]
    assert np.isnan(row["low_these"]) and "which the interval accounts for" in row["note"]


def test_where_more_than_one_interaction_may_have_brought_it_in_there_is_no_interval_and_no_verdict():
    plan = simulated_plan("factorial", 3)
    levels = {"blocks": [4, 2], "kernel": [5]}
    arms = designs.full_factorial({**plan.incumbent}, levels)
    three = plan.model_copy(
        update={"compared": levels, "arms": [PlannedArm(name=a.name, values=a.values, changed=a.changed) for a in arms]}
    )
    found = effects_of(three, STRONG).set_index("name")
    shown = found[found.index.str.contains(" where ")]
    assert len(shown) and shown["low"].isna().all() and not set(shown["verdict"]) & {"effect", "equivalent"}
    assert shown["estimate"].notna().all()
