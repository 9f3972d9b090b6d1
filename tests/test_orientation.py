"""The same question twice: comparisons are oriented by the study file, whichever incumbent the search finds."""

import numpy as np
import pandas as pd
import pytest

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.effects_table import estimate
from resnetlab.analysis.confirm.estimands import estimands
from resnetlab.calibration.simulator import confirm_rows
from resnetlab.errors import BadRequest
from resnetlab.planning.making import make_plan, sketch
from resnetlab.planning.plan import Plan
from resnetlab.study import build_study

BASELINE = {"blocks": 2, "kernel": 3, "downsample": 1, "se": False, "optimizer": "sgd", "lr": 0.05}
FACTORS = {
    "blocks": {"levels": [1, 2, 3]},
    "kernel": {"levels": [3, 5]},
    "optimizer": {"levels": ["sgd", "adamw"]},
}


def study(design="one-factor", hypotheses=(), factors=FACTORS, **confirm):
    return build_study(
        {"name": "s", "dataset": {"name": "glyphs"}, "baseline": BASELINE, "factors": factors,
         "hypotheses": list(hypotheses), "confirm": {"design": design, **confirm}},
        "test",
    )  # fmt: skip


def plan_of(study, **incumbent) -> Plan:
    active = study.space.active(study.baseline_values() | incumbent)
    row = dict.fromkeys(study.space.names) | active
    row |= {"trial_id": "t0", "number": 0, "phase": "explore", "status": "complete", "val_accuracy": 0.8,
            "epochs_run": 9}  # fmt: skip
    return make_plan(study, [row], "data", "code")


INCUMBENTS = ({}, {"kernel": 5}, {"blocks": 3, "optimizer": "adamw"}, {"blocks": 1, "kernel": 5, "optimizer": "adamw"})


@pytest.mark.parametrize("design", ["one-factor", "factorial", "d-optimal"])
def test_names_and_signs_do_not_depend_on_the_incumbent(design):
    """The same true means give the same answers, whichever arm is the centre; only d-optimal arms may differ."""
    points = {("blocks", 1): -3.0, ("blocks", 3): 1.0, ("kernel", 5): 2.0, ("optimizer", "adamw"): -1.5}
    found = []
    for incumbent in INCUMBENTS:
        plan = plan_of(study(design), **incumbent)
        mean = [80 + sum(points.get(item, 0.0) for item in arm.values.items()) for arm in plan.arms]
        luck = np.random.default_rng(0).normal(0, 0.01, (len(plan.arms), plan.seeds))
        rows = pd.DataFrame(confirm_rows(plan, (np.array(mean)[:, None] + luck) / 100))
        table = estimate(ConfirmRuns.of(plan, rows)).set_index("name")["estimate"]
        found.append(table)
        assert set(plan.contrasts) == set(table.index)
    for table in found:
        assert list(table.index) == list(found[0].index)
        assert table.to_numpy() == pytest.approx(found[0].to_numpy(), abs=5e-4)
    single = found[0][["blocks: 1 - 2", "blocks: 3 - 2", "kernel: 5 - 3", "optimizer: adamw - sgd"]]
    assert 100 * single.to_numpy() == pytest.approx([-3, 1, 2, -1.5], abs=0.05)


def test_hypotheses_are_oriented_as_they_are_written():
    lines = ["kernel 3 > kernel 5", "optimizer sgd within 1 point of optimizer adamw", "blocks 2 > blocks 3"]
    names = [item.name for item in estimands(plan_of(study(hypotheses=lines), kernel=5)).items]
    assert names == ["blocks: 1 - 2", "blocks: 2 - 3", "kernel: 3 - 5", "optimizer: sgd - adamw"]


def test_a_fraction_without_the_baselines_level_takes_the_first_of_the_file():
    lines = ["blocks 3 > blocks 1"]
    factors = {**FACTORS, "se": {"levels": [False, True]}}
    for incumbent in ({"blocks": 3}, {"blocks": 1}):
        plan = plan_of(study("fractional", factors=factors), **incumbent)
        other = plan.compared["blocks"][0]
        first, second = sorted([incumbent["blocks"], other])
        reference = 2 if other == 2 else first
        level = second if reference == first else incumbent["blocks"]
        assert plan.contrasts[0] == f"blocks: {level} - {reference}"
        declared = plan_of(study("fractional", lines, factors), **incumbent)
        assert declared.contrasts[0] == "blocks: 3 - 1"


def test_interactions_are_differences_of_oriented_differences():
    """At any centre: what kernel 5 adds with adamw less what it adds with sgd."""
    factors = {"kernel": FACTORS["kernel"], "optimizer": FACTORS["optimizer"]}
    for incumbent in ({}, {"kernel": 5}, {"optimizer": "adamw"}, {"kernel": 5, "optimizer": "adamw"}):
        plan = plan_of(study("factorial", factors=factors), **incumbent)
        asked = estimands(plan)
        weights = asked.weights(np.ones(4, dtype=bool))[asked.of_kind("interaction")][0]
        sign = [(1 if a.values["kernel"] == 5 else -1) * (1 if a.values["optimizer"] == "adamw" else -1)
                for a in plan.arms]  # fmt: skip
        assert weights == pytest.approx(sign)
        assert "kernel × optimizer: (5 - 3) × (adamw - sgd)" in plan.contrasts


def test_around_the_baseline_the_design_does_not_depend_on_the_search():
    made = [plan_of(study("fractional", around="baseline"), **incumbent) for incumbent in INCUMBENTS]
    assert len({plan.plan_hash for plan in made}) == 1 and len({plan.seeds_from for plan in made}) == 1
    first = made[0]
    assert first.arms[0].name == "baseline" and first.incumbent == study().baseline_values()
    assert first.around == "baseline" and first.chosen_trial == ""
    one = plan_of(study(around="baseline"), kernel=5)
    assert {item.estimand for item in estimands(one).items} == {"change at the baseline"}


def test_around_the_baseline_needs_no_explored_trial_at_the_full_budget():
    assert make_plan(study(around="baseline"), [], "data", "code").arms[0].name == "baseline"


def test_what_is_not_asked_for_changes_neither_plans_that_are_older_nor_seeds():
    plan = sketch(study())
    older = Plan(**{k: v for k, v in plan.content().items() if k != "oriented"})
    assert older.seeds_from == plan.seeds_from and older.asked == plan.asked and "around" not in plan.asked
    assert plan_of(study(), kernel=5).oriented is not None
    assert plan_of(study("factorial"), kernel=5).seeds_from != plan.seeds_from


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"confirm": {"around": "middle"}}, "confirm.around"),
        ({"confirm": {"around": "baseline", "design": "none"}}, "confirm.around: baseline needs a design"),
        ({"factors": {}, "arms": {"a": {}, "b": {"kernel": 5}}, "confirm": {"design": "arms", "around": "baseline"}},
         "arms are held to the first"),
    ],
)  # fmt: skip
def test_bad_input_names_the_key(content, message):
    whole = {"name": "s", "dataset": {"name": "glyphs"}, "baseline": BASELINE, "factors": FACTORS}
    with pytest.raises(BadRequest, match=message):
        build_study(whole | content, "test")
