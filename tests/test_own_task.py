"""A user's own task that has nothing to do with images: from the study file to the report."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from docs_here import of_the_docs
from doors import Door, tree
from pydantic import BaseModel
from sweeps_here import run_here

from resnetlab.analysis.results import Results
from resnetlab.comparison.folders import Comparison
from resnetlab.driver import rerun
from resnetlab.driver.checks import rehearsal
from resnetlab.driver.checks.extend import check_identity
from resnetlab.driver.dry_run import describe
from resnetlab.errors import BadRequest, FolderRefused, TrialsFailed
from resnetlab.experiment import messages, own
from resnetlab.experiment.messages import Ending, Task, TrialContext
from resnetlab.experiment.task_run import Diverged
from resnetlab.report.build import build_report
from resnetlab.report.findings import Findings
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.schema import schema
from resnetlab.study import build_study
from resnetlab.study.records import Phase
from resnetlab.study.trial_config import COLUMNS, TaskConfig, TrialConfig
from resnetlab.vision.own_task import KEPT, begin, pack, unpack
from resnetlab.web import pages
from resnetlab.writeup import documents

pytestmark = pytest.mark.usefixtures("warm_processes")

ROOT = Path(__file__).resolve().parents[1]
OWN = Path(__file__).with_name("own_code")
CUT = {"search.trials": 3, "search.epochs": 4, "search.grace_period": 1, "confirm.seeds": 2}
STUDY = """
experiment: mine.py:train
objective: val_loss
factors: {depth: {levels: [1, 2]}}
search: {trials: 2, epochs: 3, grace_period: 1, reduction_factor: 2}
confirm: {design: one-factor, seeds: 2, delta: 0.1}
"""
TASK = """
METRICS = {"val_loss": "min", "test_loss": "min"}

def train(trial, *, depth: int = 2):
    for epoch in range(trial.epochs):
        yield {"val_loss": (trial.seed("noise") % 100) / 1000 + 1 / depth / (epoch + 1)}
    return {"test_loss": (trial.seed("noise") % 100) / 1000 + 1 / depth} if trial.may_test else None
"""
STATEFUL = '''
import numpy as np

METRICS = {"val_loss": "min", "test_loss": "min"}

class Walk:
    """A random walk that counts its epochs in this process."""

    ran = []

    def __init__(self, settings, trial, *, depth: int = 2):
        self.trial, self.depth = trial, depth
        self.random = np.random.default_rng(trial.seed("walk"))
        self.place = np.zeros(depth)

    def epoch(self):
        Walk.ran.append(len(Walk.ran))
        self.place = self.place + self.random.normal(size=self.depth)
        return {"val_loss": float(np.abs(self.place).sum())}

    def test(self):
        return {"test_loss": float(np.abs(self.place).mean())}

    def state(self):
        return {"place": self.place, "random": self.random.bit_generator.state}

    def load(self, state):
        self.place, self.random.bit_generator.state = state["place"], state["random"]
'''.replace("self, settings, trial, *", "self, trial, *")
FOREST = """
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import train_test_split

METRICS = {"val_r2": "max", "test_r2": "max"}

def train(trial, *, trees: int = 10, depth: int = 3):
    x, y = load_diabetes(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.2, random_state=trial.split_seed)
    x, x_val, y, y_val = train_test_split(x, y, test_size=0.2, random_state=trial.split_seed)
    model = RandomForestRegressor(trees, max_depth=depth, random_state=trial.seed("forest"), n_jobs=trial.threads)
    model.fit(x, y)
    yield {"val_r2": model.score(x_val, y_val)}
    return {"test_r2": model.score(x_test, y_test)} if trial.may_test else None
