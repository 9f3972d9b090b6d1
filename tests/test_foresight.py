"""A dry run shows noise floor and power, infeasible combinations, and hypotheses that cannot be tested."""

import numpy as np
import pandas as pd
import pytest
from made_results import default_study, make_results

from resnetlab.analysis.confirm.fairness import fairness
from resnetlab.analysis.confirm.power import main_effect
from resnetlab.analysis.confirm.power_preview import PLAUSIBLE, foresight, replicates
from resnetlab.analysis.results import Results
from resnetlab.calibration.error_rates import simulated_plan
from resnetlab.calibration.simulator import Truth, confirm_rows, confirm_values
from resnetlab.driver.dry_run import confirm_stage
from resnetlab.planning.making import sketch
from resnetlab.study import build_study

FACTORS = {"blocks": {"levels": [2, 3]}, "kernel": {"levels": [3, 5]}, "se": {"levels": [False, True]}}


def study(factors=FACTORS, **more):
    content = {
        "name": "s",
        "dataset": {"name": "glyphs"},
        "factors": factors,
        "baseline": {"blocks": 3, "downsample": 2},
        "confirm": {"design": "fractional", "seeds": 2},
    }
    return build_study(content | more, "test")


def test_without_replicates_the_table_is_for_plausible_spreads():
    lines = list(foresight(study()))
    assert lines[0].startswith("noise floor: not measured yet; ")
    mains = [line.split() for line in lines if "average over the other factors" in line]
    assert [float(row[0]) for row in mains] == list(PLAUSIBLE)
    expected = main_effect(8).detectable(0.25, 2, alpha=0.05 / 3)
    assert float(mains[0][7]) == pytest.approx(expected, abs=0.005)
    needed = main_effect(8).seeds_needed(0.5, 0.5, alpha=0.05 / 3)
    assert mains[1][8:12] == [str(needed), "seeds,", f"{needed * 8 * 9}", "epochs"]
    assert any("--extend adds seeds as a second plan" in line for line in lines)


def test_one_seed_finds_nothing_and_no_design_promises_nothing():
    lines = list(foresight(study(confirm={"design": "one-factor", "seeds": 1})))
    assert all("no interval" in line for line in lines if "change at" in line) and "1 seed finds" in "".join(lines)
    assert list(foresight(study(confirm={"design": "none"}))) == []


def test_the_spread_of_replicates_is_measured_across_plans_without_what_collapsed():
    rng, rows = np.random.default_rng(0), []
    for plan, base in ((simulated_plan("one-factor", 40), 80.0), (simulated_plan("fractional", 40), 60.0)):
        values = confirm_values(Truth(base=base, main={"kernel": {5: 5.0}}, sd=0.6), [a.values for a in plan.arms],
                                plan.seeds, 1, rng)[0]  # fmt: skip
        values[0, :3], values[1, 0] = 0.1, np.nan
        rows += confirm_rows(plan, values)
    trials = pd.DataFrame(rows)
    floor = replicates(trials)
    assert floor.arms == 22 and floor.runs == 22 * 40 - 2 * 4 and floor.sd == pytest.approx(0.006, rel=0.07)
    assert not replicates(trials[trials["seed_block"] == 1]).known and not replicates(trials.iloc[:0]).known


def test_a_folder_with_replicates_gives_its_own_noise_floor(tmp_path):
    made = default_study()
    make_results(tmp_path / "made", made, seed_sd=0.01)
    results = Results.open(tmp_path / "made")
    lines = list(foresight(made, results))
    floor = replicates(results.trials)
    assert lines[0].startswith(f"noise floor: seeds alone spread by {100 * floor.sd:.2f} points ")
    assert 0.5 < 100 * floor.sd < 1.6 and f"{floor.runs} runs of {floor.arms} arms" in lines[0]
    assert any(line.split()[0] == f"{100 * floor.sd:.2f}" for line in lines if "change at" in line)
    make_results(tmp_path / "explored", made, confirm=False)
    assert "explored has no arm with two runs" in next(foresight(made, Results.open(tmp_path / "explored")))


def test_hypotheses_are_listed_with_those_that_the_plan_cannot_hold():
    factors = FACTORS | {"blocks": {"levels": [2, 3, 4]}}
    lines = list(foresight(study(factors, hypotheses=["kernel 5 > kernel 3", "blocks 4 > blocks 2"])))
    assert lines[-2] == "hypothesis: kernel 5 > kernel 3"
    assert lines[-1].startswith("hypothesis: blocks 4 > blocks 2: not compared: blocks=4: a two-level fraction")


def test_the_dry_run_names_what_cannot_be_run():
    deep = FACTORS | {"downsample": {"levels": [1, 2, 3]}}
    lines = list(confirm_stage(study(deep, confirm={"design": "factorial"})))
    assert lines[0] == "confirm: factorial, 20 arms × 3 seeds = 60 runs of 9 epochs: 540 epochs"
    assert len(lines) == 5 and all(line.startswith("  cannot be run: ") for line in lines[1:])
    assert all("need downsample <= blocks" in line for line in lines[1:])
    shallow = FACTORS | {"blocks": {"levels": [1, 3]}, "downsample": {"levels": [1, 2]}}
    lines = list(confirm_stage(study(shallow)))
    assert lines[0].startswith("confirm: one-factor, 4 arms × 2 seeds") and "cannot be run: blocks=1" in lines[1]
    assert lines[2].startswith("  not compared: interactions: the fraction cannot be run whole")
    (line,) = confirm_stage(study(confirm={"design": "d-optimal"}))
    assert line.startswith("confirm: d-optimal, D-efficiency 100%, 8 arms × 3 seeds")
    assert list(confirm_stage(study(confirm={"design": "none"}))) == ["confirm: none, so nothing will be claimed"]


def test_a_study_of_named_arms_has_its_power_and_fairness_said_too():
    arms = {"plain": {"blocks": 2}, "deep": {"blocks": 3}, "late": {"blocks": 3, "epochs": 3}}
    named = study({}, arms=arms, confirm={"design": "arms", "seeds": 3})
    lines = list(foresight(named))
    assert sum("difference between two arms" in line for line in lines) == len(PLAUSIBLE)
    assert next(confirm_stage(named)).startswith("confirm: arms, 3 arms × 3 seeds = 9 runs of 3 or 9 epochs: 63 epochs")
    plan = sketch(named)
    rows = pd.DataFrame(confirm_rows(plan, np.full((3, 3), 0.8), epochs=9))
    late = rows["arm"] == "late"
    rows.loc[late, ["epochs_run", "epochs_allowed"]] = 3
    (finding,) = [one for one in fairness(named, plan, rows) if one.check == "equal epochs"]
    assert finding.fair is False and finding.text == "runs of 3 and 9 epochs are mixed"
