"""D-optimal designs reach known optima, keep the incumbent, avoid infeasible runs, and are analysed without bias."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.contrasts import CellMeans
from resnetlab.analysis.confirm.effects import analyse, lack_of_fit
from resnetlab.analysis.confirm.effects_table import estimate
from resnetlab.analysis.confirm.estimands import ADDITIVE, estimands
from resnetlab.analysis.confirm.power import outlook
from resnetlab.calibration.simulator import Truth, confirm_rows, confirm_values
from resnetlab.errors import BadRequest
from resnetlab.planning import designs
from resnetlab.planning.d_optimal import choose, good_size, main_effects
from resnetlab.planning.making import make_plan, sketch
from resnetlab.study import build_study


def full(*sizes):
    levels = [tuple(range(size)) for size in sizes]
    return main_effects(levels, list(itertools.product(*levels)))


@pytest.mark.parametrize(
    "sizes, arms",
    [((2, 2, 2), 4), ((2,) * 5, 8), ((3, 3, 3), 9), ((3, 3, 3, 3), 9), ((4, 4, 4), 16), ((2, 3, 3, 3), 18)],
)
def test_orthogonal_arrays_are_found_where_there_are_any(sizes, arms):
    """Taguchi's L4, L8, L9, L16 and L18 are the best there is of their sizes: efficiency 1 of the full factorial."""
    model = full(*sizes)
    rows, efficiency = choose(model, arms, seed=0)
    assert len(set(rows)) == arms and 0 in rows
    assert efficiency == pytest.approx(1.0, abs=1e-6)
    information = model[rows].T @ model[rows] / arms
    assert information == pytest.approx(model.T @ model / len(model))


@pytest.mark.parametrize("sizes, arms", [((2, 2, 2), 5), ((3, 2), 4), ((3, 2), 5), ((2, 2, 3), 6)])
def test_small_designs_are_as_good_as_the_best_of_all_subsets(sizes, arms):
    model = full(*sizes)

    def information(rows):
        return np.linalg.det(model[rows].T @ model[rows])

    best = max(information([0, *rest]) for rest in itertools.combinations(range(1, len(model)), arms - 1))
    rows, efficiency = choose(model, arms, seed=1)
    assert information(rows) == pytest.approx(best)
    exact = (information(rows) / arms ** model.shape[1]) / (np.linalg.det(model.T @ model / len(model)))
    assert efficiency == pytest.approx(exact ** (1 / model.shape[1]))


def test_all_combinations_are_taken_where_no_more_are_asked_for():
    rows, efficiency = choose(full(2, 3), 99, seed=0)
    assert rows == list(range(6)) and efficiency == pytest.approx(1.0)


@settings(max_examples=20)
@given(st.lists(st.integers(2, 4), min_size=1, max_size=3), st.integers(0, 2**32), st.data())
def test_a_design_estimates_every_main_effect(sizes, seed, data):
    model = full(*sizes)
    arms = data.draw(st.integers(model.shape[1], len(model)))
    keep = data.draw(st.integers(0, len(model) - 1))
    rows, efficiency = choose(model, arms, seed, keep)
    assert keep in rows and len(set(rows)) == arms
    assert np.linalg.matrix_rank(model[rows]) == model.shape[1] and 0 < efficiency <= 1 + 1e-9
    assert choose(model, arms, seed, keep) == (rows, efficiency)


def test_too_few_arms_and_levels_that_cannot_be_told_apart_are_refused():
    with pytest.raises(ValueError, match="7 coefficients need as many arms, and there are 6"):
        choose(full(3, 3, 3), 6, seed=0)
    with pytest.raises(ValueError, match="do not tell all levels apart"):
        choose(full(2, 2)[[0, 3, 0, 3]], 3, seed=0)


def test_the_default_size_is_efficient_and_leaves_arms_to_check_the_model_by():
    assert good_size(full(3, 3, 3), 0) == 9 and good_size(full(4, 4, 4), 0) == 16
    for sizes in [(3, 2), (3, 2, 2, 3), (2,) * 5]:
        model = full(*sizes)
        assert min(model.shape[1] + 1, len(model)) <= good_size(model, 0) <= 2 * model.shape[1]


