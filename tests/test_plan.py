"""The plan lays out only what can be run and estimated, and names what it leaves out."""

import pytest

from resnetlab import provenance
from resnetlab.errors import TrialsFailed
from resnetlab.planning.making import make_plan, sketch
from resnetlab.planning.plan import Plan
from resnetlab.study import build_study
from resnetlab.study.seeding import stream

FACTORS = {
    "blocks": {"levels": [1, 2, 3]},
    "kernel": {"levels": [3, 5]},
    "se": {"levels": [True, False]},
}
BASELINE = {"blocks": 2, "kernel": 3, "downsample": 1, "se": False, "optimizer": "sgd", "lr": 0.05}


def study(design="one-factor", factors=FACTORS, baseline=BASELINE, **confirm):
    return build_study(
        {"name": "s", "dataset": {"name": "glyphs"}, "baseline": baseline, "factors": factors,
         "confirm": {"design": design, **confirm}},
        "test",
    )  # fmt: skip


def trials(study, *found):
    """Explore rows: (values over the baseline, status, validation accuracy)."""
    rows = []
    for number, (values, status, accuracy) in enumerate(found):
        active = study.space.active(study.baseline_values() | values)
        rows.append(
            dict.fromkeys(study.space.names)
            | active
            | {"trial_id": f"t{number}", "number": number, "phase": "explore", "status": status,
               "val_accuracy": accuracy, "epochs_run": 9 if status == "complete" else 1}
        )  # fmt: skip
    return rows


def plan_of(study, *found) -> Plan:
    return make_plan(study, trials(study, *(found or (({}, "complete", 0.8),))), "data", "code")


def test_no_full_budget_trial_is_nothing_to_confirm():
    with pytest.raises(TrialsFailed, match="none of 1 explore trials reached the full budget"):
        plan_of(study(), ({}, "stopped", 0.9))


def test_a_fraction_takes_the_level_that_early_stopping_never_let_through():
    study_ = study("fractional")
    plan = plan_of(study_, ({}, "complete", 0.8), ({"blocks": 3}, "complete", 0.7), ({"blocks": 1}, "stopped", 0.3))
    assert plan.compared["blocks"] == [1] and len(plan.arms) == 8
    assert plan.not_compared["blocks=3"].endswith("one alternative, 1")


def test_a_level_that_only_the_audit_carried_to_the_end_counts_as_stopped():
    study_ = study("fractional")
    runs = ({}, "complete", 0.8), ({"blocks": 3}, "complete", 0.7), ({"blocks": 1}, "complete", 0.3)
    rows = list(trials(study_, *runs))
    rows[-1]["phase"] = "audit"
    assert make_plan(study_, rows, "d", "c").compared["blocks"] == [1]


def test_a_fraction_takes_the_baselines_level_where_all_were_let_through():
    reached = [({"blocks": blocks}, "complete", 0.6 + blocks / 10) for blocks in (1, 2, 3)]
    plan = plan_of(study("fractional"), *reached)
    assert plan.incumbent["blocks"] == 3 and plan.compared["blocks"] == [2]


def test_a_fraction_that_cannot_be_run_whole_gives_way_to_one_factor_at_a_time():
    factors = FACTORS | {"downsample": {"levels": [1, 2]}, "blocks": {"levels": [1, 2]}}
    plan = plan_of(study("fractional", factors))
    assert plan.design == "one-factor" and len(plan.arms) == 5
    assert "downsample <= blocks" in plan.not_compared["interactions"]


@pytest.mark.parametrize("design, arms", [("fractional", 16), ("factorial", 24)])
def test_a_cube_does_not_cross_a_factor_that_applies_only_at_some_levels(design, arms):
    factors = FACTORS | {
        "head_depth": {"levels": [1, 2]},
        "head_width": {"when": {"head_depth": 2}, "levels": [64, 128]},
    }
    plan = plan_of(study(design, factors), ({"head_depth": 2, "head_width": 64}, "complete", 0.8))
    assert len(plan.arms) == arms
    assert "only at some levels of head_depth" in plan.not_compared["head_width"]
    assert "head_width" not in plan.compared


def test_a_factor_that_is_inactive_at_the_incumbent_is_named():
    factors = FACTORS | {
        "head_depth": {"levels": [1, 2]},
        "head_width": {"when": {"head_depth": 2}, "levels": [64, 128]},
    }
    plan = plan_of(study("one-factor", factors), ({"head_depth": 1}, "complete", 0.8))
    assert plan.not_compared == {"head_width": "does not apply at the incumbent"}


def test_two_arms_that_train_the_same_network_are_one():
    plan = plan_of(study("one-factor", {"head_width": {"levels": [64, 128]}, "kernel": {"levels": [3, 5]}}))
    assert [arm.name for arm in plan.arms] == ["incumbent", "kernel=5"]
    assert any("trains the same network as incumbent" in line for line in plan.infeasible)


