"""What each image adds to a metric: the jackknife, the sampling error of the metric, and the way to the report."""

import numpy as np
import pytest
from sweeps_here import run_here

from resnetlab.analysis.results import Results
from resnetlab.experiment.contributions import contributions
from resnetlab.experiment.scores import BUILT_IN
from resnetlab.report.findings import Findings
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import build_study

METRICS = ["top5", "cross_entropy", "calibration_error", "auroc"]


def made(rng, images, classes=7):
    """Labels, and overconfident logits that are right more often than not."""
    labels = rng.integers(0, classes, images)
    return labels, 2.5 * (rng.normal(size=(images, classes)) + 1.5 * (labels[:, None] == np.arange(classes)))


@pytest.mark.parametrize("metric", METRICS)
def test_their_mean_is_the_metric_and_leaving_an_image_out_changes_it_as_they_say(metric):
    labels, scores = made(np.random.default_rng(0), 600)
    scores[:200] = np.round(scores[:200])  # with ties
    whole, parts = BUILT_IN[metric].of(labels, scores), contributions(metric, labels, scores)
    assert parts.shape == (600,) and parts.mean() == pytest.approx(whole)
    for i in range(0, 600, 61):
        without = BUILT_IN[metric].of(np.delete(labels, i), np.delete(scores, i, axis=0))
        assert 600 * whole - 599 * without == pytest.approx(parts[i], abs=0.03)


@pytest.mark.parametrize("metric", METRICS)
def test_their_spread_is_the_metric_s_standard_error_on_other_images(metric):
    """Over 600 test sets of 400 images, of which the standard deviation is known to 3% itself."""
    rng = np.random.default_rng(1)
    found = [(BUILT_IN[metric].of(*drawn), contributions(metric, *drawn).std() / 20)
             for drawn in (made(rng, 400) for _ in range(600))]  # fmt: skip
    values, errors = np.transpose(found)
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.12)


def test_of_the_other_metrics_nothing_is_kept():
    labels, scores = made(np.random.default_rng(2), 50)
    assert contributions("macro_f1", labels, scores) is None and contributions("mine", labels, scores) is None
    assert contributions("loss", labels, scores).mean() == pytest.approx(BUILT_IN["cross_entropy"].of(labels, scores))


@pytest.mark.parametrize("metric", ["auroc", "loss"])
def test_effects_on_such_a_metric_have_an_interval_on_new_images(metric, tmp_path):
    study = build_study({
        "name": "s", "dataset": {"name": "digits", "limit": 300}, "metrics": ["auroc"],
        "baseline": {"model": "mlp", "batch_size": 64, "lr": 0.05}, "factors": {"batch_size": {"levels": [32, 64]}},
        "search": {"trials": 1, "epochs": 1}, "confirm": {"design": "one-factor", "seeds": 3, "metric": metric},
    }, "here")  # fmt: skip
    folder = ResultsFolder.at(tmp_path / "s")
    folder.write_json("study.json", study.recorded())
    run_here(study, tmp_path / "s", tmp_path / "cache")
    results = Results.open(tmp_path / "s")
    by_trial = results.predictions.groupby("trial_id")["contribution"].mean()
    confirmed = results.confirm.set_index("trial_id")[f"test_{metric}"]
    assert by_trial[confirmed.index].to_numpy() == pytest.approx(confirmed.to_numpy(), rel=1e-5)
    effects = Findings(results).effects
    assert set(effects["verdict_on"]) == {"new images"} and np.isfinite(effects["low_new"]).all()
    assert (effects["high_new"] - effects["low_new"] >= effects["high_these"] - effects["low_these"]).all()
