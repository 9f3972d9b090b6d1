"""Open a results folder, and compute what figures show: counts, curves, Pareto front, rungs, search progress."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_results import CLASSES, default_study, make_results
from scipy import stats

from resnetlab.analysis.evaluation.class_results import class_results, confusions
from resnetlab.analysis.explore.pareto import pareto
from resnetlab.analysis.explore.search_progress import levels_tried, search_progress
from resnetlab.analysis.explore.stopping import epochs_saved, rung_summary
from resnetlab.analysis.intervals import mean_interval
from resnetlab.analysis.learning_curves import learning_curves
from resnetlab.analysis.results import Results
from resnetlab.analysis.sweep_cost import cost, efficiency
from resnetlab.analysis.trial_outcomes import Counts, full_budget
from resnetlab.errors import BadRequest, FolderRefused
from resnetlab.study.records import Status


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("made")
    make_results(place)
    return place


@pytest.fixture(scope="module")
def results(place) -> Results:
    return Results.open(place)


def copy(place: Path, to: Path) -> Path:
    to.mkdir(exist_ok=True)
    for file in place.glob("*.*"):
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_folder_opens_with_typed_factors_and_null_where_inactive(results):
    assert results.plan is not None and results.missing == () and results.notes == ()
    assert len(results.explore) == results.study.search.trials
    assert len(results.confirm) == len(results.plan.arms) * results.plan.seeds
    adamw = results.trials[results.trials["optimizer"] == "adamw"]
    assert adamw["momentum"].isna().all() and results.trials["momentum"].notna().any()
    assert {type(level) for level in results.trials["shortcut"]} == {bool}
    assert {type(level) for level in results.trials["kernel"]} == {int}


def test_absent_tables_are_empty_and_named(place, tmp_path):
    copy(place, tmp_path)
    for name in ("rungs", "classes", "predictions"):
        (tmp_path / f"{name}.parquet").unlink()
    (tmp_path / "sweep.json").unlink()
    found = Results.open(tmp_path)
    assert found.missing == ("rungs", "classes", "predictions")
    assert found.sweep == {} and found.rungs.empty and "cutoff" in found.rungs.columns
    assert rung_summary(found.rungs).empty and class_results(found.classes, ["x"]).empty


def test_a_folder_that_is_none_and_one_that_is_damaged_are_told_apart(place, tmp_path):
    with pytest.raises(BadRequest, match=r"nowhere.*no study\.json"):
        Results.open(tmp_path / "nowhere")
    copy(place, tmp_path)
    (tmp_path / "epochs.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(FolderRefused, match=r"epochs\.parquet"):
        Results.open(tmp_path)
    copy(place, tmp_path)
    (tmp_path / "study.json").write_text('{"name": "made", "colour": 3}')
    with pytest.raises(FolderRefused, match=r"study\.json.*colour"):
        Results.open(tmp_path)
    copy(place, tmp_path)
    (tmp_path / "plan.json").write_text("[1]")
    with pytest.raises(FolderRefused, match=r"plan\.json.*object"):
        Results.open(tmp_path)


def test_a_plan_that_was_changed_is_said_so_and_its_runs_are_not_used(place, tmp_path):
    copy(place, tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps(plan | {"delta": 0.1}))
    found = Results.open(tmp_path)
    assert "changed after it was written" in found.notes[0] and plan["plan_hash"] in found.notes[0]
    assert found.confirm.empty and len(found.other_confirm) == len(plan["arms"]) * plan["seeds"]


def test_counts_name_every_ending_and_always_stopped_and_failed(results):
    counts = Counts.of(results.explore)
    assert counts.total == 30 == sum(counts.by_status.values())
    assert counts.lost == int(results.explore["status"].isin(["diverged", "failed", "out_of_memory"]).sum()) > 0
    assert "stopped early" in counts.words() and counts.words().startswith("30 explore trials: ")
    assert Counts.of(results.explore.head(0)).words() == "0 explore trials: 0 complete, 0 stopped early, 0 failed"


def test_learning_curves_are_the_rows_of_each_trial_in_order(results):
    curves = {curve.trial_id: curve for curve in learning_curves(results.trials, results.epochs)}
    for row in results.trials.itertuples():
        if row.epochs_run == 0:
            assert row.trial_id not in curves
            continue
        curve = curves[row.trial_id]
        assert curve.epochs.tolist() == list(range(1, row.epochs_run + 1))
        assert curve.values[-1] == row.val_accuracy and curve.status == row.status


def test_the_pareto_front_is_of_full_budget_trials_only(results):
    for name in ("parameters", "train_seconds"):
        points = pareto(results.explore, name)
        full = points[points["full"]]
        dominated = [
            ((full["cost"] <= p.cost) & (full["value"] >= p.value)
             & ((full["cost"] < p.cost) | (full["value"] > p.value))).any()
            for p in full.itertuples()
        ]  # fmt: skip
        assert (full["front"].to_numpy() == ~np.array(dominated)).all()
        assert not points.loc[~points["full"], "front"].any() and (~points["full"]).any()
        assert set(full["trial_id"]) == set(full_budget(results.explore)["trial_id"])


def test_seconds_of_stopped_trials_are_put_on_the_full_budget():
    trials = pd.DataFrame(
        {
            "trial_id": ["a", "b"], "status": ["complete", "stopped"], "epochs_run": [9, 3], "epochs_allowed": [9, 9],
            "train_seconds": [9.0, 3.0], "parameters": [10, 20], "val_accuracy": [0.5, 0.9],
        }
    )  # fmt: skip
    points = pareto(trials, "train_seconds").set_index("trial_id")
    assert points["cost"].tolist() == [9.0, 9.0] and points["front"].tolist() == [True, False]
    assert pareto(trials, "parameters")["cost"].tolist() == [10.0, 20.0]


def test_rungs_add_up(results):
    summary = rung_summary(results.rungs)
    assert summary["epoch"].tolist() == results.study.search.rungs[: len(summary)]
    assert (summary["went_on"] + summary["stopped"] + summary["exempt"] == summary["arrived"]).all()
    assert summary["stopped"].sum() == (results.explore["status"] == Status.STOPPED).sum()
    assert summary["arrived"].sum() == len(results.rungs)


def test_search_progress_spends_lost_epochs_and_ranks_full_budget_trials_only(results):
    progress = search_progress(results.explore)
    assert progress.points["spent"].iloc[-1] == results.explore["epochs_run"].sum()
    best = full_budget(results.explore)["val_accuracy"].max()
    assert progress.by_number["best"].iloc[-1] == progress.by_epochs["best"].iloc[-1] == best
    assert progress.by_epochs["best"].is_monotonic_increasing and progress.by_number["at"].is_monotonic_increasing
    stopped_higher = results.explore.assign(
        val_accuracy=results.explore["val_accuracy"].where(results.explore["status"] != Status.STOPPED, 0.999)
    )
    assert search_progress(stopped_higher).by_epochs["best"].iloc[-1] == best


def test_levels_tried_say_how_many_reached_the_full_budget(results):
    tried = levels_tried(results.explore, {"shortcut": (True, False), "blocks": (1, 2, 3)})
    assert tried.groupby("factor")["trials"].sum().to_dict() == {"blocks": 30, "shortcut": 30}
    assert (tried["full"] + tried["stopped"] + tried["lost"] == tried["trials"]).all()
    never = tried[tried["full"] == 0]
    assert never["best"].isna().all()


def test_mean_interval_is_the_t_interval():
    values = pd.Series([0.81, 0.83, 0.84, np.nan])
    mean, low, high, n = mean_interval(values)
    wanted = stats.t.interval(0.95, 2, loc=0.8266666666666667, scale=stats.sem([0.81, 0.83, 0.84]))
    assert n == 3 and (low, high) == pytest.approx(wanted) and mean == pytest.approx(0.8266666666666667)
    assert np.isnan(mean_interval(values.head(1))[1]) and mean_interval(values.tail(1))[3] == 0


def test_class_results_agree_with_the_predictions(results):
    ids = results.confirm[results.confirm["arm"] == "incumbent"]["trial_id"].tolist()
    found = class_results(results.classes, ids).set_index("class")
    rows = results.predictions[results.predictions["trial_id"].isin(ids)]
    for number, of_class in rows.groupby("label"):
        recall = (of_class["predicted"] == number).groupby(of_class["trial_id"]).mean()
        assert found.loc[number, "recall"] == pytest.approx(recall.mean())
        assert found.loc[number, "low"] == pytest.approx(recall.min())
        assert found.loc[number, "precision"] == pytest.approx(
            (rows[rows["predicted"] == number]["label"] == number).mean()
        )
        assert found.loc[number, "name"] == CLASSES[number]
    assert found["recall"].is_monotonic_increasing and found.index[0] == 0  # the one made hardest
    wrong = confusions(results.predictions, ids, dict(enumerate(CLASSES)))
    assert wrong["count"].is_monotonic_decreasing and wrong["label"].iloc[0] == CLASSES[0]
    assert (wrong["label"] != wrong["predicted"]).all()


def test_cost_counts_every_trial_and_epoch(results):
    found = cost(results.trials)
    assert found["trials"].sum() == len(results.trials)
    assert found["epochs_run"].sum() == len(results.epochs)
    assert found["train_seconds"].sum() == pytest.approx(results.trials["train_seconds"].sum())
    stopped = results.explore[results.explore["status"] == Status.STOPPED]
    assert epochs_saved(results.explore) == 9 * len(stopped) - stopped["epochs_run"].sum()
    session = {"busy_seconds": 90, "slots": 2, "wall_seconds": 50, "ended": "2026-03-02T09:30:00+00:00"}
    killed = {"busy_seconds": 0, "slots": 2, "wall_seconds": 1e-5, "ended": None}
    assert efficiency(session).share == 0.9
    both = efficiency(killed | {"sessions": [session, session, killed]})
    assert (both.share, both.sessions) == (0.9, 2)
    assert efficiency(killed) is None and efficiency({}) is None
    told = session | {"reports": 40, "report_seconds": 0.02, "sampler_seconds": 3.0, "publish_seconds": 0.5}
    both = efficiency(session | {"sessions": [told, told, session]})  # the last is of before that was recorded
    assert (both.reports, both.driver, both.sampler, both.publishing) == (80, 0.04, 6.0, 1.0)


def test_a_study_of_one_trial_has_curves_and_no_interval(tmp_path):
    make_results(tmp_path, default_study(search={"trials": 1, "epochs": 3}), confirm=False, faults=False)
    found = Results.open(tmp_path)
    assert found.plan is None and found.confirm.empty and found.classes.empty
    assert pareto(found.explore, "parameters")["front"].tolist() == [True]
    assert len(search_progress(found.explore).by_number) == 1 and len(learning_curves(found.trials, found.epochs)) == 1
