"""Fairness: unequal tuning, values at the edge of their range, unequal epochs, sizes and times are named."""

import numpy as np
import pandas as pd
import pytest

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.fairness import edges, fairness, matched, tuning
from resnetlab.calibration.error_rates import simulated_plan
from resnetlab.calibration.simulator import Truth, confirm_rows, confirm_values
from resnetlab.planning.plan import Plan, PlannedArm
from resnetlab.study import build_study
from resnetlab.study.space import Branch

STUDY = build_study(
    {
        "name": "s",
        "dataset": {"name": "glyphs"},
        "factors": {
            "blocks": {"levels": [3, 4]},
            "kernel": {"levels": [3, 5]},
            "se": {"levels": [False, True]},
            "optimizer": {"levels": ["sgd", "adamw"]},
            "lr": [
                {"when": {"optimizer": "sgd"}, "low": 0.01, "high": 1.0, "log": True},
                {"when": {"optimizer": "adamw"}, "low": 1e-4, "high": 1e-2, "log": True},
            ],
        },
    },
    "test",
)
BASE = {"blocks": 3, "kernel": 3, "se": False, "optimizer": "sgd", "lr": 0.1}


def explored(*rows):
    """Explore trials: (values over BASE, epochs run of 9, status)."""
    return pd.DataFrame(
        [
            BASE | values | {"trial_id": f"t{i}", "number": i, "phase": "explore", "status": status, "plan_hash": None,
                             "epochs_run": epochs, "epochs_allowed": 9, "val_accuracy": 0.5 + epochs / 100 + i / 1000}
            for i, (values, epochs, status) in enumerate(rows)
        ]
    )  # fmt: skip


def texts(findings, check, fair):
    return [found.text for found in findings if found.check == check and found.fair is fair]


def test_tuning_is_counted_by_level_and_unequal_shares_are_named():
    trials = explored(({}, 9, "complete"), ({}, 9, "complete"), ({"kernel": 5}, 1, "stopped"),
                      ({"se": True}, 9, "complete"), ({"kernel": 5}, 3, "stopped"))  # fmt: skip
    table = tuning(STUDY, trials).set_index(["factor", "level"])
    assert table.loc[("kernel", "3"), ["trials", "full", "epochs"]].tolist() == [3, 3, 27]
    assert table.loc[("kernel", "5"), ["trials", "full", "epochs"]].tolist() == [2, 0, 4]
    assert table.loc[("kernel", "5"), "share"] == pytest.approx(4 / 31)
    assert table.loc[("blocks", "4"), ["trials", "epochs"]].tolist() == [0, 0]
    findings = fairness(STUDY, None, trials)
    assert any("kernel: 3: 27 epochs in 3 trials; 5: 4 epochs in 2 trials" in text
               for text in texts(findings, "tuning budget", False))  # fmt: skip
    even = explored(({}, 9, "complete"), ({"kernel": 5}, 9, "complete"))
    assert any(text.startswith("kernel: ") for text in texts(fairness(STUDY, None, even), "tuning budget", True))


def test_confirm_runs_are_not_tuning():
    trials = explored(({}, 9, "complete"))
    more = pd.concat([trials, trials.assign(phase="confirm")])
    assert tuning(STUDY, more).equals(tuning(STUDY, trials))


@pytest.mark.parametrize("lr, at_edge, end", [(0.0101, True, "lower"), (0.1, False, ""), (0.99, True, "upper")])
def test_a_tuned_value_at_the_edge_of_its_range_is_named(lr, at_edge, end):
    trials = explored(({"lr": lr}, 9, "complete"), ({"lr": 0.5}, 3, "stopped"))
    row = edges(STUDY, None, trials).iloc[0]
    assert row["at_edge"] == at_edge and row["factor"] == "lr" and row["value"] == lr
    named = texts(fairness(STUDY, None, trials), "edge of the range", False)
    assert len(named) == at_edge
    assert not at_edge or (f"at the {end} end of 0.01 … 1" in named[0] and "best explore trial" in named[0])


