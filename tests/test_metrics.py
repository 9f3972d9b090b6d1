"""Each metric equals an independent computation; a metric that the images do not allow is reported."""

import math
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from resnetlab.errors import BadData, BadRequest
from resnetlab.experiment.protocol import KINDS
from resnetlab.experiment.references import refer
from resnetlab.experiment.scores import BUILT_IN, declared, own_score


def of(name, labels, scores):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return BUILT_IN[name].of(np.array(labels), np.array(scores, float))


def one_hot(predicted, classes):
    return np.eye(classes)[predicted]


# 3 classes: 4, 3 and 1 images; predicted: class 0 right 3 of 4, class 1 right 1 of 3, class 2 right 1 of 1.
LABELS = [0, 0, 0, 0, 1, 1, 1, 2]
PREDICTED = [0, 0, 0, 1, 1, 0, 2, 2]


def test_accuracies_and_f1_are_those_counted_by_hand():
    scores = one_hot(PREDICTED, 3)
    assert of("accuracy", LABELS, scores) == pytest.approx(5 / 8)
    assert of("balanced_accuracy", LABELS, scores) == pytest.approx((3 / 4 + 1 / 3 + 1) / 3)
    f1 = [Fraction(2 * 3, 4 + 4), Fraction(2 * 1, 3 + 2), Fraction(2 * 1, 1 + 2)]  # 2 TP / (labelled + predicted)
    assert of("macro_f1", LABELS, scores) == pytest.approx(float(sum(f1) / 3))


def test_a_class_without_images_does_not_count_whether_it_is_predicted_or_not():
    never, once = one_hot([0, 0, 1, 1], 3), one_hot([0, 2, 1, 1], 3)
    labels = [0, 0, 1, 1]
    assert of("balanced_accuracy", labels, never) == of("macro_f1", labels, never) == of("auroc", labels, never) == 1
    assert of("balanced_accuracy", labels, once) == pytest.approx((1 / 2 + 1) / 2)
    assert of("macro_f1", labels, once) == pytest.approx((2 * 1 / (2 + 1) + 1) / 2)


def test_a_class_that_is_never_predicted_has_an_f1_of_0():
    assert of("macro_f1", [0, 1], one_hot([0, 0], 2)) == pytest.approx((2 / 3 + 0) / 2)


def test_equal_scores_go_to_the_lower_class_in_accuracy_and_top_5_alike():
    scores = np.zeros((7, 7))
    assert of("accuracy", range(7), scores) == pytest.approx(1 / 7)
    assert of("top5", range(7), scores) == pytest.approx(5 / 7)


def test_top_5_is_right_where_fewer_than_five_scores_are_higher():
    scores = [[9, 8, 7, 6, 5, 4], [9, 8, 7, 6, 5, 4], [1, 2, 3, 4, 5, 6]]
    assert of("top5", [4, 5, 0], scores) == pytest.approx(1 / 3)
    with pytest.raises(BadData, match="always right where there are 5 classes"):
        of("top5", [0], [[1, 2, 3, 4, 5]])


def test_cross_entropy_is_that_of_the_probabilities_and_takes_large_logits():
    scores = np.log([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]) + np.array([[3.0], [-5.0]])
    assert of("cross_entropy", [0, 1], scores) == pytest.approx(-(math.log(0.5) + math.log(0.2)) / 2)
    assert of("cross_entropy", [0, 1], [[0.0, 2000.0], [0.0, 2000.0]]) == pytest.approx(1000)


def test_calibration_error_is_the_weighted_gap_of_the_bins():
    confidence = [0.9, 0.9, 0.9, 0.6, 0.6]
    labels = [0, 0, 1, 0, 1]  # class 0 is predicted: bin of 0.9: 2 of 3 right, bin of 0.6: 1 of 2
    scores = np.log([[p, 1 - p] for p in confidence])
    expected = 3 / 5 * abs(2 / 3 - 0.9) + 2 / 5 * abs(1 / 2 - 0.6)
    assert of("calibration_error", labels, scores) == pytest.approx(expected)
    assert of("calibration_error", [0, 1], [[99.0, 0.0], [0.0, 99.0]]) == pytest.approx(0)
    assert of("calibration_error", [1, 1], [[99.0, 0.0], [99.0, 0.0]]) == pytest.approx(1)


