"""Intervals on new images: the part of the test images in the error of an effect, and what verdicts are about."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_results import default_study, make_results
from sklearn.metrics import balanced_accuracy_score, f1_score

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.effects_table import estimate, performance
from resnetlab.analysis.confirm.images import FROM_PREDICTIONS, ImageScores, from_predictions
from resnetlab.analysis.confirm.power_preview import foresight
from resnetlab.analysis.results import Results
from resnetlab.calibration.new_images import ImageWorld, measure_images
from resnetlab.driver.checks.request import check_splits
from resnetlab.errors import BadRequest
from resnetlab.planning.making import sketch
from resnetlab.report.findings import Findings
from resnetlab.report.sections import plan as plan_section
from resnetlab.study import build_study
from resnetlab.sweep.task import data_key

PAIR = np.array([[1.0, -1.0]])


def scores(seed=0, images=60):
    """Two arms of three runs: (2, 3, images)."""
    return (np.random.default_rng(seed).random((2, 3, images)) < 0.8).astype(float)


def test_the_part_of_the_images_is_their_spread_less_that_of_the_rest():
    found = scores()
    (variance,) = ImageScores.of_array(found).term(PAIR, np.ones((2, 3), dtype=bool)).variance
    d = found[0].mean(0) - found[1].mean(0)
    n, rest = len(d), 0.0
    for arm in found:
        left = arm - arm.mean(0) - arm.mean(1, keepdims=True) + arm.mean()
        rest += (left**2).sum() / (2 * (n - 1)) / (3 * n)
    assert variance == pytest.approx(max(d.var(ddof=1) / n - rest, 0.0))


def test_images_of_a_group_count_together():
    """Each image ten times over says no more than once; without the groups it would seem to."""
    once, used = scores(3, 50), np.ones((2, 3), dtype=bool)
    tenfold, groups = np.repeat(once, 10, axis=-1), np.repeat(np.arange(50), 10)
    single = ImageScores.of_array(once).term(PAIR, used)
    grouped = ImageScores.of_array(tenfold, groups).term(PAIR, used)
    assert grouped.variance == pytest.approx(single.variance) and grouped.df == single.df == 49
    assert ImageScores.of_array(tenfold).term(PAIR, used).variance < 0.2 * single.variance + 1e-12


def test_a_run_whose_predictions_are_not_kept_leaves_it_unknown_and_one_that_does_not_count_does_not():
    found, used = scores(), np.ones((2, 3), dtype=bool)
    found[1, 2] = np.nan
    assert np.isnan(ImageScores.of_array(found).term(PAIR, used).variance)
    used[1, 2] = False
    assert np.isfinite(ImageScores.of_array(found).term(PAIR, used).variance)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
def test_what_images_add_to_a_metric_is_its_jackknife(metric):
    """The mean is the metric; leaving an image out changes it as its part says, up to 1/N²."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 400) % 3
    predicted = np.where(rng.random(400) < 0.7, labels, rng.integers(0, 3, 400))
    function = {"balanced_accuracy": balanced_accuracy_score,
                "macro_f1": lambda a, b: f1_score(a, b, average="macro")}[metric]  # fmt: skip
    parts, whole = FROM_PREDICTIONS[f"test_{metric}"](labels, predicted), function(labels, predicted)
    assert parts.mean() == pytest.approx(whole)
    for i in range(0, 400, 37):
        without = function(np.delete(labels, i), np.delete(predicted, i))
        assert 400 * whole - 399 * without == pytest.approx(parts[i], abs=0.03)


def test_a_set_of_images_for_each_task_and_none_where_splits_are_drawn_again():
    def rows(trial, images):
        return [(trial, image, 0, image % 2, None) for image in images]

    columns = ["trial_id", "image", "label", "predicted", "contribution"]
    places = {"a": (0, 0), "b": (1, 0), "c": (2, 0)}
    two = pd.DataFrame(rows("a", range(4)) + rows("b", range(4)) + rows("c", range(9)), columns=columns)
    found = from_predictions(places, (3, 1), two, "test_accuracy")
    assert [part.rows.tolist() for part in found] == [[0, 1], [2]] and found[1].count == 9
    assert from_predictions(places, (3, 1), two, "test_auroc") == []
    again = pd.DataFrame(rows("a", range(4)) + rows("b", range(9)), columns=columns)
    assert from_predictions({"a": (0, 0), "b": (0, 1)}, (1, 2), again, "test_accuracy") == []


@pytest.mark.parametrize("world", [ImageWorld("fractional", 5, 270), ImageWorld("one-factor", 5, 1000, group=10)])
def test_intervals_on_new_images_cover_where_those_on_these_do_not(world):
    effects, means = measure_images(world, 60)
    assert effects["these"] < 0.93 and means["these"] < 0.9
    assert effects["new"] > 0.92 and means["new"] > 0.85  # 60 stages; new-images.md has 1,000
    if world.group > 1:
        assert effects["ungrouped"] < effects["new"] and means["ungrouped"] < means["new"]


def test_where_each_block_has_other_images_variances_about_blocks_cover_and_the_arms_own_are_too_wide():
    own, blocks = (
        measure_images(ImageWorld("one-factor", 5, 500, redrawn=True, variance=variance), 200)
        for variance in ("arms", "blocks")
    )
    assert own[0]["splits"] > 0.965 > blocks[0]["splits"] > 0.91  # 200 stages; new-images.md has 1,000
    assert own[1]["splits"] > 0.91 and "new" not in own[0]


def test_splits_of_each_block_take_variances_about_blocks_unless_the_study_says_otherwise():
    assert default_study(confirm={"splits": "per-block"}).confirm.variance == "blocks"
    assert default_study(confirm={"splits": "per-block", "variance": "arms"}).confirm.variance == "arms"
    assert default_study().confirm.variance == "arms"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("made")
    make_results(place, faults=False, test_images=300)
    return Results.open(place)