def test_each_arm_is_held_to_the_range_of_its_own_branch():
    plan = a_plan("one-factor", [{}, {"optimizer": "adamw", "lr": 1.02e-4}, {"se": True}])
    table = edges(STUDY, plan, explored(({}, 9, "complete"))).set_index("arm")
    assert table.loc["optimizer=adamw", ["low", "high", "at_edge"]].tolist() == [1e-4, 1e-2, True]
    assert not table.loc["incumbent", "at_edge"] and "se=on" not in table.index  # the incumbent's value again


def test_the_position_in_a_range():
    assert Branch(low=0.01, high=1.0, log=True).position(0.1) == pytest.approx(0.5)
    assert Branch(low=0, high=10).position(2) == pytest.approx(0.2)
    assert Branch(levels=("a", "b", "c")).position("c") == 1.0


# -- arms alike --------------------------------------------------------------------------------------------------------


def a_plan(kind, values, seeds=3):
    arms = []
    for value in values:
        changed = {name: level for name, level in value.items() if name != "lr"}
        name = ", ".join(f"{k}={'on' if v is True else v}" for k, v in changed.items()) or "incumbent"
        arms.append(PlannedArm(name=name, values=BASE | value, changed=changed))
    compared = {name: sorted({arm.changed[name] for arm in arms if name in arm.changed}) for name in
                ("blocks", "kernel", "se", "optimizer")}  # fmt: skip
    return Plan(
        study="s", study_hash="s", data_hash="d", code="c", incumbent=BASE, chosen_trial="t", alpha=0.05, seeds=seeds,
        chosen_val_accuracy=0.8, design=kind, compared={k: v for k, v in compared.items() if v}, arms=arms, delta=0.5,
    )  # fmt: skip


SIZE = {"kernel": 2.0, "blocks": 2.0, "se": 1.02}


def confirmed(plan, truth=None, size=SIZE, **columns):
    """Confirm rows with parameters that kernel 5 doubles, blocks 4 doubles, squeeze-excitation adds 2% to."""
    truth = truth or Truth(main={"kernel": {5: 1.0}, "blocks": {4: 3.0}}, sd=0.05)
    values = confirm_values(truth, [arm.values for arm in plan.arms], plan.seeds, 1, np.random.default_rng(0))
    rows = pd.DataFrame(confirm_rows(plan, values[0], epochs=9))
    of_arm = [1000.0 * np.prod([size.get(name, 1.0) for name in arm.changed]) for arm in plan.arms]
    rows["parameters"] = [of_arm[row] for row in rows["design_row"]]
    rows["train_seconds"] = [of_arm[row] / 100 * (1 + block / 50) for row, block in
                             zip(rows["design_row"], rows["seed_block"], strict=True)]  # fmt: skip
    return rows.assign(device="cpu", threads=1, **columns)


CROSSED = [{k: v for k, v in (("blocks", b), ("kernel", k_), ("se", s)) if v != BASE[k]}
           for b in (3, 4) for k_ in (3, 5) for s in (False, True)]  # fmt: skip


def test_levels_of_other_size_are_compared_between_arms_of_like_size_where_there_are_any():
    plan = a_plan("factorial", CROSSED)
    table = matched(ConfirmRuns.of(plan, confirmed(plan)), confirmed(plan), "parameters").set_index("factor")
    kernel = table.loc["kernel"]
    assert kernel["ratio"] == pytest.approx(2.0) and kernel["others"] == "blocks" and kernel["pairs"] == 2
    assert 100 * kernel["estimate"] == pytest.approx(1.0 - 3.0, abs=0.1)  # a bigger kernel against more blocks
    assert kernel["low"] < kernel["estimate"] < kernel["high"] and (kernel["n"], kernel["n_reference"]) == (6, 6)
    alike = table.loc["se"]
    assert alike["ratio"] == pytest.approx(1.02) and alike["others"] == "" and alike["pairs"] == 4
    findings = fairness(STUDY, plan, pd.concat([explored(({}, 9, "complete")), confirmed(plan)]))
    assert "which also differ in blocks: -2.0" in texts(findings, "equal parameters", False)[1]
    assert texts(findings, "equal parameters", True) == ["se on instead of off: 1.02 times the parameters"]


