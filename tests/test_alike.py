"""Duplicate runs: a study whose plan would have two equal entries is refused, with the setting that has no effect."""

import pytest
from sweeps_here import run_here
from test_sweep import Trainer, drive, start, study

from resnetlab.driver.checks.duplicate_arms import check
from resnetlab.errors import BadRequest, FolderRefused
from resnetlab.planning.making import pilot_trials, sketch
from resnetlab.study import build_study
from resnetlab.study.records import Phase
from resnetlab.study.trial_config import TrialConfig
from resnetlab.sweep import plan_store

SMALL = {"width": 8, "blocks": 1, "downsample": 1}


def arms(baseline=None, dataset=None, **found):
    content = {"name": "s", "dataset": dataset or {"name": "glyphs"}, "baseline": baseline or {}, "arms": found}
    return build_study(content | {"search": {"epochs": 2}, "confirm": {"design": "arms"}}, "s.yaml")


def factors(found, **baseline):
    return build_study({"name": "s", "dataset": {"name": "glyphs"}, "factors": found, "baseline": baseline}, "s.yaml")


ALIKE = {
    "a setting that the optimizer does not read": (
        {"b": {"optimizer": "adamw"}, "c": {"optimizer": "adamw", "momentum": 0.5}},
        "arms: b and c train the same network on the same data: momentum=0.5 has no effect (optimizer=adamw does not",
    ),
    "a setting that the schedule does not read": ({"b": {"step_at": 0.2}}, "step_at=0.2 has no effect (schedule=cons"),
    "a setting that the model does not read": (
        {"b": {"model": "cnn"}, "c": {"model": "cnn", "kernel": 5}},
        "kernel=5 has no effect (model=cnn does not read it)",
    ),
    "a default spelt out": ({"b": {"kernel": 3}}, "a and b train the same"),
    "a default of the optimizer spelt out": ({"b": {"momentum": 0.9}}, "momentum=0.9 has no effect (it has that value"),
    "a default of the budget spelt out": ({"b": {"epochs": 2}}, "epochs=2 has no effect"),
    "the number of the default as another type": ({"b": {"downsample": 2.0}}, "downsample=2 has no effect"),
    "hidden units of a head that has none": ({"b": {"head_width": 64}}, "head_width=64 has no effect (head_depth=1"),
    "how to resize what is not resized": (
        {"b": {"model": "resnet18"}, "c": {"model": "resnet18", "resize": "nearest"}}, "without input_size",
    ),
    "the rate of stages of which none is trained": (
        {"b": {"frozen": 4}, "c": {"frozen": 4, "backbone_lr_ratio": 0.1}}, "every stage is froz",
    ),
    "a default label spelt out": ({"b": {"data": {"label": "character"}}}, "label=character has no effect (it has"),
    "the place of the data": ({"b": {"data": {"font_dir": "/x"}}}, "data.font_dir=/x has no effect (it only says"),
    "targets of one source": (
        {"b": {"data": {"label": "font"}}, "c": {"source": "b"}, "d": {"source": "b", "kernel": 3}}, "c and d train",
    ),
    "nothing at all": ({"b": {}}, "a and b train the same network on the same data: nothing differs"),
}  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
def test_arms_that_train_alike_are_refused(name):
    found, words = ALIKE[name]
    with pytest.raises(BadRequest) as caught:
        check(arms(a={}, **found))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_arms_that_differ_are_taken():
    check(arms(a={}, b={"momentum": 0.5}, c={"optimizer": "adamw"}, d={"optimizer": "adamw", "beta2": 0.9}))
    check(arms(a={}, b={"data": {"label": "font"}}, c={"source": "b"}, d={"source": "a"}))