def test_new_plans_are_about_new_images_and_say_so_where_they_cannot_be(made):
    assert made.plan.about == "new"
    both = ConfirmRuns.of(made.plan, made.confirm, made.predictions)
    found, alone = estimate(both), estimate(ConfirmRuns.of(made.plan, made.confirm))
    assert set(found["verdict_on"]) == {"new images"} and set(alone["verdict_on"]) == {"these images"}
    assert alone["note"].str.contains("about these test images alone").all()
    assert ((found["high_new"] - found["low_new"]) >= (found["high_these"] - found["low_these"]) - 1e-12).all()
    assert (found["low"] == found["low_new"]).all() and (alone["low"] == alone["low_these"]).all()
    arms = performance(both)
    assert (arms["high_new"] - arms["low_new"] > arms["high"] - arms["low"]).any()


def test_images_of_one_group_count_together(made):
    """The groups that images.parquet has; none where arms were tested on different data."""
    (data,) = made.confirm["data_hash"].unique()
    numbers = np.sort(made.predictions["image"].unique())
    groups = [f"scene {number // 10}" for number in numbers]
    files = pd.DataFrame(
        {"data_hash": data, "image": numbers, "file": "x", "split": "test", "label": 0, "group": groups}
    )
    grouped = replace(made, images=files)
    assert made.image_groups is None
    assert len(set(grouped.image_groups.values())) == len(set(groups))
    by_image, by_group = (estimate(Findings(results).runs) for results in (made, grouped))
    assert (by_image["low_these"] == by_group["low_these"]).all()
    assert (by_image["standard_error"] != by_group["standard_error"]).any()
    elsewhere = made.trials["trial_id"] == made.confirm["trial_id"].iloc[0]
    trials = made.trials.assign(data_hash=made.trials["data_hash"].mask(elsewhere, "other"))
    assert replace(grouped, trials=trials).image_groups is None


def test_the_study_may_ask_for_these_images_and_older_plans_do(made):
    these = default_study(confirm={"seeds": 3, "design": "one-factor", "images": "these"})
    assert sketch(these).about == "these" and sketch(these).asked["images"] == "these"
    older = made.plan.__class__(**{k: v for k, v in made.plan.content().items() if k != "about"})
    assert older.about == "these" and older.seeds_from == made.plan.seeds_from
    assert "images" not in older.asked and older.plan_hash != made.plan.plan_hash


def test_splits_are_drawn_again_for_each_block_for_all_arms_alike():
    def splits(**confirm):
        study = default_study(confirm={"seeds": 3, "design": "one-factor"} | confirm)
        by_block = {}
        for _, block, _, config in sketch(study).trials(study):
            by_block.setdefault(block, set()).add(config.split_seed)
        return by_block, study.baseline_config(0).split_seed

    fixed, explored = splits()
    assert all(found == {explored} for found in fixed.values())
    drawn, _ = splits(splits="per-block")
    assert all(len(found) == 1 for found in drawn.values()) and len(set.union(*drawn.values())) == 3
    assert explored not in set.union(*drawn.values())


def test_redrawn_splits_are_what_verdicts_are_about_and_the_report_says_what_they_cost(tmp_path):
    study = default_study(confirm={"seeds": 3, "design": "one-factor", "splits": "per-block"})
    make_results(tmp_path / "again", study, faults=False, test_images=300)
    found = Findings(Results.open(tmp_path / "again"))
    assert found.results.plan.splits == "per-block"
    assert set(found.effects["verdict_on"]) == {"redrawn splits"}
    said = " ".join(plan_section.section(found).text)
    assert (
        "Each block of seeds has a split of its own, so intervals hold over splits of these data. The price: " in said
    )
    assert "are test images in some blocks." in said
    make_results(tmp_path / "fixed", faults=False, test_images=300)
    fixed = Findings(Results.open(tmp_path / "fixed"))
    assert "redrawn splits" not in set(fixed.effects["verdict_on"])
    assert "split of its own" not in " ".join(plan_section.section(fixed).text)


def test_a_prescribed_test_split_is_not_drawn_again():
    study = default_study(confirm={"seeds": 3, "design": "one-factor", "splits": "per-block"})
    key = data_key(study.baseline_config(0))
    check_splits(study, {key: SimpleNamespace(prescribed=frozenset({"val"}))})
    with pytest.raises(BadRequest, match=r"confirm.splits: per-block, but glyphs prescribes .* \(allowed: fixed\)"):
        check_splits(study, {key: SimpleNamespace(prescribed=frozenset({"test"}))})


@pytest.mark.parametrize("confirm", [{"images": "all"}, {"splits": "random"}])
def test_bad_input_names_the_key(confirm):
    content = {"name": "s", "dataset": {"name": "digits"}, "factors": {"kernel": {"levels": [3, 5]}}}
    with pytest.raises(BadRequest, match=f"confirm.{next(iter(confirm))}"):
        build_study(content | {"confirm": confirm}, "test")


def test_the_dry_run_says_when_more_seeds_cannot_help():
    def said(count, **confirm):
        study = default_study(confirm={"seeds": 3, "design": "one-factor"} | confirm)
        return "\n".join(foresight(study, None, count))

    few = said(300)
    assert (
        "300 test images" in few and "where arms differ on 0.5% of the images or more, no number of seeds finds" in few
    )
    assert "no number of seeds finds" not in said(1_000_000) and "1,000,000 test images" in said(1_000_000)
    assert "test images" not in said(300, images="these") and "test images" not in said(0)