"""


def written(place, text=STUDY, code=TASK):
    place.mkdir(parents=True, exist_ok=True)
    (place / "mine.py").write_text(code)
    (place / "study.yaml").write_text(text)
    return place / "study.yaml"


def loaded(place, text=STUDY, code=TASK, **changes):
    return own.load(written(place, text, code), changes)


def test_a_setting_of_a_task_may_be_called_like_anything_that_a_config_has(tmp_path):
    names = [name for name in dir(TaskConfig) if not name.startswith("_") and not hasattr(BaseModel, name)]
    assert {"own", "trial_id", "identity"} <= set(names)
    code = TASK.replace("depth: int = 2", "depth: int = 2, " + ", ".join(f"{name}: int = 1" for name in names))
    text = STUDY + "baseline: {" + ", ".join(f"experiment.{name}: 2" for name in names) + "}\n"
    config = loaded(tmp_path, text, code).baseline_config(0)
    again = pickle.loads(pickle.dumps(config))
    assert again == config and again.trial_id == config.trial_id and "experiment.identity=2" in config.own_words


def swept(study, place, cache, until=None):
    folder = ResultsFolder.at(place)
    folder.write_json("study.json", study.recorded())
    return run_here(study, place, cache, until)


def test_effects_of_changed_code_are_not_pooled(tmp_path, cache):
    for name, code in (("a", TASK), ("b", TASK), ("c", TASK.replace("1 / depth", "2 / depth"))):
        swept(loaded(tmp_path / f"{name}-code", code=code, seed=ord(name)), tmp_path / name / "study", cache)
    places = {name: str(tmp_path / name / "study") for name in "abc"}
    (alike,) = Comparison.of([places["a"], places["b"]]).compared
    (changed,) = Comparison.of([places["a"], places["c"]]).compared
    assert alike.pooled is not None and changed.pooled is None
    assert changed.why == "their baselines differ (own code)"


@pytest.fixture(autouse=True)
def _one_epoch_a_step(request, monkeypatch):
    if "short" not in request.node.name:
        monkeypatch.setattr(messages, "REPORTS_AFTER", 0.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def study():
    return own.load(OWN / "own-task.yaml", CUT)


@pytest.fixture(scope="module")
def results(study, cache, tmp_path_factory):
    """A whole sweep of the wished-for study with the workers of this process."""
    place = tmp_path_factory.mktemp("results") / study.name
    swept(study, place, cache)
    return place


def test_a_trial_is_its_budget_its_seeds_and_the_settings_of_the_task(study):
    config = study.baseline_config(seed=5)
    assert set(config.model_dump()) == {
        "epochs", "seed", "split_seed", "experiment", "hidden", "layers", "huber", "lr",
    }  # fmt: skip
    assert (config.hidden, config.layers, config.huber, config.lr, config.epochs) == (32, 1, False, 0.01, 4)
    again = pickle.loads(pickle.dumps(config))
    assert again == config and again.trial_id == config.trial_id and not isinstance(config, TrialConfig)
    assert study.own_columns == {"layers": "int", "huber": "bool", "lr": "float"}
    assert config.trial_id != study.config(study.baseline_values() | {"layers": 0}, seed=5).trial_id


def test_a_study_of_a_task_is_data_and_is_read_without_its_code(study):
    again = build_study(json.loads(json.dumps(study.recorded())), "study.json")
    assert again.identity() == study.identity() and again.study_hash == study.study_hash
    assert again.searched.name == "val_rmse" and again.searched.better == "lower"
    assert again.confirmed.name == "test_rmse" and "dataset" not in study.recorded()


def test_the_columns_are_the_task_s_and_no_settings_of_images(results, study):
    trials, epochs = (pq.read_table(results / f"{name}.parquet") for name in ("trials", "epochs"))
    fixed = set(schema("trials").names)
    assert set(trials.column_names) - fixed == {"layers", "huber", "lr", "val_rmse", "test_rmse"}
    assert {"val_rmse", "train_loss"} <= set(epochs.column_names) and "test_rmse" not in epochs.column_names
    rows = epochs.to_pylist()
    assert all(row["train_loss"] > 0 and row["val_rmse"] > 0 and row["train_seconds"] > 0 for row in rows)
    assert all(row["val_accuracy"] is None for row in rows)
    about = epochs.schema.field(
        "train_loss"
    ).metadata  # a column of ours, which the task fills with a number of its own
    assert about[b"unit"] == b"" and about[b"meaning"].startswith(b"training loss;")
    assert epochs.schema.field("lr").metadata[b"meaning"] == b"learning rate of the last step"
    confirm = [row for row in trials.to_pylist() if row["phase"] == "confirm"]
    assert len(confirm) == 8 and all(row["test_rmse"] > 0 for row in confirm)
    assert all(row["test_rmse"] is None for row in trials.to_pylist() if row["phase"] != "confirm")
    assert len({row["split_seed"] for row in confirm}) == 1


def test_the_report_speaks_of_the_task_and_of_no_images(results):
    found = Results.open(results)
    assert {"layers", "huber"} <= set(found.planned.compared)
    text = build_report(results).read_text()
    shown = re.sub(r"<(style|script)\b.*?</\1>|<[^>]+>", " ", text, flags=re.S)
    assert "my_task.py:train" in shown and "Test rmse" in shown and "Lower rmse is better" in shown
    assert "Which settings to use" in shown
    for word in ("accuracy", "Accuracy", "images", "confusion", "etwork", "Parameters", "multiply-adds", "--export"):
        assert word not in shown, f"{word}: {shown[shown.index(word) - 80 : shown.index(word) + 80]}"


def test_a_trial_s_page_has_the_numbers_of_the_task_in_its_own_units(results):
    table = pages._epochs(Results.open(results), Results.open(results).trials["trial_id"].iloc[0])
    assert table.headings[:3] == ["Epoch", "Validation rmse", "Training loss"] and "lr" not in table.headings
    assert not any("nats" in cell for row in table.rows for cell in row)


def test_what_is_written_up_speaks_of_the_task_and_of_no_images(results):
    text = "\n".join(documents.as_markdown(Findings(Results.open(results))).values()).replace("\\", "")
    assert "the study's own task, my_task.py:train" in text and "No run was left out by hand." in text
    text = re.sub(r"(?s)@\w+\{.*?\n\}", "", text)  # the titles of works that are cited
    for word in ("image", "etwork", "guessing", "classes", "accuracy", "augment"):
        assert word not in text, f"{word}: {text[text.index(word) - 80 : text.index(word) + 80]}"


def test_the_dry_run_names_the_task_and_no_network(study):
    lines = "\n".join(describe(study, {}))
    assert "task: my_task.py:train" in lines and "layers (compared): 0, 1" in lines and "cost: at most" in lines
    assert not any(word in lines for word in ("image", "parameters", "multiply-adds", "data:", "accuracy"))


@pytest.mark.parametrize("short", [0.0, 60.0], ids=["an epoch a report", "short epochs"])
def test_a_trial_runs_again_from_the_code_in_the_folder(short, results, cache, monkeypatch):
    monkeypatch.setattr(messages, "REPORTS_AFTER", short)
    folder = ResultsFolder.at(results)
    stopped = [row["number"] for row in Results.open(results).trials.to_dict("records") if row["status"] == "stopped"]
    for number in ("0", *map(str, stopped), "5"):
        row = rerun.find(folder, number)
        outcome = rerun.rerun(folder, row, rerun.Place(cache=cache), lambda line: None)
        assert outcome.identical and outcome.compared == row["epochs_run"], outcome.differences
    assert outcome.metric.name == "test_rmse" and outcome.measured == row["test_rmse"]


def test_a_rerun_tells_numbers_that_differ(results, cache, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)
    table = pq.read_table(copy / "trials.parquet")
    place = table.column_names.index("test_rmse")
    rows = [None if value is None else value + 1 for value in table["test_rmse"].to_pylist()]
    pq.write_table(table.set_column(place, table.schema.field(place), [rows]), copy / "trials.parquet")
    folder = ResultsFolder.at(copy)
    outcome = rerun.rerun(folder, rerun.find(folder, "5"), rerun.Place(cache=cache), lambda line: None)
    assert not outcome.identical and "test_rmse: " in outcome.differences[0]


def _numbers(rows):
    times = {"started", "ended", "train_seconds", "setup_seconds", "checkpoint_seconds", "restarts", "settings"}
    times |= {"reason", "versions", "git_revision"}
    return {row["trial_id"]: {key: value for key, value in row.items() if key not in times} for row in rows}


@pytest.mark.parametrize("code", [TASK, STATEFUL.replace("Walk", "train")], ids=["generator", "object"])
def test_a_killed_trial_goes_on_and_gives_the_same_rows(code, cache, tmp_path):
    study = loaded(tmp_path / "s", code=code)
    whole = swept(study, tmp_path / "whole/study", cache)
    folder = ResultsFolder.at(tmp_path / "cut/study")
    swept(study, folder.path, cache, until=0)
    # one trial, two epochs of it recorded, then its process and the driver are gone
    killed = _begun(study, folder, cache, epochs=2)
    rows = swept(study, folder.path, cache)
    assert _numbers(rows) == _numbers(whole)
    assert next(row for row in rows if row["trial_id"] == killed)["restarts"] == 1
    one, other = (pq.read_table(place / "study/epochs.parquet") for place in (tmp_path / "whole", tmp_path / "cut"))
    names = ["trial_id", "epoch", "val_loss"]
    assert one.select(names).equals(other.select(names))


def _begun(study, folder, cache, epochs):
    """Hand out the first trial, take so many of its epochs, and drop both sides as a kill would."""
    from resnetlab.driver.checks import own_code
    from resnetlab.driver.checks.dataset_record import known
    from resnetlab.ray_backend.worker import TrialWorker
    from resnetlab.storage.store import Store
    from resnetlab.sweep.state_machine import Sweep

    store = Store(folder, study.columns, own=study.own_columns, measures=study.measures)
    sweep = Sweep(study, store, {"git_revision": "g", "versions": "{}"}, known({}))
    task = sweep.next()
    worker = TrialWorker({"task": task, "context": context(folder, study, cache, own_code.version(study))})
    for _ in range(epochs):
        assert sweep.report(task.trial_id, worker.step()["report"])
    store.close()
    return task.trial_id


def context(folder, study, cache, code):
    more = {"every_epoch": True, "code": code, "numbers": tuple(study.numbers)}
    return TrialContext(folder.url, cache, cpus=1, gpus=0, epoch_timeout_s=600, **more)


def run_of(study, place, cache, test=False, seed=1):
    """The first trial of a study in this process, without a sweep."""
    from resnetlab.driver.checks import own_code

    folder = ResultsFolder.at(place)
    own_code.keep(folder, study, [])
    config = study.baseline_config(seed=seed)
    task = Task(config.trial_id, config, Phase.CONFIRM if test else Phase.EXPLORE, test)
    return begin(task, context(folder, study, cache, own_code.version(study)))


def test_an_object_with_a_state_trains_no_epoch_twice(cache, tmp_path):
    study = loaded(tmp_path / "s", STUDY.replace(":train", ":Walk"), STATEFUL)
    first = run_of(study, tmp_path / "r", cache)
    values = [first.step().epochs[-1].metrics for _ in range(2)]
    ran = type(first._object).ran
    before = len(ran)
    second = run_of(study, tmp_path / "r", cache)
    told = second.step()
    assert (
        [epoch.metrics for epoch in told.epochs] == values
        and told.restarted
        and len(type(second._object).ran) == before
    )
    report = second.step()
    assert second.epoch == 3 and len(type(second._object).ran) == before + 1 and len(report.epochs) == 1
    third = run_of(study, tmp_path / "other", cache)
    assert [third.step().epochs[-1].metrics for _ in range(3)] == [epoch.metrics for epoch in second.history]


FITTED = """
from typing import Literal

