"""Test results per class, image by image, and by vote: from the tables of a made results folder, and by hand."""

import numpy as np
import pandas as pd
import pytest
from made_arms import CHARACTERS, PLANTED, arms_study, make_arms
from made_results import make_results
from scipy import stats

from resnetlab.analysis.evaluation import paired, test_predictions, transfer_cost
from resnetlab.analysis.evaluation.class_results import class_results
from resnetlab.analysis.evaluation.test_predictions import ArmRuns, Predictions
from resnetlab.analysis.results import Results
from resnetlab.report.findings import Findings


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    place = tmp_path_factory.mktemp("arms")
    make_arms(place)
    return Results.open(place)


def arm(name="a", trials=("t0", "t1"), **columns):
    runs = pd.DataFrame({"trial_id": list(trials), "seed_block": range(len(trials)), "val_accuracy": 0.5} | columns)
    return ArmRuns(name, "", runs.set_index("seed_block", drop=False))


def kept(labels, **predicted):
    n = len(labels)
    parts = [pd.DataFrame({"trial_id": trial, "image": np.arange(n), "label": labels, "predicted": values})
             for trial, values in predicted.items()]  # fmt: skip
    return Predictions.of(pd.concat(parts).sample(frac=1, random_state=0))


def test_arms_are_those_with_runs_by_task(results):
    arms = Findings(results).arms
    assert [found.name for found in arms] == list(PLANTED) and all(len(found.runs) == 3 for found in arms)
    assert {task: [found.name for found in group] for task, group in test_predictions.tasks(arms).items()} == {
        "glyphs character": ["scratch", "transfer", "transfer-full"], "glyphs font": ["font-source"],
    }  # fmt: skip


def test_lost_runs_are_in_no_arm(tmp_path):
    plan = make_results(tmp_path)
    arms = {found.name: len(found.runs) for found in Findings(Results.open(tmp_path)).arms}
    assert arms["incumbent"] == 3 and arms[plan.arms[4].name] == 2, "one run of the fifth arm diverged"


def test_recall_by_arm(results):
    arms = test_predictions.tasks(Findings(results).arms)["glyphs character"]
    about, recall = test_predictions.recall_by_arm(results.classes, arms)
    assert list(recall.columns) == ["scratch", "transfer", "transfer-full"] and len(recall) == len(CHARACTERS)
    assert about["name"].iloc[0] == CHARACTERS[0], "the first class is planted as the hardest"
    alone = class_results(results.classes, arms[0].ids).set_index("class")
    np.testing.assert_allclose(recall["scratch"], alone.loc[recall.index, "recall"])
    np.testing.assert_array_equal(about["support"], alone.loc[about.index, "support"])


def test_classes_without_an_error_and_the_worst():
    rows = [("t0", 0, "a", 40, 40), ("t1", 0, "a", 40, 40), ("t0", 1, "b", 35, 35), ("t1", 1, "b", 35, 34),
            ("t0", 2, "c", 34, 0), ("t1", 2, "c", 34, 0), ("t0", 3, "d", 50, 10), ("t1", 3, "d", 50, 20)]  # fmt: skip
    classes = pd.DataFrame(rows, columns=["trial_id", "class", "name", "support", "correct"]).assign(split="test")
    found = test_predictions.extremes(classes, arm())
    assert (found.counted, found.always, found.lowest, found.highest) == (3, ["a"], 1, 2)
    assert [(name, support) for name, _, support in found.worst] == [("d", 50), ("b", 35), ("a", 40)]
    assert found.worst[0][1] == pytest.approx(0.3)


def test_confusion_adds_up(results):
    scratch = Findings(results).arms[0]
    found = test_predictions.confusion(Predictions.of(results.predictions), scratch, len(CHARACTERS))
    assert found.sum() == 3 * 2000
    assert np.trace(found) / found.sum() == pytest.approx(scratch.runs["test_accuracy"].mean())
    assert found[0, 1] + found[0, 2] + found[0, 0] == found[0].sum(), "planted: taken for one of the next two"


def test_pairs_by_hand():
    labels = np.zeros(10, int)
    one = np.array([0] * 8 + [1] * 2)  # right on 8
    other = np.array([0] * 4 + [1] * 5 + [0])  # right on 4 of those and on the last
    found = paired.paired(kept(labels, x=one, y=other), [(arm("a", ["x"]), arm("b", ["y"]))]).iloc[0]
    assert (found["only"], found["only_against"], found["images"]) == (4, 1, 10)
    assert found["difference"] == pytest.approx(0.3)
    assert found["p"] == pytest.approx(2 * (1 + 5) / 2**5)  # 0 or 1 of 5
    assert found["low"] < 0.3 < found["high"]