def pairs(positive, negative):
    """The share of pairs in the right order, ties as a half: the area under the curve by its definition."""
    return np.mean([(one > other) + 0.5 * (one == other) for one in positive for other in negative])


def test_auroc_is_the_share_of_pairs_in_the_right_order_with_ties_as_a_half():
    scores = [[0, 0], [0, 1], [0, 1], [0, 3]]
    assert of("auroc", [0, 0, 1, 1], scores) == pytest.approx((0.5 + 3) / 4)
    chances = np.random.default_rng(0).dirichlet([1, 1, 1], 30).round(1).clip(0.05)
    chances /= chances.sum(1, keepdims=True)
    labels = np.arange(30) % 3
    exact = chances.round(9)
    assert any(len(np.unique(exact[:, c])) < 25 for c in range(3)), "no ties"
    expected = np.mean([pairs(exact[labels == c, c], exact[labels != c, c]) for c in range(3)])
    shifted = np.log(chances) + np.arange(30)[:, None]  # adding to all logits of an image changes no probability
    assert of("auroc", labels, np.log(chances)) == pytest.approx(expected)
    assert of("auroc", labels, shifted) == pytest.approx(expected)


def test_auroc_does_not_lose_the_order_of_probabilities_that_round_to_1():
    assert of("auroc", [0, 1], [[0, 800.0], [0, 900.0]]) == 1


def test_auroc_of_one_class_is_refused_and_not_nan():
    with pytest.raises(BadData, match="all 2 images are of class 1"):
        of("auroc", [1, 1], [[0, 1], [1, 0]])


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_is_no_scores_of_labels_is_refused(name):
    for labels, scores in (
        ([], np.zeros((0, 6))),
        ([0], np.zeros((2, 6))),
        ([0], np.zeros(6)),
        ([6], np.zeros((1, 6))),
    ):
        with pytest.raises(BadData, match=f"{name}: "):
            of(name, labels, scores)
    with pytest.raises(BadData, match="scores of 1 of 2 images are not finite"):
        of(name, [0, 1], [[0, math.nan, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]])


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_value_is_a_plain_number_also_of_half_precision(name):
    scores = np.random.default_rng(1).normal(size=(40, 6)).astype(np.float16)
    assert type(BUILT_IN[name].of(np.arange(40) % 6, scores)) is float


def blind(name, counts, share, draws=400):
    """The mean metric of predictors that draw each image's class from `share`, on a large sample."""
    rng, labels = np.random.default_rng(2), np.repeat(np.arange(len(counts)), counts)
    score = BUILT_IN[name]
    picks = [rng.choice(len(counts), len(labels), p=share) for _ in range(draws)]
    return np.mean([score.of(labels, one_hot(pick, len(counts))) for pick in picks])


def test_the_chance_level_is_the_best_of_predictors_that_see_no_image():
    counts = np.array([60, 30, 10])
    share = counts / 100
    even = np.full(3, 1 / 3)
    assert (
        BUILT_IN["accuracy"].chance(counts)
        == 0.6
        == of("accuracy", np.repeat([0, 1, 2], counts), one_hot([0] * 100, 3))
    )
    for name in ("balanced_accuracy", "macro_f1"):
        assert BUILT_IN[name].chance(counts) == pytest.approx(1 / 3)
        assert blind(name, counts, share, 100) == pytest.approx(1 / 3, abs=0.02)
    assert blind("macro_f1", counts, even, 100) < blind("macro_f1", counts, share, 100)
    labels, prior = np.repeat([0, 1, 2], counts), np.log(np.tile(share, (100, 1)))
    assert BUILT_IN["cross_entropy"].chance(counts) == pytest.approx(of("cross_entropy", labels, prior))
    assert of("calibration_error", labels, prior) == pytest.approx(0) and BUILT_IN["calibration_error"].chance is None
    assert of("auroc", labels, prior) == BUILT_IN["auroc"].chance(counts) == 0.5
    assert BUILT_IN["top5"].chance(np.array([5, 1, 1, 1, 1, 1, 0])) == pytest.approx(0.9)
    assert BUILT_IN["balanced_accuracy"].chance(np.array([5, 0, 5])) == 0.5