import torch
from pydantic import BaseModel, Field
from sklearn.datasets import load_diabetes
from torch import nn


class Settings(BaseModel):
    width: int = Field(4, ge=1, le=64)
    act: Literal["relu", "tanh"] = "relu"
    lr: float = Field(0.02, gt=0, lt=1)


class Fitted:
    METRICS = {"val_error": "min", "test_error": "min"}
    made = []

    def __init__(self, settings: Settings, trial):
        x, y = (torch.tensor(each, dtype=torch.float32) for each in load_diabetes(return_X_y=True))
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(trial.split_seed))
        x, y = 20 * x[order], (y[order, None] - 150) / 80
        self.train, self.val, self.held = [slice(0, 250), slice(250, 350), slice(350, None)]
        self.x, self.y = x, y
        torch.manual_seed(trial.seed("init"))
        act = nn.ReLU() if settings.act == "relu" else nn.Tanh()
        self.net = nn.Sequential(nn.Linear(10, settings.width), act, nn.Linear(settings.width, 1))
        self.optimizer = torch.optim.Adam(self.net.parameters(), settings.lr)
        self.order = torch.Generator().manual_seed(trial.seed("order"))
        self.epochs = 0
        Fitted.made.append(self)

    def error(self, part):
        return ((self.net(self.x[part]) - self.y[part]) ** 2).mean()

    def epoch(self):
        rows = torch.randperm(250, generator=self.order)
        for batch in rows.split(50):
            self.optimizer.zero_grad()
            self.error(batch).backward()
            self.optimizer.step()
        self.epochs += 1
        return {"val_error": self.error(self.val).item()}

    def test(self):
        return {"test_error": self.error(self.held).item()}

    def state(self):
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "order": self.order.get_state()}

    def load(self, state):
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.order.set_state(state["order"])
"""
FITS = """
experiment: mine.py:Fitted
baseline: {width: 8}
factors:
  act: {levels: [relu, tanh]}
  lr: {low: 0.005, high: 0.1, log: true}
