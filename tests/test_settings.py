"""The type of a value comes from its setting, not from how it is written."""

import pytest

from resnetlab.errors import BadRequest
from resnetlab.search.optuna_sampler import OptunaSampler
from resnetlab.study import build_study
from resnetlab.study.settings import typed


def study(factors, sampler="random", **more):
    content = {"name": "s", "dataset": {"name": "glyphs"}, "factors": factors, "confirm": {"design": "none"}}
    return build_study(content | {"search": {"sampler": sampler, "trials": 12, "epochs": 1}} | more, "s.yaml")


def proposals(study_, name):
    search = OptunaSampler(study_)
    return [search.ask(number)[1][name] for number in range(12)]


@pytest.mark.parametrize("sampler", ["random", "tpe", "quasi-random", "linear"])
def test_a_range_of_a_real_setting_is_real_where_its_bounds_are_whole(sampler):
    found = proposals(study({"weight_decay": {"low": 0, "high": 1}}, sampler), "weight_decay")
    assert all(isinstance(value, float) for value in found) and sum(value != int(value) for value in found) >= 10
    rates = proposals(study({"lr": {"low": 1, "high": 10, "log": True}}, sampler, baseline={"lr": 2}), "lr")
    assert sum(value != int(value) for value in rates) >= 10


@pytest.mark.parametrize("sampler", ["random", "tpe", "quasi-random", "linear"])
def test_a_range_of_a_whole_setting_is_whole_where_its_bounds_are_real(sampler):
    study_ = study({"blocks": {"low": 1.0, "high": 3.0}}, sampler, baseline={"downsample": 1})
    found = proposals(study_, "blocks")
    assert {type(value) for value in found} == {int} and set(found) == {1, 2, 3}
    assert study_.space["blocks"].branches[0].describe() == "1 … 3"


def test_levels_are_of_the_settings_type():
    study_ = study(
        {"dropout": {"levels": [0, 0.5]}, "batch_size": {"levels": [1e2, 128]}, "se": {"levels": ["on", "off"]},
         "shortcut": {"levels": [0, 1]}, "head_depth": {"levels": [1.0, 2]}}
    )  # fmt: skip
    levels = {factor.name: factor.levels for factor in study_.space.factors}
    assert levels == {
        "dropout": (0.0, 0.5), "batch_size": (100, 128), "se": (True, False), "shortcut": (False, True),
        "head_depth": (1, 2),
    }  # fmt: skip
    kinds = {name: {type(level) for level in found} for name, found in levels.items()}
    assert kinds == {"dropout": {float}, "batch_size": {int}, "se": {bool}, "shortcut": {bool}, "head_depth": {int}}


def test_a_study_is_the_same_however_its_numbers_are_spelt():
    def one(zero, one, three, yes):
        return study(
            {"weight_decay": {"low": zero, "high": one}, "lr": [{"when": {"flip": yes}, "levels": [one, 2.0]}],
             "flip": {"levels": [yes, False]}, "rotation": {"levels": [zero, 15]}},
            baseline={"lr": one, "blocks": three, "flip": yes, "downsample": one},
        )  # fmt: skip

    plain = one(0.0, 1.0, 3, True)
    for other in (one(0, 1, 3.0, "yes"), one(0, 1.0, 3, "on"), one(0.0, 1, 3.0, 1)):
        assert other.study_hash == plain.study_hash and other.identity() == plain.identity()
        assert other.baseline_config(0).trial_id == plain.baseline_config(0).trial_id
    arms = {"arms": {"a": {"lr": 1}, "b": {"lr": 2}}, "confirm": {"design": "arms"}}
    real = {"arms": {"a": {"lr": 1.0}, "b": {"lr": 2.0}}, "confirm": {"design": "arms"}}
    assert study({}, **arms).study_hash == study({}, **real).study_hash


REFUSED = {
    "a bound between whole numbers": ({"blocks": {"low": 1, "high": 2.5}}, "factors.blocks: level 2.5", "integer"),
    "a level between whole numbers": ({"blocks": {"levels": [1, 1.5]}}, "factors.blocks: level 1.5", "integer"),
    "one level spelt twice": ({"lr": {"levels": [0.1, 1e-1]}}, "factors.lr", "at least two different levels"),
    "one level as a whole and a real number": ({"lr": {"levels": [1, 1.0]}}, "factors.lr", "at least two different"),
    "one truth value spelt twice": ({"se": {"levels": ["on", True]}}, "factors.se", "at least two different levels"),
    "a number for a truth value": ({"se": {"levels": [False, 2]}}, "factors.se: level 2", "boolean"),
    "text for a number": ({"lr": {"levels": [0.1, "1e-2"]}}, "factors.lr: level '1e-2'", "need float"),
    "a range of a text": ({"optimizer": {"low": 0, "high": 1}}, "factors.optimizer: level 0", "'sgd'"),
    "a range of a truth value": ({"se": {"low": 0, "high": 1}}, "factors.se", "need a number, got false"),
    "a step": ({"lr": {"low": 0.1, "high": 1, "step": 0.1}}, "factors.lr: step", "unknown key"),
    "a null level": ({"blocks": {"levels": [None, 3]}}, "factors.blocks: levels", "null cannot be a level"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_factor_is_refused(name):
    factors, *words = REFUSED[name]
    with pytest.raises(BadRequest) as caught:
        study(factors)
    assert all(word in str(caught.value) for word in words), caught.value


TEXTS = {
    "name": ({"name": 2024}, "name: need text, got the number 2024: put it in quotes"),
    "title": ({"title": 1.5}, "title: need text, got the number 1.5: put it in quotes"),
    "question": ({"question": True}, "question: need text, got true: put it in quotes"),
    "root": ({"dataset": {"name": "folder", "root": 2024}}, "dataset.root: need text, got the number 2024"),
    "weights": ({"baseline": {"weights": 50}}, "weights: need text, got the number 50"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_spelt_as_a_number_is_asked_for_in_quotes(name):
    more, words = TEXTS[name]
    with pytest.raises(BadRequest) as caught:
        study({"lr": {"low": 0.1, "high": 1}}, **more)
    assert words in str(caught.value)


def test_a_truth_value_takes_the_words_that_people_use_and_no_others():
    assert [typed("flip", value) for value in ("yes", "On", 1)] == [True] * 3
    assert [typed("flip", value) for value in ("NO", "off", 0)] == [False] * 3
    assert [typed("flip", value) for value in ("ja", 2, 1.0, None)] == ["ja", 2, 1.0, None]
    assert study({"lr": {"low": 1, "high": 2}}, baseline={"flip": "yes", "lr": 1}).baseline_config(0).flip is True
    with pytest.raises(BadRequest, match="need true or false, got the text 'ja'"):
        study({"lr": {"low": 1, "high": 2}}, baseline={"flip": "ja", "lr": 1})


def test_a_hypothesis_names_a_truth_value_as_people_write_it():
    study_ = study({"se": {"levels": ["yes", "no"]}}, confirm={}, hypotheses=["se yes > se no"])
    assert [(found.level, found.reference) for found in study_.declared] == [(True, False)]