# -- as a plan ---------------------------------------------------------------------------------------------------------

FACTORS = {
    "blocks": {"levels": [1, 2, 3]},
    "kernel": {"levels": [3, 5, 7]},
    "width": {"levels": [8, 16, 32]},
    "se": {"levels": [False, True]},
}


def study(factors=FACTORS, **confirm):
    return build_study(
        {"name": "s", "dataset": {"name": "glyphs"}, "factors": factors,
         "baseline": {"blocks": 2, "downsample": 1, "width": 8}, "confirm": {"design": "d-optimal", **confirm}},
        "test",
    )  # fmt: skip


def test_a_plan_of_three_level_factors():
    plan = sketch(study(seeds=2))
    assert plan.design == "d-optimal" and len(plan.arms) == len({arm.name for arm in plan.arms}) <= 16
    assert plan.arms[0].name == "incumbent" and 0.9 < plan.efficiency <= 1
    assert plan.compared == {"blocks": [1, 3], "kernel": [5, 7], "width": [16, 32], "se": [True]}
    assert len(sketch(study(arms=20)).arms) == 20
    assert sketch(study(seeds=2)) == plan


def test_combinations_that_cannot_be_run_are_left_out_and_named():
    plan = sketch(study(FACTORS | {"downsample": {"levels": [1, 2, 3]}}))
    assert plan.design == "d-optimal"
    assert all(arm.values["downsample"] <= arm.values["blocks"] for arm in plan.arms)
    assert any("need downsample <= blocks" in line and "more" in line for line in plan.infeasible)


def test_too_few_arms_for_the_main_effects_give_way_to_one_factor_at_a_time():
    plan = sketch(study(arms=4))
    assert plan.design == "one-factor" and "8 coefficients need as many arms" in plan.not_compared["d-optimal"]


def test_the_number_of_arms_belongs_to_d_optimal_designs_only():
    with pytest.raises(BadRequest, match=r"confirm.arms: only design: d-optimal takes it, got design: fractional"):
        study(design="fractional", arms=8)


def confirmed(plan, truth, seed=0):
    values = confirm_values(truth, [arm.values for arm in plan.arms], plan.seeds, 1, np.random.default_rng(seed))
    return pd.DataFrame(confirm_rows(plan, values[0]))


MAIN = Truth(main={"blocks": {1: -3.0, 3: 1.0}, "kernel": {5: 0.8}, "se": {True: 0.6}}, sd=0.1)


def test_planted_main_effects_are_found_at_their_size():
    plan = sketch(study(seeds=3)).model_copy(update={"chosen_val_accuracy": 0.8})
    effects = estimate(ConfirmRuns.of(plan, confirmed(plan, MAIN))).set_index("name")
    assert set(effects["estimand"]) == {ADDITIVE} and "interactions taken as zero" in effects["method"].iloc[0]
    expected = {"blocks: 1 - 2": -3.0, "blocks: 3 - 2": 1.0, "kernel: 5 - 3": 0.8, "kernel: 7 - 3": 0.0,
                "se: on - off": 0.6, "width: 16 - 8": 0.0, "width: 32 - 8": 0.0}  # fmt: skip
    assert effects["estimate"].mul(100).to_dict() == pytest.approx(expected, abs=0.2)
    assert {name for name, row in effects.iterrows() if row["verdict"] == "effect"} == {
        name for name, points in expected.items() if points
    }
    with_level = sum(arm.values["kernel"] == 5 for arm in plan.arms) * 3
    assert effects.loc["kernel: 5 - 3", "n"] == with_level