hypotheses: [act relu < act tanh by at least 0.01]
search: {trials: 3, epochs: 4, grace_period: 1, reduction_factor: 2}
confirm: {design: one-factor, seeds: 2, delta: 0.05}
"""


def test_a_class_made_with_its_settings_in_a_model_is_swept_and_learns(cache, tmp_path):
    study = loaded(tmp_path / "s", FITS, FITTED)
    assert set(study.own_columns) == {"act", "lr"}
    rows = swept(study, tmp_path / "r/study", cache)
    assert {row["status"] for row in rows} <= {"complete", "stopped"} and len(rows) == 3 + 2 * 2
    epochs = pq.read_table(tmp_path / "r/study/epochs.parquet").to_pandas()
    confirm = [row for row in rows if row["phase"] == "confirm"]
    for row in confirm:
        curve = epochs[epochs["trial_id"] == row["trial_id"]].sort_values("epoch")["val_error"].tolist()
        assert len(curve) == 4 and curve[-1] < curve[0] and 0.3 < row["test_error"] < 1.2
    assert {row["act"] for row in confirm} == {"relu", "tanh"}
    assert "Lower error is better" in build_report(tmp_path / "r/study").read_text()
    folder = ResultsFolder.at(tmp_path / "r/study")
    again = rerun.rerun(folder, rerun.find(folder, "5"), rerun.Place(cache=cache), lambda line: None)
    assert again.identical and again.compared == 4
    with pytest.raises(BadRequest, match=r"baseline: width: .*less than or equal to 64, got 65"):
        loaded(tmp_path / "s", FITS.replace("width: 8", "width: 65"), FITTED)


def test_a_rule_of_the_user_s_model_across_settings_is_said_in_its_words_when_the_task_is_tried(cache, tmp_path):
    rule = "    @model_validator(mode='after')\n    def _fits(self):\n        if self.width > 6 and self.lr < 0.05:\n"
    rule += "            raise ValueError('a wide network needs lr >= 0.05')\n        return self\n"
    text = FITTED.replace("BaseModel, Field", "BaseModel, Field, model_validator").replace(
        "\n\nclass Fitted", rule + "\n\nclass Fitted"
    )
    study = loaded(tmp_path / "s", FITS, text)
    with pytest.raises(BadRequest) as caught:
        rehearsal.try_search_and_task(study, ResultsFolder.at(tmp_path / "r"), cache)
    said = str(caught.value)
    assert "experiment: mine.py:Fitted: a wide network needs lr >= 0.05" in said, said
    assert "width=8" in said and "Traceback" not in said and "resnetlab" not in said, said


def test_a_class_made_with_its_settings_in_a_model_goes_on_within_a_trial(cache, tmp_path):
    study = loaded(tmp_path / "s", FITS, FITTED)
    whole = run_of(study, tmp_path / "whole", cache, test=True)
    reports = [whole.step() for _ in range(4)]
    for steps in (1, 2):  # the second run tells first what it found
        first = run_of(study, tmp_path / "cut", cache, test=True)
        for _ in range(steps):
            first.step()
    again = run_of(study, tmp_path / "cut", cache, test=True)
    assert again.epoch == 2
    last = [again.step(), again.step(), again.step()][-1]
    assert type(again._object).made[-1].epochs == 2, "the epochs before the kill are not trained again"
    assert dict(last.test.metrics) == dict(reports[-1].test.metrics)
    assert [epoch.metrics for epoch in again.history] == [epoch.metrics for epoch in whole.history]


def test_a_generator_is_replayed_from_the_beginning(cache, tmp_path):
    study = loaded(tmp_path / "s")
    first, second = (run_of(study, tmp_path / "r", cache) for _ in range(2))
    assert first.step().epochs[0].metrics == second.step().epochs[0].metrics
    assert not list((tmp_path / "r").rglob("*.ckpt*")) and second.epoch == 1


def test_short_epochs_are_reported_together_and_an_error_after_them(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(messages, "REPORTS_AFTER", 60.0)
    whole = run_of(loaded(tmp_path / "a"), tmp_path / "r", cache, test=True).step()
    assert [epoch.epoch for epoch in whole.epochs] == [1, 2, 3] and whole.test is not None
    code = TASK.replace("        yield", "        1 / (2 - epoch)\n        yield")
    run = run_of(loaded(tmp_path / "b", code=code), tmp_path / "s", cache)
    with pytest.raises(ZeroDivisionError):
        run.step()
    assert [epoch.epoch for epoch in run.news().epochs] == [1, 2]


def test_the_rows_are_the_same_however_many_short_epochs_a_report_has(cache, tmp_path, monkeypatch):
    study, found = loaded(tmp_path / "s"), []
    for seconds in (0.0, 60.0):
        monkeypatch.setattr(messages, "REPORTS_AFTER", seconds)
        found.append(_numbers(swept(study, tmp_path / str(seconds) / "study", cache)))
    assert found[0] == found[1]


def test_the_test_split_is_read_only_where_the_trial_may(cache, tmp_path):
    study = loaded(tmp_path / "s")
    for test in (False, True):
        run = run_of(study, tmp_path / "r", cache, test)
        reports = [run.step() for _ in range(3)]
        assert (reports[-1].test is not None) is test and reports[0].test is None


def test_seeds_fit_numpy_and_differ_by_purpose_and_trial(cache, tmp_path):
    code = TASK.replace(
        "    for epoch", "    np.random.seed(trial.seed('a')); np.random.seed(trial.split_seed)\n    for epoch"
    )
    code = "import numpy as np\n" + code
    study = loaded(tmp_path / "s", code=code)
    one, other = (run_of(study, tmp_path / "r", cache, seed=seed) for seed in (1, 2))
    assert one.step().epochs[0].metrics != other.step().epochs[0].metrics


def test_an_estimator_without_epochs_is_a_task_of_one_epoch(cache, tmp_path):
    text = STUDY.replace("val_loss", "val_r2").replace("depth: {levels: [1, 2]}", "depth: {levels: [3, 6]}")
    text = text.replace("trials: 2, epochs: 3", "trials: 2, epochs: 1")
    study = loaded(tmp_path / "s", text, FOREST)
    rows = swept(study, tmp_path / "r/study", cache)
    assert {row["status"] for row in rows} == {"complete"} and all(row["epochs_run"] == 1 for row in rows)
    assert Results.open(tmp_path / "r/study").planned.metric.better == "higher"


def test_the_estimator_of_the_docs_is_swept(cache, tmp_path):
    study = of_the_docs(tmp_path, "forest.py", "forest.yaml")
    rows = swept(study, tmp_path / "r/forest", cache)
    assert {row["status"] for row in rows} == {"complete"} and len(rows) == 6 + 2 * 4
    assert build_report(tmp_path / "r/forest").exists()


def test_the_language_model_of_the_docs_is_swept_learns_and_is_continued(cache, tmp_path):
    study = of_the_docs(
        tmp_path, "language.py", "language.yaml",
        **{"search.trials": 2, "search.epochs": 2, "confirm.seeds": 2, "baseline.steps": 10},
    )  # fmt: skip
    rows = swept(study, tmp_path / "r/language", cache)
    assert {row["status"] for row in rows} == {"complete"} and len(rows) == 2 + 2 * 2
    tested = [row["test_bits"] for row in rows if row["phase"] == "confirm"]
    assert all(2 < bits < 5.5 for bits in tested), "a uniform guess among its letters costs 6.6 bits"
    assert "bits" in build_report(tmp_path / "r/language").read_text()
    folder = ResultsFolder.at(tmp_path / "r/language")
    config = study.trial_type.model_validate_json(rows[0]["config"])
    context = TrialContext(
        folder.place,
        cache,
        cpus=1,
        gpus=0,
        epoch_timeout_s=600,
        code=study.own.source[:12],
        numbers=tuple(study.numbers),
    )
    task = Task("f" * 12, config, Phase.CONFIRM, True)
    whole = begin(task, context, keep=False)
    while whole.epoch < config.epochs:
        last = whole.step()
    first = begin(task, context)
    first.step()
    first.save()
    again = begin(task, context)
    assert again.epoch == 1
    assert dict([again.step(), again.step()][-1].test.metrics) == dict(last.test.metrics)


def test_named_arms_of_a_task_stand_against_time_by_what_is_confirmed(cache, tmp_path):
    text = STUDY.partition("factors:")[0] + (
        "arms: {plain: {}, deep: {depth: 4}, deepest: {depth: 8}}\nsearch: {epochs: 2}\n"
        "confirm: {design: arms, seeds: 2, delta: 0.1}\n"
    )
    study = loaded(tmp_path / "s", text)
    swept(study, tmp_path / "r/study", cache)
    page = build_report(tmp_path / "r/study").read_text()
    assert (tmp_path / "r/study/figures/arm-seconds.svg").exists()
    assert not (tmp_path / "r/study/figures/arm-parameters.svg").exists()
    assert "Loss against time" in page and "Mean test loss of each arm" in page and "time and size" not in page


def test_metrics_of_the_study_add_unit_and_scale(tmp_path):
    text = STUDY + "metrics: {val_loss: {unit: '%', scale: 100, digits: 1}, test_loss: {unit: '%', scale: 100}}\n"
    study = loaded(tmp_path, text)
    assert study.searched.show(0.5) == "50.0 %" and study.confirmed.effect.unit == "points"
    assert study.searched.better == "lower"
    bare = TASK.replace('METRICS = {"val_loss": "min", "test_loss": "min"}', "")
    found = loaded(tmp_path / "b", STUDY + "metrics: {val_loss: min, test_loss: min}\n", bare)
    assert found.searched.name == "val_loss"


def test_the_direction_is_part_of_the_identity(tmp_path):
    bare = TASK.replace('METRICS = {"val_loss": "min", "test_loss": "min"}', "")
    one, other = (
        loaded(tmp_path, f"{STUDY}metrics: {{val_loss: {way}, test_loss: {way}}}\n", bare) for way in ("min", "max")
    )
    assert one.study_hash != other.study_hash


def test_a_setting_may_be_called_like_an_old_setting_of_images_or_a_column(tmp_path, cache):
    code = TASK.replace("depth: int = 2)", "depth: int = 2, batch: int = 8, status: int = 1)")
    text = STUDY.replace("factors: {", "baseline: {status: 2}\nfactors: {batch: {levels: [8, 16]}, ")
    study = loaded(tmp_path / "s", text, code)
    assert study.columns == ("experiment.batch", "depth")
    assert getattr(study.baseline_config(0), "experiment.status") == 2
    swept(study, tmp_path / "r/study", cache)
    found = Results.open(tmp_path / "r/study")
    assert set(found.trials["experiment.batch"]) <= {8, 16} and "experiment.batch" in found.planned.compared


def test_the_names_of_columns_are_those_of_the_table():
    assert set(schema("trials").names) == COLUMNS


def test_states_come_back_as_they_were():
    state = {
        "array": np.arange(6, dtype=np.float32).reshape(2, 3), "number": np.float64(0.5), "list": [1, (2, b"x")],
        "random": np.random.default_rng(0).bit_generator.state, "none": None,
    }  # fmt: skip
    found = unpack(pack(state, "state()"))
    assert np.array_equal(found["array"], state["array"]) and found["array"].dtype == np.float32
    assert found["list"] == [1, (2, b"x")] and found["random"] == state["random"] and found["number"] == 0.5
    with pytest.raises(BadRequest, match=re.escape("state()['a'][0]: holds a object")) as caught:
        pack({"a": [object()]}, "state()")
    assert KEPT in str(caught.value)


WRONG = {  # the code of a task, and words of the message with which its first trial ends
    "yields no mapping": (
        TASK.replace('{"val_loss": (trial.seed("noise") % 100) / 1000 + 1 / depth / (epoch + 1)}', "0.5"),
        "epoch 1: yielded float (0.5) (allowed: a mapping of names to numbers: val_loss)",
    ),
    "yields without a metric": (
        TASK.replace('yield {"val_loss"', 'yield {"loss"'),
        "epoch 1: yielded no 'val_loss', which METRICS declares (got: loss)",
    ),
    "yields more than it declares": (
        TASK.replace('yield {"val_loss"', 'yield {"lr": 1, "val_loss"'),
        "epoch 1: yielded 'lr', which METRICS does not declare (allowed here: val_loss)",
    ),
    "yields text": (
        TASK.replace("(trial.seed", "'a' or (trial.seed"),
        "epoch 1: val_loss: need a number, got str ('a')",
    ),
    "never yields": (
        TASK.replace("range(trial.epochs)", "()"),
        "epoch 1: yielded nothing (allowed: one yield for each",
    ),
    "yields too few": (TASK.replace("range(trial.epochs)", "range(2)"), "epoch 3: ended after 2 epochs (allowed: one"),
    "yields too many": (
        TASK.replace("range(trial.epochs)", "range(9)"),
        "on the test split: yielded more than trial.epochs = 3 times",
    ),
    "returns nothing": (
        TASK.replace(" if trial.may_test else None", " if False else None"),
        "on the test split: returned NoneType (None) (allowed: a mapping of names to numbers: test_loss)",
    ),
    "is no generator": (
        TASK.replace("yield ", "found = "),
        "returned dict (allowed: a generator, or an object with epoch()",
    ),
    "keeps what cannot be kept": (
        STATEFUL.replace("Walk", "train").replace('"place": self.place,', '"place": self,'),
        "state()['place']: holds a train, which cannot be kept (allowed: tensors, NumPy arrays",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_task_is_said_in_its_own_terms(case, cache, tmp_path):
    code, words = WRONG[case]
    study = loaded(tmp_path / "s", code=code)
    with pytest.raises(BadRequest) as caught:
        run = run_of(study, tmp_path / "r", cache, test=True)
        for _ in range(3):
            run.step()
    assert words in str(caught.value), str(caught.value)


def test_a_number_that_is_not_finite_ends_the_trial_as_diverged(cache, tmp_path):
    study = loaded(tmp_path / "s", code=TASK.replace("(trial.seed", "float('nan') * (trial.seed"))
    run = run_of(study, tmp_path / "r", cache)
    with pytest.raises(Diverged, match="epoch 1: val_loss is nan") as caught:
        run.step()
    assert Ending.of(caught.value).status == "diverged"
    with pytest.raises(TrialsFailed):
        rows = swept(study, tmp_path / "sweep/study", cache)
        assert {row["status"] for row in rows} == {"diverged"}


@pytest.mark.parametrize(("levels", "most"), [("[1, 2]", 2), ("[1, 2, 3, 4, 5]", 4)])
def test_an_error_of_the_task_is_its_author_s_traceback_and_the_first_failures_end_the_sweep(
    cache, tmp_path, levels, most
):
    """Four, or as many as there are combinations to try."""
    code = (
        TASK.replace("    for epoch", "    helper(depth)\n    for epoch")
        + "\ndef helper(depth):\n    return depth.nosuch\n"
    )
    text = STUDY.replace("trials: 2", "trials: 9").replace("[1, 2]", levels)
    study = loaded(tmp_path / "s", text, code)
    with pytest.raises(TrialsFailed) as caught:
        swept(study, tmp_path / "r/study", cache)
    message = str(caught.value)
    assert (
        f"the first {most} trials failed" in message
        and "epoch 1: AttributeError" in message
        and "settings: depth" in message
    )
    assert '  File "mine.py", line 5, in train\n' in message and "in helper\n" in message
    assert "task_run.py" not in message and "model" not in message
    (first, *_) = sorted((tmp_path / "r/study/errors").iterdir())
    assert "settings: depth" in first.read_text() and "task_run.py" not in first.read_text()


BAD = {  # a change of the study, a change of the code, and words of the one message
    "an undeclared direction": ("", ("", ""), ('"min", "test', '"", "test'), ["objective: val_loss has no direction"]),
    "a direction that is none": (
        "",
        ("", ""),
        ('"min", "test', '"low", "test'),
        ["METRICS beside mine.py:train", "val_loss"],
    ),
    "no numbers": (
        "",
        ("", ""),
        ('METRICS = {"val_loss": "min", "test_loss": "min"}', ""),
        ["no numbers are declared"],
    ),
    "no objective": (
        "",
        ("objective: val_loss", "objective: val_los"),
        ("", ""),
        ["objective", "did you mean 'val_loss'?"],
    ),
    "the test split as objective": (
        "",
        ("objective: val_loss", "objective: test_loss"),
        ("", ""),
        ["a number that each epoch"],
    ),
    "nothing to confirm": ("", ("", ""), (', "test_loss": "min"', ""), ["confirm.metric", "test_"]),
    "metrics as a list": ("metrics: [accuracy]\n", ("", ""), ("", ""), ["metrics: need a mapping beside experiment"]),
    "a dataset": ("dataset: {name: digits}\n", ("", ""), ("", ""), ["dataset: is for images"]),
    "a setting of images": ("baseline: {kernel: 3}\n", ("", ""), ("", ""), ["baseline.kernel: not a setting"]),
    "a model": ("model: cnn\n", ("", ""), ("", ""), ["model: unknown key"]),
    "precision": ("precision: bf16\n", ("", ""), ("", ""), ["precision: is for the built-in experiment"]),
    "a wrong value": ("baseline: {depth: x}\n", ("", ""), ("", ""), ["depth: need a whole number, got the text 'x'"]),
    "no such name": (
        "",
        ("mine.py:train", "mine.py:trainn"),
        ("", ""),
        ["no 'trainn' in mine.py", "did you mean 'train'?"],
    ),
    "a word": ("", ("mine.py:train", "classify"), ("", ""), ["experiment: 'classify' is not known", "file.py:name"]),
    "numbers of our own": ("numbers: {}\n", ("", ""), ("", ""), ["numbers: is written by resnetlab"]),
    "checkpoints to keep": (
        "",
        ("reduction_factor: 2", "reduction_factor: 2, keep_checkpoints: true"),
        ("", ""),
        ["search.keep_checkpoints: of a task of your own it is not known", "(allowed: false)"],
    ),
    "its size as an objective": (
        "",
        ("reduction_factor: 2", "reduction_factor: 2, second_objective: parameters"),
        ("", ""),
        ["second_objective: parameters is for the built-in experiment"],
    ),
}


@pytest.fixture(scope="module")
def door():
    with Door("ablation") as opened:
        yield opened


@pytest.mark.parametrize("case", BAD)
def test_a_bad_study_of_a_task_ends_with_one_message_and_leaves_nothing(case, door, tmp_path):
    more, (old, new), (code, changed), words = BAD[case]
    place = tmp_path / "p"
    written(place, STUDY.replace(old, new) + more, TASK.replace(code, changed))
    for name in ("home", "tmp"):
        (place / name).mkdir()
    before = tree(place)
    ended = door.call(place, "--study", "study.yaml", RESNETLAB_CACHE=str(place / "cache"))
    assert ended.code == 2 and ended.err.startswith("error: ") and ended.err.count("error: ") == 1, ended
    assert all(word in ended.err for word in words) and "study.yaml" in ended.err, ended.err
    assert tree(place) == before and ended.alone


def test_results_of_another_task_are_not_continued(results, study):
    folder = ResultsFolder.at(results)
    check_identity(study, folder)
    with pytest.raises(FolderRefused, match=r"experiment: 'my_task.py:train' in the folder, 'other.py:train' asked"):
        check_identity(study.model_copy(update={"experiment": "other.py:train"}), folder)


@pytest.mark.slow
def test_the_wished_for_study_is_killed_and_continued_on_ray(tmp_path):
    for name in ("own-task.yaml", "my_task.py"):
        shutil.copy(OWN / name, tmp_path / name)
    env = os.environ | {"RESNETLAB_CACHE": str(tmp_path / "cache"), "RAY_TMPDIR": "/tmp"}
    script = [sys.executable, str(ROOT / "sweeps/ablation.py"), "--study", "own-task.yaml"]
    elsewhere = {"cwd": tmp_path, "env": env, "text": True}
    sets = [word for key, value in CUT.items() for word in ("--set", f"{key}={value}")]
    command = [*script, *sets, "--storage", str(tmp_path / "r")]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **elsewhere)
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None and not list((tmp_path / "r").rglob("segments/*")):
        time.sleep(0.05)
    process.kill()
    process.wait()
    done = subprocess.run(command, capture_output=True, timeout=580, **elsewhere)
    assert done.returncode == 0, done.stderr
    for name in ("own-task.yaml", "my_task.py"):
        (tmp_path / name).unlink()
    found = Results.open(tmp_path / "r/own-task")
    assert set(found.confirm["status"]) == {"complete"} and len(found.confirm) == 8
    again = [sys.executable, str(ROOT / "sweeps/trial.py"), str(tmp_path / "r/own-task"), "0"]
    done = subprocess.run(again, capture_output=True, timeout=300, **elsewhere)
    assert done.returncode == 0 and "identical" in done.stdout, done.stdout + done.stderr