def test_pairs_need_the_same_images():
    table = pd.DataFrame({"trial_id": ["x", "x", "y", "y"], "image": [1, 2, 1, 3], "label": 0, "predicted": 0})
    assert paired.paired(Predictions.of(table), [(arm("a", ["x"]), arm("b", ["y"]))]).empty
    assert paired.paired(kept([0, 1], x=[0, 1]), [(arm("a", ["x"]), arm("b", ["gone"]))]).empty


def test_two_alike_do_not_differ():
    assert paired.mcnemar(0, 0) == 1.0 and paired.mcnemar(7, 7) == pytest.approx(1.0)
    low, high = paired.difference_interval(0, 0, 1000)
    assert low == pytest.approx(-high) and 0 < high < 0.005


@pytest.mark.parametrize(("images", "agree"), [(200, 0.8), (2000, 0.95)])
def test_the_interval_over_images_covers(images, agree):
    """Images drawn from a population in which the two are right 70% and 66% of the time, mostly together."""
    rng = np.random.default_rng(0)
    share = (1 - agree) / 2
    one, other = share + 0.02, share - 0.02
    inside = 0
    for _ in range(2000):
        only, only_against, _ = rng.multinomial(images, [one, other, 1 - one - other])
        low, high = paired.difference_interval(only, only_against, images)
        inside += low <= 0.04 <= high
    assert 0.935 < inside / 2000 < 0.97


def test_mcnemar_refutes_as_often_as_it_may():
    rng = np.random.default_rng(0)
    ps = [paired.mcnemar(*np.bincount(rng.integers(0, 2, 40), minlength=2)) for _ in range(1000)]
    assert np.mean(np.array(ps) < 0.05) <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / 1000)
    assert paired.mcnemar(30, 10) == pytest.approx(stats.binomtest(30, 40).pvalue)


def test_a_vote():
    predicted = np.array([[1, 1, 5, 1], [2, 2, 5, 2], [2, 3, 5, 2], [3, 4, 0, 1]])
    assert paired.vote(predicted).tolist() == [2, 1, 5, 1], "ties go to the most trusted run, which is the first"
    assert paired.vote(predicted[:1]).tolist() == [1, 1, 5, 1]


def test_ensembles_by_hand():
    labels = np.array([0, 0, 0, 0])
    predictions = kept(labels, x=[0, 0, 1, 1], y=[0, 1, 0, 1], z=[1, 0, 0, 1], w=[1, 1, 1, 0])
    a = arm("a", ["x", "y", "z"], val_accuracy=[0.7, 0.9, 0.8])
    b = arm("b", ["w"], val_accuracy=[0.1])
    found = paired.ensembles(predictions, [a, b]).set_index("what")
    assert list(found.index) == ["the seeds of a", "the 3 best runs of all arms", "all runs of all arms"]
    seeds = found.loc["the seeds of a"]
    assert (seeds["runs"], seeds["accuracy"], seeds["mean"], seeds["first"]) == (3, 0.75, 0.5, 0.5)
    assert seeds["low"] < 0.75 < seeds["high"]
    assert found.loc["all runs of all arms", "runs"] == 4
    assert paired.ensembles(predictions, []).empty


def test_ensembles_leave_out_runs_on_other_images(results):
    arms = Findings(results).arms
    found = paired.ensembles(Predictions.of(results.predictions), arms)
    everyone = found[found["what"] == "all runs of all arms"].iloc[0]
    assert everyone["runs"] == 9, "fonts are other labels"


def test_costs_of_transfer(results):
    found = transfer_cost.costs(Findings(results).arms, results.trials).set_index("arm")
    source = found.loc["font-source"]
    assert found.loc["scratch", ["start", "source_seconds", "reference"]].tolist() == ["none", 0.0, ""]
    for name in ("transfer", "transfer-full"):
        assert found.loc[name, "start"] == "font-source" and found.loc[name, "reference"] == "scratch"
        assert found.loc[name, "source_seconds"] == pytest.approx(source["seconds"])
    assert found.loc["transfer", "cached"] and found.loc["scratch", "cached"] is None
    assert found.loc["transfer", "seconds"] == pytest.approx(12 * found.loc["transfer", "epoch_seconds"])
    assert found.loc["transfer", "value"] == pytest.approx(PLANTED["transfer"], abs=0.03)


def test_an_arm_is_compared_with_the_one_that_is_most_like_it(tmp_path):
    arms = {"scratch": {}, "scratch-small": {"data_fraction": 0.1}, "source": {"data": {"label": "font"}},
            "small": {"source": "source", "data_fraction": 0.1}, "whole": {"source": "source"}}  # fmt: skip
    make_arms(tmp_path, arms_study(arms), dict.fromkeys(arms, 0.7), images=300)
    found = transfer_cost.costs(Findings(Results.open(tmp_path)).arms, Results.open(tmp_path).trials).set_index("arm")
    assert found.loc["small", "reference"] == "scratch-small" and found.loc["whole", "reference"] == "scratch"
