"""A task that hands over what it took each item for: per-class tables and confusion appear, and only then."""

import pyarrow.parquet as pq
import pytest
from sweeps_here import run_here

from resnetlab.driver import rerun
from resnetlab.experiment import messages, own
from resnetlab.experiment.task_run import item_predictions
from resnetlab.report.build import build_report
from resnetlab.storage.results_folder import ResultsFolder

TREE = """
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

METRICS = {"val_error": "min", "test_error": "min"}

def train(trial, *, depth: int = 2):
    x, y = load_breast_cancer(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.3, random_state=trial.split_seed)
    x, x_val, y, y_val = train_test_split(x, y, test_size=0.3, random_state=trial.split_seed)
    tree = DecisionTreeClassifier(max_depth=depth, splitter="random", random_state=trial.seed("tree")).fit(x, y)
    yield {"val_error": 1 - tree.score(x_val, y_val)}
    guessed = tree.predict(x_test)
    return {
        "test_error": float((guessed != y_test).mean()),
        "predictions": {"labels": y_test, "predicted": guessed, "classes": ["malignant", "benign"]},
    }
"""
STUDY = """
experiment: tree.py:train
baseline: {depth: 1}
factors: {depth: {levels: [1, 4]}}
search: {trials: 2, epochs: 1}
confirm: {design: one-factor, seeds: 3, delta: 0.01}
"""


def swept(place, code=TREE):
    (place / "tree.py").write_text(code)
    (place / "study.yaml").write_text(STUDY)
    study = own.load(place / "study.yaml")
    ResultsFolder.at(place / "results").write_json("study.json", study.recorded())
    return study, run_here(study, place / "results", place / "cache")


def test_predictions_of_a_task_become_classes_confusion_and_pairs(tmp_path):
    _, rows = swept(tmp_path)
    confirm = {row["trial_id"]: row for row in rows if row["phase"] == "confirm"}
    found = pq.read_table(tmp_path / "results/predictions.parquet").to_pandas()
    assert set(found["trial_id"]) == set(confirm) and len(found) == 171 * len(confirm)
    for trial_id, part in found.groupby("trial_id"):
        assert (part["label"] != part["predicted"]).mean() == pytest.approx(confirm[trial_id]["test_error"])
    classes = pq.read_table(tmp_path / "results/classes.parquet").to_pylist()
    assert {row["name"] for row in classes} == {"malignant", "benign"}
    page = build_report(tmp_path / "results").read_text()
    assert 'id="classes"' in page and 'id="paired"' in page and "confusion-1" in page and "malignant" in page
    assert 'id="ensembles"' not in page
    folder = ResultsFolder.at(tmp_path / "results")
    row = rerun.find(folder, str(next(iter(confirm.values()))["number"]))
    place = rerun.Place(cache=tmp_path / "cache")
    assert rerun.rerun(folder, row, place, lambda line: None).identical
    table = pq.read_table(tmp_path / "results/predictions.parquet")
    other = [1 - value for value in table["predicted"].to_pylist()]
    at = table.column_names.index("predicted")
    pq.write_table(table.set_column(at, table.schema.field(at), [other]), tmp_path / "results/predictions.parquet")
    assert "171 of 171 test images get another class" in rerun.rerun(folder, row, place, lambda line: None).differences


def test_without_predictions_the_sections_are_left_out(tmp_path):
    handed = '"predictions": {"labels": y_test, "predicted": guessed, "classes": ["malignant", "benign"]},'
    without = TREE.replace(handed, "")
    assert without != TREE
    swept(tmp_path, without)
    page = build_report(tmp_path / "results").read_text()
    assert 'id="effects"' in page and not any(f'id="{key}"' in page for key in ("classes", "paired", "ensembles"))


@pytest.mark.parametrize(
    "given, words",
    [
        (3, "got int (allowed: a mapping of labels and predicted"),
        ({"labels": [0, 1]}, "got labels (allowed: a mapping of labels and predicted"),
        ({"labels": [0, 1], "predicted": [0]}, "2 labels, 1 predicted and 2 items (allowed: equally many)"),
        ({"labels": [0, 1], "predicted": [0.2, 0.8]}, "predicted: got float64 of shape (2,) (allowed: integers from 0"),
        ({"labels": [0, -1], "predicted": [0, 1]}, "labels: got int64"),
        ({"labels": [], "predicted": []}, "labels: got float64 of shape (0,)"),
        ({"labels": [0, 1], "predicted": [0, 2], "classes": ["a", "b"]}, "3 classes with 2 names"),
        ({"labels": [0, 1], "predicted": [0, 1], "classes": ["a", "a"]}, "2 classes with 2 names"),
        ({"labels": [0, 1], "predicted": [0, 1], "items": [4, 4]}, "items: one number stands for two items"),
        ({"labels": [0, 1], "predicted": [0, 1], "scores": []}, "got 'scores'"),
    ],
)
def test_what_are_no_predictions_is_said(given, words):
    with pytest.raises(ValueError) as caught:
        item_predictions(given)
    assert words in str(caught.value)


def test_a_task_with_bad_predictions_fails_in_its_own_terms(tmp_path, monkeypatch):
    monkeypatch.setattr(messages, "REPORTS_AFTER", 0.0)
    _, rows = swept(tmp_path, TREE.replace('"predicted": guessed', '"predicted": guessed[:5]'))
    reasons = [row["reason"] for row in rows if row["phase"] == "confirm"]
    wanted = "experiment: tree.py:train: on the test split: predictions: 171 labels, 5 predicted and 171 items"
    assert len(reasons) == 6 and all(wanted in reason for reason in reasons)
