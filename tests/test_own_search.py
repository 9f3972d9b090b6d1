"""A sampler and a stopping rule of the user's own, by reference: what they are given, and what they may not do."""

import pickle

import pyarrow.parquet as pq
import pytest
from sweeps_here import run_here

from resnetlab.driver.dry_run import describe
from resnetlab.errors import BadRequest
from resnetlab.experiment import messages, own
from resnetlab.report.build import build_report
from resnetlab.storage.results_folder import ResultsFolder

pytestmark = pytest.mark.usefixtures("warm_processes")

CODE = """
import random

METRICS = {"val_loss": "min", "test_loss": "min"}

def train(trial, *, depth: int = 2, rate: float = 0.1):
    for epoch in range(trial.epochs):
        yield {"val_loss": depth + rate + 1 / (epoch + 1)}
    return {"test_loss": depth + rate + trial.seed("noise") % 100 / 1000} if trial.may_test else None

def best_and_a_step(space, done, seed: int, *, step: float = 0.1):
    found = [(objective, values) for values, objective in done if objective is not None]
    _, best = min(found, key=lambda one: one[0])
    rate = best["rate"] + random.Random(seed).uniform(-step, step)
    return {"depth": best["depth"], "rate": min(max(rate, 0.05), 0.95)}

def behind(epoch: int, values: list, others: list, *, patience: int = 1) -> bool:
    return epoch >= patience and any(len(other) >= epoch and other[epoch - 1] > values[-1] for other in others)
"""
STUDY = """
experiment: mine.py:train
baseline: {depth: 2, rate: 0.5}
factors: {depth: {levels: [1, 2]}, rate: {low: 0.05, high: 0.95}}
search:
  {sampler: "mine.py:best_and_a_step", step: 0.2, stopping: "mine.py:behind", patience: 2, trials: 8, epochs: 4,
   audit: 0}
confirm: {design: one-factor, seeds: 2, delta: 0.1}
"""


@pytest.fixture(autouse=True)
def _one_epoch_a_step(monkeypatch):
    monkeypatch.setattr(messages, "REPORTS_AFTER", 0.0)


def loaded(place, old="", new="", code=CODE):
    assert old in STUDY + CODE
    place.mkdir(exist_ok=True)
    (place / "mine.py").write_text(code.replace(old, new) if old else code)
    (place / "study.yaml").write_text(STUDY.replace(old, new) if old else STUDY)
    return own.load(place / "study.yaml")


def swept(study, place, cache, until=None):
    ResultsFolder.at(place).write_json("study.json", study.recorded())
    return run_here(study, place, cache, until)


def kept(rows):
    return [
        {key: value for key, value in row.items() if "second" not in key and key not in ("started", "ended")}
        for row in rows
    ]


def test_the_study_knows_their_settings(tmp_path):
    study = loaded(tmp_path)
    assert study.search.own == {"sampler": {"step": 0.2}, "stopping": {"patience": 2}}
    assert study.search.rungs == [1, 2, 3]
    assert pickle.loads(pickle.dumps(study)) == study
    other = loaded(tmp_path, "step: 0.2", "step: 0.3")
    assert (
        other.study_hash != study.study_hash and other.baseline_config(0).trial_id == study.baseline_config(0).trial_id
    )
    shown = "\n".join(describe(study, {}))
    assert "8 trials (mine.py:best_and_a_step)" in shown and "mine.py:behind decides at epochs 1, 2, 3" in shown


