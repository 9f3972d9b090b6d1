"""Confirmed effects: planted ones are found with the right sign, absent ones are not, and bad input is reported."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.contrasts import CellMeans, contrast, holm
from resnetlab.analysis.confirm.effects import analyse
from resnetlab.analysis.confirm.effects_table import estimate, performance
from resnetlab.analysis.confirm.estimands import estimands
from resnetlab.calibration.error_rates import INCUMBENT, PLANTED, Scenario, measure, simulated_plan
from resnetlab.calibration.simulator import Truth, confirm_rows, confirm_values
from resnetlab.errors import BadData
from resnetlab.planning.plan import Plan, PlannedArm
from resnetlab.storage.schema import schema

QUIET = Truth(main=PLANTED.main, together=PLANTED.together, sd=0.1)


def confirmed(plan: Plan, truth: Truth = QUIET, seed: int = 0) -> pd.DataFrame:
    values = confirm_values(truth, [arm.values for arm in plan.arms], plan.seeds, 1, np.random.default_rng(seed))
    return pd.DataFrame(confirm_rows(plan, values[0]))


def alter(rows: pd.DataFrame, arm: str, block: int | None = None, **changes) -> pd.DataFrame:
    which = (rows["arm"] == arm) & ((rows["seed_block"] == block) | (block is None))
    assert which.any()
    for name, value in changes.items():
        rows.loc[which, name] = value
    return rows


def row(effects: pd.DataFrame, name: str) -> pd.Series:
    found = effects[effects["name"] == name]
    assert len(found) == 1, (name, list(effects["name"]))
    return found.iloc[0]


# -- the arithmetic --------------------------------------------------------------------------------------------------


def test_swap_is_welchs_test_as_scipy_has_it():
    rng = np.random.default_rng(0)
    values = rng.normal(0.8, [[0.01], [0.03], [0.02]], (3, 4))
    values[2, 1] = np.nan
    swaps = np.array([[-1.0, 1.0, 0.0], [-1.0, 0.0, 1.0]])
    found = contrast(CellMeans.of(values), swaps, crossed=False)
    for i, arm in enumerate((1, 2)):
        ours = values[arm][~np.isnan(values[arm])]
        test = stats.ttest_ind(ours, values[0], equal_var=False)
        interval = test.confidence_interval(0.95)
        assert found.p[i] == pytest.approx(test.pvalue) and found.df[i] == pytest.approx(test.df)
        assert [end[i] for end in found.interval()] == pytest.approx([interval.low, interval.high])


def test_cube_effects_are_averages_over_the_cube():
    plan = simulated_plan("fractional", 2)
    rows = confirmed(plan)
    effects = estimate(ConfirmRuns.of(plan, rows))
    accuracy = rows.groupby("arm")["test_accuracy"].mean()
    on = [arm.name for arm in plan.arms if arm.values["se"]]
    expected = accuracy[on].mean() - accuracy.drop(on).mean()
    assert row(effects, "se: on - off")["estimate"] == pytest.approx(expected)
    assert row(effects, "se: on - off")[["n", "n_reference"]].tolist() == [16, 16]
    assert row(effects, "se: on - off")["estimand"] == "average over the other factors"
    high = {k: [a.name for a in plan.arms if (a.values["blocks"] == 4) == k[0] and (a.values["kernel"] == 5) == k[1]]
            for k in [(True, True), (True, False), (False, True), (False, False)]}  # fmt: skip
    mean = {k: accuracy[names].mean() for k, names in high.items()}
    expected = (mean[True, True] - mean[False, True]) - (mean[True, False] - mean[False, False])
    found = row(effects, "blocks × kernel: (4 - 3) × (5 - 3)")
    assert found["estimate"] == pytest.approx(expected) and found["estimand"] == "interaction"


def test_three_levels_are_each_compared_with_the_incumbents():
    compared = {"blocks": [2, 4], "kernel": [5]}
    incumbent = {"blocks": 3, "kernel": 3}
    arms = [{"blocks": b, "kernel": k} for b in (3, 2, 4) for k in (3, 5)]
    plan = a_plan("factorial", incumbent, compared, arms, seeds=3)
    effects = estimate(ConfirmRuns.of(plan, confirmed(plan, Truth(main={"blocks": {2: -3.0, 4: 1.0}}, sd=0.1))))
    assert row(effects, "blocks: 2 - 3")["estimate"] == pytest.approx(-0.03, abs=0.002)
    assert row(effects, "blocks: 4 - 3")["estimate"] == pytest.approx(0.01, abs=0.002)
    assert row(effects, "blocks: 4 - 3")[["n", "n_reference"]].tolist() == [6, 6]
    assert row(effects, "kernel: 5 - 3")["verdict"] == "equivalent"


def a_plan(kind, incumbent, compared, values, seeds=3, **more):
    arms = []
    for value in values:
        changed = {name: level for name, level in value.items() if level != incumbent[name]}
        name = ", ".join(f"{k}={v}" for k, v in changed.items()) or "incumbent"
        arms.append(PlannedArm(name=name, values=value, changed=changed))
    return Plan(
        study="s", study_hash="s", data_hash="d", code="c", incumbent=incumbent, chosen_trial="t", alpha=0.05,
        chosen_val_accuracy=0.8, design=kind, compared=compared, arms=arms, seeds=seeds, delta=0.5, **more,
    )  # fmt: skip


def test_holm_by_hand():
    p = np.array([[0.01, 0.04, 0.03, 0.005], [0.2, np.nan, 0.01, 0.02]])
    adjusted = holm(p)
    assert adjusted[0] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjusted[1, [0, 2, 3]] == pytest.approx([0.4, 0.04, 0.06]) and np.isnan(adjusted[1, 1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_p_and_bonferroni(p):
    p = np.array(p)
    adjusted = holm(p)
    assert (adjusted >= p).all() and (adjusted <= np.minimum(p * len(p), 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


@settings(max_examples=30)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_shifting_one_arm_of_a_swap_shifts_its_effect(seeds, seed):
    plan = simulated_plan("one-factor", seeds)
    rows = confirmed(plan, seed=seed)
    before = row(estimate(ConfirmRuns.of(plan, rows)), "kernel: 5 - 3")
    which = rows["arm"] == "kernel=5"
    rows.loc[which, "test_accuracy"] = rows.loc[which, "test_accuracy"] - 0.1
    after = row(estimate(ConfirmRuns.of(plan, rows)), "kernel: 5 - 3")
    assert after["estimate"] == pytest.approx(before["estimate"] - 0.1)
    assert after["standard_error"] == pytest.approx(before["standard_error"])


# -- planted effects and none ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["one-factor", "fractional", "factorial"])
def test_planted_effects_are_found_with_their_sign(kind):
    plan = simulated_plan(kind, 4)
    effects = estimate(ConfirmRuns.of(plan, confirmed(plan)))
    assert list(effects.columns) == schema("effects").names
    assert row(effects, "se: on - off")["verdict"] == "effect" and row(effects, "se: on - off")["estimate"] > 0
    worse = row(effects, "optimizer: adamw - sgd")
    assert worse["verdict"] == "effect" and worse["estimate"] < 0 and worse["high"] < 0
    assert row(effects, "head_depth: 2 - 1")["verdict"] == "equivalent"


@pytest.mark.parametrize("kind", ["fractional", "factorial"])
def test_a_found_interaction_puts_simple_effects_in_place_of_the_average(kind):
    plan = simulated_plan(kind, 4)
    effects = estimate(ConfirmRuns.of(plan, confirmed(plan)))
    assert row(effects, "blocks × kernel: (4 - 3) × (5 - 3)")["verdict"] == "effect"
    assert "kernel: 5 - 3" not in set(effects["name"]) and "blocks: 4 - 3" not in set(effects["name"])
    better = row(effects, "kernel: 5 - 3 where blocks=3")
    assert better["estimate"] == pytest.approx(0.011, abs=0.002) and better["verdict"] == "effect"
    assert "because blocks × kernel was found: such estimates tend to be too large" in better["note"]
    assert row(effects, "kernel: 5 - 3 where blocks=4")["estimate"] == pytest.approx(-0.001, abs=0.001)
    assert better["estimand"] == "average over the other factors where blocks=3"


@pytest.mark.parametrize("kind, seeds, family", [("one-factor", 3, "swap"), ("fractional", 2, "main")])
def test_coverage_and_sign_of_planted_effects(kind, seeds, family):
    found = {r["family"]: r for r in measure(Scenario("test", kind, seeds, PLANTED), 1000)}
    assert 0.94 < found[family]["coverage"] < 0.975
    assert found[family]["wrong_sign"] < 0.01
    assert found[family]["false_equivalent"] < 0.05


@pytest.mark.parametrize("collapse", [0.0, 0.02])
@pytest.mark.parametrize("kind, seeds", [("one-factor", 3), ("fractional", 2)])
def test_nothing_is_claimed_beyond_the_error_rate_where_nothing_is_planted(kind, seeds, collapse):
    unequal = {"kernel": {5: 2.0}, "se": {True: 0.5}}
    rows = measure(Scenario("test", kind, seeds, Truth(spread=unequal, collapse=collapse)), 3000)
    assert {row["family"] for row in rows} >= ({"swap"} if kind == "one-factor" else {"main", "interaction"})
    for found in rows:
        assert found["familywise"] < 0.06, found
        if found["family"] != "simple":
            assert found["false_positive"] < 0.06, found


def test_no_effect_is_said_only_where_the_interval_is_narrow():
    plan = simulated_plan("one-factor", 3)
    noisy = estimate(ConfirmRuns.of(plan, confirmed(plan, Truth(sd=1.0))))
    assert "equivalent" not in set(noisy["verdict"])
    assert set(estimate(ConfirmRuns.of(plan, confirmed(plan, Truth(sd=0.05))))["verdict"]) == {"equivalent"}


def test_an_effect_smaller_than_the_smallest_of_interest_is_called_that():
    plan = simulated_plan("one-factor", 5)
    found = row(
        estimate(ConfirmRuns.of(plan, confirmed(plan, Truth(main={"kernel": {5: 0.2}}, sd=0.02)))), "kernel: 5 - 3"
    )
    assert found["verdict"] == "effect" and "smaller than the smallest effect of interest, 0.5 points" in found["note"]


def test_the_table_and_the_calibration_are_one_estimator():
    plan = simulated_plan("fractional", 3)
    rows = confirmed(plan, PLANTED, seed=5)
    values = rows.pivot(index="design_row", columns="seed_block", values="test_accuracy").to_numpy(dtype=float)
    many = analyse(estimands(plan), np.stack([values, values[::-1]]), 0.05, 0.005)
    names = [item.name for item in many.questions.items]
    for _, found in estimate(ConfirmRuns.of(plan, rows)).iterrows():
        i = names.index(found["name"])
        assert many.shown[0, i] and many.estimates.estimate[0, i] == pytest.approx(found["estimate"])
        assert many.p_adjusted[0, i] == pytest.approx(found["p_adjusted"]) and many.verdict[0, i] == found["verdict"]


# -- what is missing or wrong ----------------------------------------------------------------------------------------


def test_an_interval_without_0_beside_inconclusive_is_explained():
    """In studies without any effect it happens to one comparison in thirty."""
    plan, happened = simulated_plan("one-factor", 3), 0
    for seed in range(40):
        effects = estimate(ConfirmRuns.of(plan, confirmed(plan, Truth(sd=0.74), seed)))
        for found in effects.itertuples():
            apart = found.verdict == "inconclusive" and (found.low > 0 or found.high < 0)
            assert ("only unadjusted; adjusted for 5 comparisons (familywise error 0.05): " in found.note) == apart
            if apart:
                low, high = map(
                    float, found.note.replace("−", "-").split("0.05): ")[1].split(" points")[0].split(" … ")
                )
                assert low <= 0 <= high and low < 100 * found.low and high > 100 * found.high
                happened += 1
    assert happened >= 3


def test_a_diverged_run_makes_n_smaller_and_is_named():
    plan = simulated_plan("one-factor", 3)
    rows = alter(confirmed(plan), "kernel=5", 1, status="diverged", test_accuracy=np.nan, epochs_run=4)
    found = row(estimate(ConfirmRuns.of(plan, rows)), "kernel: 5 - 3")
    assert (found["n"], found["n_reference"]) == (2, 3)
    assert "kernel=5 diverged (block 1)" in found["note"] and "1 of 6 runs" in found["note"]
    assert row(estimate(ConfirmRuns.of(plan, rows)), "se: on - off")["note"] == ""


def test_an_arm_without_any_run():
    plan = simulated_plan("one-factor", 3)
    rows = alter(confirmed(plan), "kernel=5", status="failed", test_accuracy=np.nan)
    effects = estimate(ConfirmRuns.of(plan, rows))
    found = row(effects, "kernel: 5 - 3")
    assert found["verdict"] == "not estimable" and "no run of kernel=5 gave a value" in found["note"]
    assert np.isnan(found["estimate"]) and (found["n"], found["n_reference"]) == (0, 3)
    assert (effects["verdict"] == "not estimable").sum() == 1


def test_a_fraction_without_one_of_its_arms_estimates_nothing_and_a_full_factorial_says_what_it_rests_on():
    for kind, verdicts in (("fractional", {"not estimable"}), ("factorial", {"effect", "equivalent", "inconclusive"})):
        plan = simulated_plan(kind, 2)
        rows = alter(confirmed(plan), "incumbent", status="out_of_memory", test_accuracy=np.nan)
        effects = estimate(ConfirmRuns.of(plan, rows))
        assert set(effects["verdict"]) <= verdicts
        named = effects["note"].str.contains("2 of .* runs give no value.*incumbent out of memory")
        assert named[~effects["name"].str.contains(" where ")].all()
        if kind == "factorial":
            assert effects["note"].str.contains("no three-factor interaction, for want of incumbent").all()
            assert row(effects, "se: on - off")["estimate"] == pytest.approx(0.008, abs=0.001)


@pytest.mark.parametrize("kind", ["one-factor", "fractional"])
def test_one_seed_gives_differences_but_no_claim(kind):
    plan = simulated_plan(kind, 1)
    effects = estimate(ConfirmRuns.of(plan, confirmed(plan)))
    assert set(effects["verdict"]) == {"not estimable"}
    assert effects["note"].str.contains("needs 2 seeds or more").all()
    assert effects["estimate"].notna().all() and effects[["low", "high", "p"]].isna().all(axis=None)


def test_rows_of_another_plan_are_not_used_and_said_so():
    plan, other = simulated_plan("one-factor", 3), simulated_plan("one-factor", 2)
    rows = confirmed(plan)
    both = pd.concat([rows, confirmed(other, seed=3)], ignore_index=True)
    effects = estimate(ConfirmRuns.of(plan, both))
    assert effects["note"].str.contains(f"12 confirm runs of another plan.*{other.plan_hash}").all()
    pd.testing.assert_frame_equal(
        effects.drop(columns="note"), estimate(ConfirmRuns.of(plan, rows)).drop(columns="note")
    )
    alone = estimate(ConfirmRuns.of(plan, confirmed(other)))
    assert (
        set(alone["verdict"]) == {"not estimable"} and alone["note"].str.contains("of this plan there are none").all()
    )


def test_no_verdict_before_every_planned_run_has_ended():
    plan = simulated_plan("one-factor", 4)
    rows = alter(confirmed(plan), "se=on", 3, status="running", test_accuracy=np.nan)
    effects = estimate(ConfirmRuns.of(plan, rows))
    assert set(effects["verdict"]) == {"inconclusive"}
    assert effects["note"].str.startswith("no verdict before every planned run has ended").all()
    assert row(effects, "optimizer: adamw - sgd")["p_adjusted"] < 0.05


def test_a_plan_whose_incumbent_cannot_be_run():
    plan = simulated_plan("one-factor", 3)
    content = plan.model_dump() | {"arms": plan.model_dump()["arms"][1:], "infeasible": ["incumbent: need a <= b"]}
    crippled = Plan(**content)
    effects = estimate(ConfirmRuns.of(crippled, confirmed(crippled)))
    assert set(effects["verdict"]) == {"not estimable"}
    assert effects["note"].str.contains("the incumbent itself cannot be run: incumbent: need a <= b").all()


def test_levels_that_cannot_be_run_or_were_left_out_are_rows():
    compared = {"blocks": [1, 4], "kernel": [5]}
    incumbent = {"blocks": 3, "kernel": 3}
    values = [incumbent, incumbent | {"blocks": 4}, incumbent | {"kernel": 5}]
    plan = a_plan("one-factor", incumbent, compared, values, infeasible=["blocks=1: need downsample <= blocks"],
                  not_compared={"head_width": "does not apply at the incumbent"})  # fmt: skip
    effects = estimate(ConfirmRuns.of(plan, confirmed(plan)))
    infeasible = row(effects, "blocks: 1 - 3")
    assert infeasible["verdict"] == "not estimable" and "need downsample <= blocks" in infeasible["note"]
    assert row(effects, "head_width")["note"] == "does not apply at the incumbent"
    assert row(effects, "blocks: 4 - 3")["verdict"] == "effect"


def test_a_cube_with_combinations_that_cannot_be_run_averages_where_both_levels_can():
    incumbent, compared = {"blocks": 3, "downsample": 1, "kernel": 3}, {"blocks": [1], "downsample": [2], "kernel": [5]}
    values = [{"blocks": b, "downsample": d, "kernel": k} for b in (3, 1) for d in (1, 2) for k in (3, 5) if d <= b]
    plan = a_plan("factorial", incumbent, compared, values, infeasible=["blocks=1, downsample=2: downsample <= blocks"])
    truth = Truth(main={"blocks": {1: -5.0}, "downsample": {2: 2.0}}, sd=0.1)
    effects = estimate(ConfirmRuns.of(plan, confirmed(plan, truth)))
    found = row(effects, "downsample: 2 - 1")
    assert found["estimand"] == "average over the other factors where blocks=3"
    assert found["estimate"] == pytest.approx(0.02, abs=0.002)
    assert row(effects, "blocks: 1 - 3")["estimand"] == "average over the other factors where downsample=1"
    broken = row(effects, "blocks × downsample: (1 - 3) × (2 - 1)")
    assert broken["verdict"] == "not estimable" and "downsample <= blocks" in broken["note"]
    assert row(effects, "kernel: 5 - 3")["estimand"] == "average over the other factors"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"design_row": 99}, "design_row=99.*allowed: 0 to 5"),
        ({"seed_block": 3}, "seed_block=3.*need a new plan"),
        ({"epochs_run": 7}, "complete after 7 of 15 epochs"),
        ({"epochs_allowed": 7}, "unequal budgets"),
        ({"test_accuracy": np.nan}, "complete, but without test_accuracy"),
        ({"seed_block": 1}, "two results for one run"),
        ({"data_hash": "other"}, "rows of other data"),
    ],
)
def test_rows_that_contradict_the_plan_are_refused(changes, message):
    plan = simulated_plan("one-factor", 3)
    rows = confirmed(plan).assign(data_hash=plan.data_hash)
    with pytest.raises(BadData, match=message):
        estimate(ConfirmRuns.of(plan, alter(rows, "kernel=5", 0, **changes)))


def test_a_table_without_a_needed_column_is_refused():
    plan = simulated_plan("one-factor", 3)
    with pytest.raises(BadData, match="no column 'seed_block'"):
        estimate(ConfirmRuns.of(plan, confirmed(plan).drop(columns="seed_block")))


def test_runs_that_agree_to_the_last_digit_leave_no_measure_of_spread():
    plan = simulated_plan("one-factor", 3)
    effects = estimate(ConfirmRuns.of(plan, confirmed(plan, Truth(main={"kernel": {5: 1.0}}, sd=0.0))))
    assert set(effects["verdict"]) == {"not estimable"} and effects["note"].str.contains("last digit").all()


def test_performance_of_each_arm():
    plan = simulated_plan("one-factor", 4)
    table = performance(
        ConfirmRuns.of(plan, alter(confirmed(plan), "kernel=5", 0, status="diverged", test_accuracy=np.nan))
    )
    assert table["arm"][0] == "incumbent" and table["n"].tolist() == [4, 4, 3, 4, 4, 4]
    assert (table["low"] < table["mean"]).all() and table["mean"][0] == pytest.approx(0.8, abs=0.005)


def test_a_plan_survives_json_with_its_hash_and_effects():
    plan = simulated_plan("fractional", 2)
    again = Plan(**json.loads(json.dumps(plan.content())))
    assert again.plan_hash == plan.plan_hash and again.incumbent == INCUMBENT
    rows = confirmed(plan)
    pd.testing.assert_frame_equal(estimate(ConfirmRuns.of(plan, rows)), estimate(ConfirmRuns.of(again, rows)))