def test_coverage_of_main_effects_by_least_squares():
    plan = sketch(study(seeds=2))
    asked = estimands(plan)
    truth = Truth(main=MAIN.main, sd=0.74, spread={"kernel": {5: 2.0}, "se": {True: 0.5}})
    values = confirm_values(truth, [arm.values for arm in plan.arms], 2, 3000, np.random.default_rng(0))
    found = analyse(asked, values, 0.05, 0.005)
    right = asked.weights(np.ones(len(plan.arms), dtype=bool)) @ [truth.mean(arm.values) / 100 for arm in plan.arms]
    assert right * 100 == pytest.approx([-3.0, 1.0, 0.8, 0.0, 0.0, 0.0, 0.6])
    low, high = found.estimates.interval()
    covered = ((low <= right) & (right <= high)).mean(0)
    assert (covered > 0.935).all() and (covered < 0.975).all()


def test_an_interaction_is_not_mistaken_for_main_effects():
    plan = sketch(study(seeds=3, arms=14)).model_copy(update={"chosen_val_accuracy": 0.8})
    meeting = Truth(main=MAIN.main, together=(({"blocks": 3, "kernel": 5}, -3.0),), sd=0.1)
    effects = estimate(ConfirmRuns.of(plan, confirmed(plan, meeting)))
    assert set(effects["verdict"]) == {"inconclusive"}
    assert effects["note"].str.contains("differ by more than main effects").all()


def test_lack_of_fit_is_found_at_its_error_rate_and_where_it_is():
    plan = sketch(study(seeds=2, arms=14))
    asked = estimands(plan)
    rng = np.random.default_rng(0)
    for truth, low, high in (
        (MAIN, 0.03, 0.075),
        (Truth(together=(({"blocks": 3, "kernel": 5}, -3.0),), sd=0.3), 0.9, 1),
    ):
        values = confirm_values(truth, [arm.values for arm in plan.arms], 2, 600, rng)
        share = np.mean([lack_of_fit(asked, CellMeans.of(one)) <= 0.05 for one in values])
        assert low <= share <= high
    assert np.isnan(lack_of_fit(estimands(sketch(study(design="factorial"))), CellMeans.of(values[0])))


def test_the_power_of_a_d_optimal_plan_is_foretold():
    table = outlook(sketch(study(seeds=2)), sd=0.0075, epochs=9)
    assert table["estimand"].tolist() == [ADDITIVE] * 2 and (table["detectable"] > 0).all()


def test_companions_come_from_the_search():
    factors = FACTORS | {
        "optimizer": {"levels": ["sgd", "adamw"]},
        "lr": [{"when": {"optimizer": "sgd"}, "low": 0.01, "high": 1.0, "log": True},
               {"when": {"optimizer": "adamw"}, "low": 1e-4, "high": 1e-2, "log": True}],
    }  # fmt: skip
    one = study(factors)
    tried = [{"lr": 0.3}, {"optimizer": "adamw", "lr": 0.002}]
    rows = [
        dict.fromkeys(one.space.names) | one.baseline_values() | values
        | {"trial_id": f"t{i}", "number": i, "phase": "explore", "status": "complete", "epochs_run": 9,
           "val_accuracy": 0.8 - i / 100}
        for i, values in enumerate(tried)
    ]  # fmt: skip
    plan = make_plan(one, rows, "data", "code")
    assert {arm.values["lr"] for arm in plan.arms if arm.values["optimizer"] == "adamw"} == {0.002}
    assert {arm.values["lr"] for arm in plan.arms if arm.values["optimizer"] == "sgd"} == {0.3}


def test_candidates_are_all_combinations_or_a_random_part():
    incumbent = {"a": 0, "b": 0, "c": 0}
    arms = list(designs.candidates(incumbent, {"a": [1, 2], "b": [1], "c": [1, 2, 3]}, seed=0))
    assert len({arm.name for arm in arms}) == len(arms) == 24 and arms[0].name == "incumbent"
    many = designs.candidates(dict.fromkeys("abcdefgh", 0), dict.fromkeys("abcdefgh", range(1, 10)), seed=0)
    assert len({arm.name for arm in itertools.islice(many, 500)}) == 500