def test_a_sampler_and_a_rule_that_change_what_they_are_given_change_nothing_else(tmp_path):
    code = CODE.replace(
        '    return {"depth": best["depth"], "rate": min(max(rate, 0.05), 0.95)}',
        """\
    found = {"depth": best["depth"], "rate": min(max(rate, 0.05), 0.95)}
    for values, _ in done:
        values.clear()
    done.clear()
    return found""",
    ).replace(
        "    return epoch >= patience and any(len(other)",
        """\
    values, others[:], theirs = list(values), [], (values, [list(other) for other in others])
    others, _ = theirs[1], theirs[0].clear()
    return epoch >= patience and any(len(other)""",
    )
    assert code.count("clear()") == 3
    plain, rude = loaded(tmp_path / "a"), loaded(tmp_path / "b", code=code)
    settings = ("number", "depth", "rate", "status", "epochs_run", "reason")
    found = [swept(one, tmp_path / f"{name}r", tmp_path / "cache") for name, one in (("a", plain), ("b", rude))]
    first, second = ([[row[name] for name in settings] for row in rows if row["phase"] == "explore"] for rows in found)
    assert first == second


def test_they_propose_and_stop_and_a_killed_sweep_goes_on_as_it_would_have(tmp_path):
    study, cache = loaded(tmp_path), tmp_path / "cache"
    rows = swept(study, tmp_path / "whole", cache)
    explored = [row for row in rows if row["phase"] == "explore"]
    assert explored[0]["rate"] == 0.5 and len(explored) == 8
    for row in explored[1:]:
        assert min(abs(row["rate"] - before["rate"]) for before in explored[: row["number"]]) <= 0.2
    stopped = [row for row in explored if row["status"] == "stopped"]
    assert stopped and all(row["epochs_run"] == 2 for row in stopped)
    assert all(row["reason"] == "stopped by mine.py:behind at epoch 2" for row in stopped)
    decisions = pq.read_table(tmp_path / "whole/rungs.parquet").to_pylist()
    assert {one["epoch"] for one in decisions} == {1, 2, 3}
    assert {one["trial_id"] for one in decisions if one["decision"] == "stop"} == {row["trial_id"] for row in stopped}
    for until in (2, 5):
        swept(study, tmp_path / f"cut{until}", cache, until)
        assert kept(swept(study, tmp_path / f"cut{until}", cache)) == kept(rows)
    page = build_report(tmp_path / "whole").read_text()
    assert "mine.py:behind" in page and "mine.py:best_and_a_step" in page and "ASHA" not in page.partition("<main")[2]


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("step: 0.2", "step: wide", "search.step: need a number, got the text 'wide'"),
        ("step: 0.2", "pace: 0.2", "search.pace"),
        ("mine.py:behind", "mine.py:ahead", "search.stopping: mine.py:ahead: no 'ahead' in mine.py"),
        ('"mine.py:behind"', "halving", "search.stopping: 'halving' is not known"),
        ('"mine.py:best_and_a_step"', "tpo", "search.sampler: 'tpo' is not known (did you mean 'tpe'?)"),
        ("patience: int = 1", "epochs: int = 1", "argument 'epochs' has another meaning there (rename it)"),
        ("patience: int = 1", "patience", "argument 'patience' has neither annotation nor default"),
    ],
)
def test_bad_settings_of_them_are_refused(tmp_path, old, new, words):
    with pytest.raises(BadRequest) as caught:
        loaded(tmp_path, old, new)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "old, new, words",
    [
        (
            'return {"depth": best["depth"], "rate"',
            'return {"deep": 1, "rate"',
            "proposed 'deep', no factor (allowed: depth",
        ),
        (
            '{"depth": best["depth"], "rate": min(max(rate, 0.05), 0.95)}',
            '{"depth": 3, "rate": 0.5}',
            "depth=3 is not allowed",
        ),
        (
            'return {"depth": best["depth"], "rate": min(max(rate, 0.05), 0.95)}',
            "return 3",
            "returned int (3) (allowed: a mapping",
        ),
        ("_, best = min(", "_, best = mon(", "NameError: name 'mon' is not defined (mine.py, line"),
        (
            "return epoch >= patience and any(",
            "return 0 + sum(",
            "returned int (0) (allowed: True to stop",
        ),
    ],
)
def test_what_they_do_wrong_ends_the_sweep_in_the_user_s_terms(tmp_path, old, new, words):
    with pytest.raises(BadRequest) as caught:
        swept(loaded(tmp_path, old, new), tmp_path / "results", tmp_path / "cache")
    assert words in str(caught.value)