def test_too_few_factors_for_a_fraction():
    factors = {"head_depth": {"levels": [1, 2]}, "head_width": {"when": {"head_depth": 2}, "levels": [64, 128]}}
    plan = plan_of(study("fractional", factors))
    assert plan.design == "one-factor" and "2 to 8 factors, here are 1" in plan.not_compared["interactions"]


def test_arms_must_be_among_what_is_compared():
    content = plan_of(study()).model_dump()
    with pytest.raises(ValueError, match="kernel=5 is not among the levels compared"):
        Plan(**content | {"compared": content["compared"] | {"kernel": []}})


def test_every_change_of_the_plan_changes_its_hash():
    plan = plan_of(study())
    for changes in ({"seeds": 4}, {"delta": 0.6}, {"collapse": 0.4}, {"code": "other"}, {"design": "factorial"}):
        assert plan.model_copy(update=changes).plan_hash != plan.plan_hash


def seeds_of(plan, study_):
    return [config.seed for _, _, _, config in plan.trials(study_)]


def test_seeds_are_those_of_what_is_asked_whatever_code_or_machine_runs_it():
    study_ = study(seeds=3)
    plan = plan_of(study_)
    for changes in ({"code": "other"}, {"chosen_val_accuracy": 0.1}, {"pilot": {"runs": 3, "sd": 0.7}}):
        assert seeds_of(plan.model_copy(update=changes), study_) == seeds_of(plan, study_)
    for changes in ({"delta": 0.6}, {"data_hash": "other"}, {"version": 1}):
        assert not set(seeds_of(plan.model_copy(update=changes), study_)) & set(seeds_of(plan, study_))


def test_a_plan_of_version_1_keeps_its_seeds():
    """Folders that were begun with it are gone on with."""
    study_ = study(seeds=2)
    plan = plan_of(study_).model_copy(update={"version": 1})
    expected = [stream(study_.seed, "confirm", plan.plan_hash, block) for block in range(2)]
    assert list(dict.fromkeys(seeds_of(plan, study_))) == expected


def test_every_arm_runs_on_the_same_fresh_seeds():
    study_ = study(seeds=3)
    plan = plan_of(study_)
    seeds = {}
    for _, block, _, config in plan.trials(study_):
        seeds.setdefault(block, set()).add(config.seed)
    assert [len(found) for found in seeds.values()] == [1, 1, 1] and len(set.union(*seeds.values())) == 3


@pytest.mark.parametrize("design, arms", [("one-factor", 5), ("factorial", 12), ("fractional", 8), ("none", 1)])
def test_the_sketch_has_the_size_of_the_plan_to_come(design, arms):
    study_ = study(design)
    assert len(sketch(study_).arms) == arms == len(plan_of(study_).arms)


def test_a_tuned_setting_whose_range_changes_comes_from_the_search_even_where_the_ranges_overlap():
    """AdamW at SGD's learning rate would be a comparison of learning rates."""
    factors = {
        "optimizer": {"levels": ["sgd", "adamw"]},
        "lr": [{"when": {"optimizer": "sgd"}, "low": 0.01, "high": 1.0, "log": True},
               {"when": {"optimizer": "adamw"}, "low": 0.0003, "high": 0.1, "log": True}],
    }  # fmt: skip
    study_ = study("one-factor", factors)
    tried = (({"lr": 0.05}, "complete", 0.8), ({"optimizer": "adamw", "lr": 0.002}, "stopped", 0.5))
    arms = {arm.name: arm for arm in plan_of(study_, *tried).arms}
    assert arms["optimizer=adamw"].companions == {"lr": 0.002} and arms["incumbent"].values["lr"] == 0.05
    untried = plan_of(study_, tried[0]).arms[1]
    assert untried.companions == {"lr": pytest.approx((0.0003 * 0.1) ** 0.5)}


@pytest.mark.parametrize("kind", ["one-factor", "factorial", "fractional", "d-optimal"])
def test_the_plan_names_its_contrasts_before_the_evidence(kind):
    from resnetlab.analysis.confirm.estimands import estimands
    from resnetlab.planning.making import sketch
    from resnetlab.study import build_study

    factors = {"blocks": {"levels": [2, 3]}, "kernel": {"levels": [3, 5]}, "se": {"levels": [True, False]}}
    content = {"name": "s", "dataset": {"name": "glyphs"}, "factors": factors, "confirm": {"design": kind}}
    plan = sketch(build_study(content, "s.yaml"))
    asked = [item.name for item in estimands(plan).items if item.kind != "simple"]
    assert plan.contrasts == asked and "kernel: 5 - 3" in asked


def test_the_code_hash_follows_every_file_of_the_package(tmp_path, monkeypatch):
    for name in ("a.py", "b/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    before = provenance.code_hash()
    assert len(before) == 16 and provenance.code_hash() == before
    (tmp_path / "b" / "c.py").write_text("c")
    changed = provenance.code_hash()
    (tmp_path / "b" / "c.py").rename(tmp_path / "c.py")
    assert len({before, changed, provenance.code_hash()}) == 3