def test_a_metric_says_how_people_read_it_and_which_way_is_better():
    assert BUILT_IN["macro_f1"].show(0.8431) == "84.31 %" and BUILT_IN["cross_entropy"].better == "lower"
    score = BUILT_IN["auroc"].on("test")
    assert (score.name, score.axis, score.of([0, 1], [[1, 0], [0, 1]])) == ("test_auroc", "Test AUROC (%)", 1.0)


def test_a_function_of_one_s_own_is_a_fraction_and_higher_is_better():
    worst = refer("metrics", "own_code/my_parts.py:worst_class", Path(__file__).parent, {}).load()
    score = own_score("worst_class", worst)
    assert score.of(np.array(LABELS), one_hot(PREDICTED, 3)) == pytest.approx(1 / 3)
    assert (score.show(1 / 3), score.better) == ("33.33 %", "higher")
    for wrong in (math.nan, None, np.zeros(2), "a"):
        with pytest.raises(BadRequest, match=r"worst_class: returned .* \(allowed: a finite number\)"):
            own_score("worst_class", lambda labels, scores, found=wrong: found).of(np.array([0]), np.zeros((1, 2)))


def test_a_task_declares_the_directions_of_its_numbers():
    found = declared({"val_rmse": "min", "r2": {"direction": "max", "unit": "%", "scale": 100, "digits": 1}}, "METRICS")
    assert (found["val_rmse"].better, found["val_rmse"].show(1.5)) == ("lower", "1.500")
    assert (found["r2"].better, found["r2"].show(0.25)) == ("higher", "25.0 %")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "need a mapping"),
        (["val_rmse"], "need a mapping"),
        ({"val_rmse": "low"}, "METRICS.val_rmse: need a direction, got 'low' (allowed: min, max)"),
        ({"val rmse": "min"}, "'val rmse' is not the name of a column"),
        ({"a": {"direction": "min", "units": "s"}}, "METRICS.a.units: unknown key (did you mean 'unit'?)"),
        ({"a": {"direction": "min", "scale": "100"}}, "METRICS.a.scale: got '100'"),
        ({"a": {"direction": ["min"]}}, "need a direction, got ['min']"),
    ],
)
def test_a_wrong_declaration_is_refused(given, words):
    with pytest.raises(BadRequest) as caught:
        declared(given, "METRICS")
    assert words in str(caught.value)


GOOD = {
    "metric": 0.5,
    "schedule": np.float32(1.0),
    "sampler": {"lr": 0.1},
    "stopping rule": True,
    "dataset": (np.zeros((2, 8, 8), np.uint8), np.zeros(2, int)),
    "task": (number for number in ()),
}


@pytest.mark.parametrize("kind", GOOD)
def test_a_part_that_returns_the_wrong_type_is_refused_by_its_kind(kind):
    KINDS[kind].check(GOOD[kind], "part")
    with pytest.raises(BadRequest, match=r"part: returned str \('x'\) \(allowed: "):
        KINDS[kind].check("x", "part")


def test_tensors_and_networks_are_told_from_other_things():
    import torch
    from own_code.my_net import net

    module, weight = net((8, 8, 1), 10), torch.ones(2, requires_grad=True)
    made = {
        "model": module,
        "loss": weight.sum(),
        "augmentation": torch.zeros(2, 1, 8, 8),
        "optimizer": torch.optim.NAdam([weight], 0.1),
    }
    for kind, value in made.items():
        KINDS[kind].check(value, "part")
        for other, wrong in made.items():
            if other != kind:
                with pytest.raises(BadRequest, match="part: returned"):
                    KINDS[kind].check(wrong, "part")
    with pytest.raises(BadRequest, match=r"Tensor of shape \(2,\) \(allowed: a tensor of shape \(\)"):
        KINDS["loss"].check(weight, "part")


def test_each_kind_has_its_own_group_of_entry_points():
    groups = [kind.group for kind in KINDS.values()]
    assert len(set(groups)) == len(groups)
    assert {"resnetlab.models", "resnetlab.losses", "resnetlab.datasets", "resnetlab.stopping_rules"} < set(groups)