def test_one_factor_at_a_time_has_no_arms_of_like_size_and_says_so():
    plan = a_plan("one-factor", [{}, {"blocks": 4}, {"kernel": 5}, {"se": True}])
    rows = confirmed(plan, size=SIZE | {"blocks": 4.0})
    table = matched(ConfirmRuns.of(plan, rows), rows, "parameters").set_index("factor")
    assert table["ratio"].to_dict() == pytest.approx({"blocks": 4.0, "kernel": 2.0, "se": 1.02})
    assert np.isnan(table.loc["kernel", "estimate"]) and "no two arms within 10%" in table.loc["kernel", "note"]


def test_times_are_compared_on_one_kind_of_machine_only():
    plan = a_plan("factorial", CROSSED)
    rows = confirmed(plan)
    assert matched(ConfirmRuns.of(plan, rows), rows, "train_seconds")["ratio"].tolist() == pytest.approx(
        [2.0, 2.0, 1.02]
    )
    rows.loc[rows["seed_block"] == 1, "device"] = "H200"
    table = matched(ConfirmRuns.of(plan, rows), rows, "train_seconds")
    assert table["estimate"].isna().all() and table["note"].str.contains("device H200 and cpu").all()
    findings = fairness(STUDY, plan, pd.concat([explored(({}, 9, "complete")), rows]))
    assert len(texts(findings, "equal training time", None)) == 3


def test_named_arms_are_compared_with_another_of_like_size_too():
    named = [("base", "a"), ("big", "a"), ("large", "a"), ("huge", "a"), ("other", "b")]
    plan = a_plan("arms", [{}] * 5).model_copy(
        update={"compared": {}, "arms": [PlannedArm(name=name, values=BASE, task=task) for name, task in named]}
    )
    rows = confirmed(plan, Truth(sd=0.05))
    rows["parameters"] = rows["arm"].map({"base": 100, "big": 200, "large": 210, "huge": 400, "other": 205})
    rows.loc[rows["arm"] == "big", "test_accuracy"] += 0.02
    table = matched(ConfirmRuns.of(plan, rows), rows, "parameters").set_index("level")
    assert table["ratio"].to_dict() == pytest.approx({"big": 2.0, "large": 2.1, "huge": 4.0})
    assert table.loc["big", "others"] == "large" and 100 * table.loc["big", "estimate"] == pytest.approx(2.0, abs=0.3)
    assert table.loc["huge", "note"] == "no third arm within 10% of huge"
    said = texts(fairness(STUDY, plan, rows), "equal parameters", False)
    assert said[0].startswith(
        "big instead of base: 2.00 times the parameters; against large, which is alike in that: +"
    )
    assert "points, n = 3 against 3, unadjusted" in said[0]


def test_arms_at_equal_epochs_and_arms_that_are_not():
    plan = simulated_plan("one-factor", 3)
    rows = confirmed(plan).assign(epochs_run=9)
    trials = pd.concat([explored(({}, 9, "complete")), rows])
    assert texts(fairness(STUDY, plan, trials), "equal epochs", True) == [
        "18 runs of 6 of 6 arms, all compared at epoch 9"
    ]
    rows.loc[rows["design_row"] == 2, ["status", "test_accuracy", "epochs_run"]] = ["diverged", np.nan, 4]
    trials = pd.concat([explored(({}, 9, "complete")), rows])
    (text,) = texts(fairness(STUDY, plan, trials), "equal epochs", True)
    assert text == "15 runs of 5 of 6 arms, all compared at epoch 9; 3 runs that ended early are not compared"


def test_nothing_is_said_to_be_fair_before_anything_ran():
    plan = a_plan("factorial", CROSSED)
    trials = pd.concat([explored(({}, 9, "complete")), confirmed(plan).iloc[:0]])
    findings = fairness(STUDY, plan, trials)
    assert [found.fair for found in findings if found.check.startswith("equal")] == [None] * 7
    assert [found.fair for found in findings] == sorted(
        (found.fair for found in findings), key=lambda fair: {False: 0, None: 1, True: 2}[fair]
    )