MOMENTUM = {"momentum": {"levels": [0.5, 0.9]}}
NO_EFFECT = {
    "a setting of another optimizer": (MOMENTUM, {"optimizer": "adamw"}, "momentum is read by nothing here, or is"),
    "a setting of another model": ({"kernel": {"levels": [3, 5]}}, {"model": "cnn"}, "kernel is read by nothing here"),
    "hidden units of a head without": (
        {"head_width": {"levels": [64, 128]}}, {},
        "s: factors.head_width has no effect: 64, 128 train the same network (head_depth=1 has no hidden units)",
    ),
    "a range of them": ({"head_width": {"low": 64, "high": 128}, "kernel": {"levels": [3, 5]}}, {}, "head_width has"),
    "a rate of stages that do not train": (
        {"backbone_lr_ratio": {"low": 0.1, "high": 1}, "se": {"levels": [0, 1]}}, {"frozen": 4}, "every stage is froz",
    ),
    "a condition under which it is not read": (
        {"optimizer": {"levels": ["sgd", "adamw"]}, "momentum": {"when": {"optimizer": "adamw"}, "levels": [0.5, 0.9]}},
        {}, "factors.momentum has no effect: 0.5, 0.9 when optimizer is adamw train the same network (optimizer=ad",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_EFFECT)
def test_a_factor_whose_levels_train_alike_everywhere_is_refused(name):
    found, baseline, words = NO_EFFECT[name]
    with pytest.raises(BadRequest) as caught:
        check(factors(found, **baseline))
    assert words in str(caught.value)


def test_a_factor_that_matters_at_some_level_of_another_is_taken():
    check(factors({"optimizer": {"levels": ["adamw", "sgd"]}} | MOMENTUM))
    check(factors({"head_width": {"levels": [64, 128]}, "head_depth": {"levels": [1, 2]}}))
    check(factors({"backbone_lr_ratio": {"low": 0.1, "high": 1}, "frozen": {"levels": [0, 4]}}))
    check(factors({"blocks": {"levels": [2, 3]}, "backbone_lr_ratio": {"levels": [0.1, 1]}}, frozen=3))
    check(study())


def test_a_sweep_over_arms_that_train_alike_does_not_leave_runs_out(tmp_path):
    """Whoever drives a sweep without the check is told, rather than left with runs that are never made."""
    one = arms(SMALL, {"name": "glyphs", "variants": 1, "limit": 60}, a={}, b={"optimizer": "sgd"})
    with pytest.raises(FolderRefused, match="arms a and b are the same run"):
        run_here(one, tmp_path / "r", tmp_path / "cache")


@pytest.mark.parametrize("design", ["one-factor", "factorial", "d-optimal"])
def test_cells_of_a_design_are_different_runs(design):
    found = {"optimizer": {"levels": ["sgd", "adamw"]}, "momentum": {"levels": [0.5, 0.9]}, "se": {"levels": [0, 1]}}
    content = {"name": "s", "dataset": {"name": "glyphs"}, "factors": found, "confirm": {"design": design}}
    one = build_study(content, "s.yaml")
    plan = sketch(one)
    runs = [config.trial_id for *_, config in plan.trials(one)]
    assert len(set(runs)) == len(runs) == plan.seeds * len(plan.arms)


def test_runs_of_the_pilot_are_none_of_the_plan():
    one = study(confirm={"pilot": 3})
    pilot = {config.trial_id for _, config in pilot_trials(one)}
    assert len(pilot) == 3 and not pilot & {config.trial_id for *_, config in sketch(one).trials(one)}


def test_a_plan_that_was_set_aside_comes_back_with_its_runs(tmp_path):
    """Changed, run, and changed back after a pilot: the first plan's runs answer the first plan's questions."""
    trainer = Trainer()
    for seeds, pilot, delta in ((2, 0, 0.5), (3, 0, 0.6), (2, 2, 0.5)):  # more seeds alone would add to the first plan
        sweep = start(tmp_path, confirm={"seeds": seeds, "pilot": pilot, "delta": delta}, trials=4)
        assert drive(sweep, trainer)
        sweep.store.close()
        plan, rows = sweep.plan, list(sweep.store.trials.values())
        ran = [row for row in rows if row["plan_hash"] == plan.plan_hash and row["status"] == "complete"]
        assert len(ran) == len(plan.arms) * seeds, (seeds, pilot)
    confirmed = [row for row in rows if row["phase"] == Phase.CONFIRM]
    assert len({row["plan_hash"] for row in confirmed}) == 2 and len(confirmed) == len(plan.arms) * (2 + 3)
    again = start(tmp_path, confirm={"seeds": 2, "pilot": 2}, trials=4)
    assert again.plan == plan and plan_store.find(again.store, again.study)[0] == plan
    again.store.close()


def test_the_hash_of_a_trial_holds_every_setting():
    """What the checks rest on: a setting that is not in the identity could differ between two arms unseen."""
    config = TrialConfig(data={"name": "glyphs"}, model="resnet")
    assert set(config.identity()) >= TrialConfig.factor_fields() | {"data", "seed", "split_seed", "epochs"}
