"""The sampler `linear`: what it learns from trials that ran whole, were stopped, or were lost."""

from itertools import product

import numpy as np
import pytest

from resnetlab.search.linear_model import LinearModel, _Columns, _contrasts, depths
from resnetlab.study.space import Space

LEVELS = {"blocks": {"levels": [1, 2, 3]}, "shortcut": {"levels": [True, False]}, "kernel": {"levels": [1, 3, 5]}}
TUNED = {
    "optimizer": {"levels": ["sgd", "adamw"]},
    "lr": [
        {"when": {"optimizer": "sgd"}, "low": 0.01, "high": 1.0, "log": True},
        {"when": {"optimizer": "adamw"}, "low": 0.0001, "high": 0.01, "log": True},
    ],
}


def anything(point):
    return True


def points(space: Space, number: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    levels = [dict(zip(LEVELS, one, strict=True)) for one in product(*(f["levels"] for f in LEVELS.values()))]
    return [levels[place] for place in rng.permutation(len(levels) * 4)[:number] % len(levels)]


def share(model: LinearModel, name: str, level, number: int = 30) -> float:
    return float(np.mean([model.propose(seed, anything)[name] == level for seed in range(number)]))


def tell(model: LinearModel, number: int, curve, seed: int = 0) -> None:
    """Trials whose curve is {epoch: value} of a point; those at random where number is more than there are."""
    rng = np.random.default_rng(seed)
    for trial, point in enumerate(points(model._space, number, seed)):
        model.begun(trial, point)
        for epoch, value in curve(point).items():
            model.reported(trial, epoch, value + 0.002 * rng.standard_normal())


def test_depths():
    assert depths(1) == [1] and depths(9) == [1, 3, 9] and depths(10) == [1, 3, 9, 10]


@pytest.mark.parametrize("levels", [2, 3, 7])
def test_contrasts_treat_all_levels_alike(levels):
    columns = _contrasts(levels)
    assert np.allclose(columns.T @ columns, np.eye(levels - 1)) and np.allclose(columns.sum(axis=0), 0)
    distances = {round(float(np.linalg.norm(a - b)), 9) for a in columns for b in columns if a is not b}
    assert len(distances - {0.0}) == 1


def test_columns_of_a_branch_are_zero_where_it_does_not_hold():
    columns = _Columns(Space.of(TUNED))
    sgd, adamw = columns.of([{"optimizer": "sgd", "lr": 0.1}, {"optimizer": "adamw", "lr": 0.001}])
    assert columns.count == 1 + 1 + 3 + 3  # no interactions of a rate with the optimizer that it belongs to
    assert (sgd[5:] == 0).all() and (adamw[2:5] == 0).all()
    assert np.allclose(sgd[2:5], adamw[5:])  # both in the middle of their ranges


def test_true_and_one_are_two_levels():
    space = Space.of({"one": {"levels": [1, True, 2]}})
    first, second, _ = _Columns(space).of([{"one": 1}, {"one": True}, {"one": 2}])
    assert not np.allclose(first, second)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_levels_are_proposed(sign):
    model = LinearModel(Space.of(LEVELS), 9, sign)
    tell(model, 20, lambda p: {9: sign * (0.8 + 0.02 * (p["kernel"] == 5) + 0.02 * p["shortcut"])})
    assert share(model, "kernel", 5) > 0.9 and share(model, "shortcut", True) > 0.9
    assert all(share(model, "blocks", level) < 1 for level in (1, 2, 3))  # which makes no difference


def test_trials_that_were_stopped_early_count():
    model = LinearModel(Space.of(LEVELS), 9)
    tell(model, 20, lambda p: {1: 0.3 + 0.02 * (p["kernel"] == 5)})
    assert share(model, "kernel", 5) > 0.7  # of three levels; at the full budget it may be another


def test_a_level_that_starts_slowly_is_known_from_trials_that_ran_whole():
    model = LinearModel(Space.of(LEVELS), 9)

    def curve(point):
        slow = point["kernel"] == 5
        early = {1: 0.5 - 0.1 * slow, 3: 0.7 - 0.04 * slow}
        return early | ({9: 0.8 + 0.03 * slow} if point["blocks"] == 2 else {})  # a third of the trials

    tell(model, 36, curve)
    assert share(model, "kernel", 5) > 0.9


def test_what_diverged_is_left_alone():
    space = Space.of(TUNED)
    model, rng = LinearModel(space, 9), np.random.default_rng(0)
    for trial in range(40):
        point = {"optimizer": "sgd", "lr": float(10 ** rng.uniform(-2, 0))}
        model.begun(trial, point)
        if point["lr"] > 0.3:
            model.lost(trial)
        else:
            model.reported(trial, 9, 0.8 + 0.02 * np.log10(point["lr"]))  # the higher, the better, until it diverges
    proposed = [model.propose(seed, lambda p: p["optimizer"] == "sgd")["lr"] for seed in range(30)]
    assert np.mean(np.array(proposed) < 0.3) > 0.9 and np.median(proposed) > 0.05


def test_one_collapsed_run_does_not_hide_the_best_level():
    model = LinearModel(Space.of(LEVELS), 9)
    tell(model, 20, lambda p: {9: 0.8 + 0.02 * (p["kernel"] == 5)})
    model.begun("collapsed", {"blocks": 2, "shortcut": True, "kernel": 5})
    model.reported("collapsed", 9, 0.1)
    assert share(model, "kernel", 5) > 0.9


def test_proposals_are_allowed_ones_and_follow_from_seed_and_trials():
    space = Space.of(LEVELS)
    one, two = LinearModel(space, 9), LinearModel(space, 9)
    tell(one, 200, lambda p: {1: 0.3, 9: 0.8 + 0.01 * p["kernel"]})  # more than are kept at first
    tell(two, 200, lambda p: {1: 0.3, 9: 0.8 + 0.01 * p["kernel"]})
    allowed = {"blocks": 3, "shortcut": False, "kernel": 1}
    assert one.propose(5, lambda p: p == allowed) == allowed
    assert [one.propose(seed, anything) for seed in range(9)] == [two.propose(seed, anything) for seed in range(9)]


def test_the_first_proposals_are_random():
    model = LinearModel(Space.of(LEVELS), 9)
    assert len({tuple(model.propose(seed, anything).values()) for seed in range(40)}) > 10
    for trial, point in enumerate(points(model._space, 3)):
        model.begun(trial, point)
        model.reported(trial, 1, 0.5)
    assert len({tuple(model.propose(seed, anything).values()) for seed in range(40)}) > 10


def test_values_that_are_all_equal_are_no_error():
    model = LinearModel(Space.of(LEVELS), 9)
    tell(model, 10, lambda p: {})
    for trial in range(10):
        model.reported(trial, 1, 0.1)
    assert model._space.problem(model.propose(0, anything)) is None
