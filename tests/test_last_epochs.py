"""The mean of the last epochs as what is confirmed: what a run measures, what is said of it, where it is refused."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from sweeps_here import run_here

from resnetlab.analysis.results import Results
from resnetlab.driver import rerun
from resnetlab.driver.checks.dataset_record import guessing
from resnetlab.driver.dry_run import confirm_stage
from resnetlab.errors import BadRequest
from resnetlab.experiment.own_parts import scores
from resnetlab.planning.plan import asked
from resnetlab.report.build import build_report
from resnetlab.report.findings import Findings
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import build_study
from resnetlab.study.metrics import METRICS
from resnetlab.study.trial_config import TrialConfig
from resnetlab.sweep.task import data_key
from resnetlab.vision.data import DataConfig, prepare
from resnetlab.vision.training.checkpoint import CheckpointDamaged, load, save
from resnetlab.vision.training.loop import Training
from resnetlab.writeup import documents

ROOT = Path(__file__).resolve().parents[1]
MLP = {"model": "mlp", "batch_size": 32, "lr": 0.05}


def study(baseline=None, **confirm):
    return build_study({
        "name": "s", "dataset": {"name": "digits", "limit": 400}, "metrics": ["auroc", "balanced_accuracy"],
        "baseline": MLP | (baseline or {}), "factors": {"batch_size": {"levels": [32, 64]}},
        "search": {"trials": 1, "epochs": 4},
        "confirm": {"design": "one-factor", "seeds": 3, "last_epochs": 3} | confirm,
    }, "here")  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare(DataConfig(name="digits", limit=400), tmp_path_factory.mktemp("cache"))


def trained(data, state=None, until=5, **how):
    config = TrialConfig(data=DataConfig(name="digits", limit=400), epochs=5, seed=3, **MLP)
    training = Training(config, data, state=state, scores=scores(("auroc", "balanced_accuracy"), None), **how)
    while training.epoch < until:
        training.run_epoch()
    return training


@pytest.mark.parametrize("metric", ["accuracy", "loss", "auroc", "balanced_accuracy"])
def test_a_run_tests_its_last_epochs_and_means_are_of_what_each_gives_alone(data, metric):
    each = [trained(data, until=epoch, confirmed=metric).test() for epoch in (3, 4, 5)]
    found = trained(data, confirmed=metric, last_epochs=3).test()
    values = [
        {"accuracy": one.accuracy, "loss": one.loss}.get(metric, one.metrics.get(f"test_{metric}")) for one in each
    ]
    assert len(set(values)) > 1 and found.metrics[f"test_{metric}_last_3"] == pytest.approx(np.mean(values), rel=1e-12)
    assert found.contribution.mean() == pytest.approx(np.mean(values), rel=1e-6)
    assert found.accuracy == each[-1].accuracy and (found.predictions == each[-1].predictions).all()
    alone = trained(data, confirmed=metric).test()
    assert alone.metrics.keys() == found.metrics.keys() - {f"test_{metric}_last_3"}


@pytest.mark.parametrize("left_at", [1, 2, 3, 4, 5])
def test_a_run_that_was_left_goes_on_to_the_same_mean(data, left_at):
    whole = trained(data, last_epochs=3).test()
    left = load(save(trained(data, until=left_at, last_epochs=3).state()))
    again = trained(data, left, last_epochs=3).test()
    assert again.metrics == whole.metrics and (again.contribution == whole.contribution).all()


def test_a_checkpoint_that_lacks_epochs_of_the_mean_is_not_used(data):
    trained(data, trained(data, until=2).state(), until=3, last_epochs=3)  # none of them had ended
    with pytest.raises(CheckpointDamaged, match="holds 0 of the last epochs"):
        trained(data, trained(data, until=4).state(), last_epochs=3)


def test_runs_that_do_not_confirm_never_read_the_test_split(data, tmp_path, monkeypatch):
    read = []
    evaluate = Training._evaluate
    monkeypatch.setattr(Training, "_evaluate", lambda self, split: (read.append(split), evaluate(self, split))[1])
    run_here(study(), tmp_path / "s", tmp_path / "cache", until=1)
    assert read == ["val"] * 4
    run_here(study(), tmp_path / "s", tmp_path / "cache", until=1)
    assert read[4:] == ["val", "val", "test", "val", "test", "val", "test"]


def test_effects_on_it_have_both_intervals_and_say_what_they_are_of(tmp_path):
    ResultsFolder.at(tmp_path / "s").write_json("study.json", study().recorded())
    run_here(study(), tmp_path / "s", tmp_path / "cache")
    results = Results.open(tmp_path / "s")
    confirm = results.confirm.set_index("trial_id")
    assert confirm["test_accuracy_last_3"].notna().all()
    assert (confirm["test_accuracy_last_3"] != confirm["test_accuracy"]).any()
    by_trial = results.predictions.groupby("trial_id")["contribution"].mean()
    assert by_trial[confirm.index].to_numpy() == pytest.approx(confirm["test_accuracy_last_3"].to_numpy(), rel=1e-5)
    effects = Findings(results).effects
    by_arm = confirm.groupby("design_row")["test_accuracy_last_3"].mean()
    assert abs(effects["estimate"].iloc[0]) == pytest.approx(abs(by_arm.iloc[1] - by_arm.iloc[0]))
    assert set(effects["verdict_on"]) == {"new images"} and np.isfinite(effects["low_new"]).all()
    assert results.plan.content()["metric"]["name"] == "test_accuracy_last_3"
    assert "test accuracy over the last 3 epochs" in build_report(tmp_path / "s").read_text()
    row = next(row for row in results.trials.to_dict("records") if row["phase"] == "confirm")
    again = rerun.rerun(results.folder, row, rerun.Place(cache=tmp_path / "cache"), lambda line: None)
    assert again.identical and again.metric.name == "test_accuracy_last_3"
    files = documents.as_markdown(Findings(results))
    assert "test accuracy over the last 3 epochs, which was read in each of these 3 and nowhere" in files["methods.md"]
    assert "in each of its last 3 epochs, whose mean is compared" in files["checklist.md"]


def test_a_folder_goes_on_with_another_plan_where_it_is_asked_for_later(tmp_path):
    run_here(study(last_epochs=1), tmp_path / "s", tmp_path / "cache")
    rows = run_here(study(), tmp_path / "s", tmp_path / "cache")
    ResultsFolder.at(tmp_path / "s").write_json("study.json", study().recorded())
    confirm = [row for row in rows if row["phase"] == "confirm"]
    assert len(confirm) == 2 * 3 * 2 and len({row["plan_hash"] for row in confirm}) == 2
    assert sum(row.get("test_accuracy_last_3") is not None for row in confirm) == 2 * 3
    assert Findings(Results.open(tmp_path / "s")).effects["n"].tolist() == [3]


def test_the_dry_run_says_so():
    assert "  compared on test accuracy over the last 3 epochs, in each of which a run reads the test split" in list(
        confirm_stage(study())
    )
    assert not any("epochs, in each" in line for line in confirm_stage(study(last_epochs=1)))


def test_a_study_without_it_is_the_study_that_it_was():
    without = study().recorded()
    del without["confirm"]["last_epochs"]
    plain = build_study(without, "here")
    assert asked(plain) == asked(study(last_epochs=1)) != asked(study()) and "last_epochs" not in asked(plain)
    assert plain.confirmed == METRICS["test_accuracy"] and plain.measures == study(last_epochs=1).measures


def test_guessing_is_that_of_the_metric(data):
    levels = [guessing(one, {data_key(one.baseline_config(0)): data}) for one in (study(last_epochs=1), study())]
    assert levels[0] == levels[1] and 0.1 < levels[0][""] < 0.25
    auroc = study(metric="auroc")
    assert auroc.confirmed.label == "Test AUROC over the last 3 epochs" and auroc.confirmed_score == "auroc"


@pytest.mark.parametrize(
    ("baseline", "confirm", "said"),
    [
        (
            {"schedule": "one-cycle"},
            {},
            "confirm.last_epochs: 3 with schedule one-cycle: while the learning rate falls",
        ),
        ({"schedule": "cosine"}, {}, "confirm.last_epochs: 3 with schedule cosine"),
        ({"schedule": "step"}, {}, "confirm.last_epochs: 3 with schedule step"),
        ({"schedule": "constant-exponential"}, {}, "(allowed: 1, or schedule: constant)"),
        ({}, {"last_epochs": 5}, "confirm.last_epochs: 5, but runs have 4 (allowed: 1 to 4)"),
        ({}, {"last_epochs": 0}, "last_epochs"),
        ({}, {"design": "none"}, "confirm.last_epochs: 3, but nothing is confirmed"),
    ],
)
def test_where_it_cannot_be_is_refused(baseline, confirm, said):
    with pytest.raises(BadRequest) as error:
        study(baseline, **confirm)
    assert said in str(error.value)


def test_a_schedule_that_falls_in_one_arm_or_level_is_refused():
    content = {"name": "s", "dataset": {"name": "digits"}, "search": {"trials": 1, "epochs": 4}, "baseline": MLP}
    arms = {"arms": {"a": {}, "b": {"schedule": "cosine"}}, "confirm": {"design": "arms", "last_epochs": 2}}
    levels = {"factors": {"schedule": {"levels": ["constant", "cosine"]}}, "confirm": {"last_epochs": 2}}
    for more in (arms, levels):
        with pytest.raises(BadRequest, match=r"confirm\.last_epochs: 2 with schedule cosine: "):
            build_study(content | more, "here")
    short = {"arms": {"a": {}, "b": {"epochs": 1}}, "confirm": {"design": "arms", "last_epochs": 2}}
    with pytest.raises(BadRequest, match="but runs have 1 "):
        build_study(content | short, "here")


def test_the_reason_that_is_given_is_the_one_that_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    found = importlib.import_module("last_epochs").everywhere(3)
    falling = [-one.less.mean() for one in found if one.schedule == "one-cycle"]
    steady = [one for one in found if one.schedule == "constant"]
    assert len(falling) >= 3 and (round(min(falling)), round(max(falling))) == (2, 13)
    assert len(steady) >= 3 and all(one.ratio < 1 for one in steady)
