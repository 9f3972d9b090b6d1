"""Metrics that a study asks for, searches for and confirms: from the study file to the report."""

import importlib.util
import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from docs_here import of_the_docs
from made_results import default_study
from rich.console import Console
from sweeps_here import run_here

from resnetlab.analysis.explore.pareto import pareto
from resnetlab.analysis.explore.search_progress import levels_tried, search_progress
from resnetlab.analysis.results import Results
from resnetlab.errors import BadRequest, TrialsFailed
from resnetlab.experiment import own
from resnetlab.planning.making import make_plan, sketch
from resnetlab.report.build import build
from resnetlab.report.findings import Findings
from resnetlab.report.terminal import show, told
from resnetlab.search.optuna_sampler import OptunaSampler
from resnetlab.search.schedulers.asha import Asha
from resnetlab.study import build_study
from resnetlab.study.metrics import METRICS

OWN = Path(__file__).with_name("own_code")
LOWER = """
dataset: {name: digits, limit: 200}
metrics: [cross_entropy, auroc]
objective: cross_entropy
baseline: {model: mlp, head_width: 16, lr: 0.05}
factors:
  momentum: {levels: [0.0, 0.9]}
  lr: {low: 0.01, high: 0.2, log: true}
hypotheses: [momentum 0.9 < momentum 0 by at least 0.01 nats]
search: {trials: 3, epochs: 2, grace_period: 1, reduction_factor: 2, audit: 0.0}
confirm: {seeds: 2, delta: 0.05}
"""


def loaded(place, text):
    place.mkdir(parents=True, exist_ok=True)
    for file in OWN.glob("my_*.py"):
        shutil.copy(file, place)
    (place / "mine.yaml").write_text(text)
    return own.load(place / "mine.yaml")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def lower(tmp_path_factory, cache):
    place = tmp_path_factory.mktemp("lower")
    study = loaded(place / "study", LOWER)
    folder = place / study.name
    run_here(study, folder, cache)
    (folder / "study.json").write_text(json.dumps(study.recorded()))
    return folder


@pytest.fixture(scope="module")
def case(tmp_path_factory, cache):
    """The case as users write it, with fewer trials."""
    place = tmp_path_factory.mktemp("case")
    study = loaded(place / "study", (OWN / "own-model.yaml").read_text())
    study = study.model_copy(update={"search": study.search.model_copy(update={"trials": 2, "epochs": 1})})
    folder = place / study.name
    run_here(study, folder, cache)
    (folder / "study.json").write_text(json.dumps(study.recorded()))
    return folder


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.read_text())).replace("\u202f", " ")


def test_the_case_of_an_own_model_has_its_metrics_in_tables_and_report(case):
    results = Results.open(case)
    names = ["balanced_accuracy", "macro_f1", "worst_class"]
    assert results.study.searched.name == "val_macro_f1" and results.study.confirmed.name == "test_macro_f1"
    assert [metric.name for metric in results.study.measures] == [f"{s}_{n}" for n in names for s in ("val", "test")]
    for name in names:
        assert results.epochs[f"val_{name}"].between(0, 1).all() and f"test_{name}" not in results.epochs
        assert results.confirm[f"test_{name}"].between(0, 1).all() and results.explore[f"test_{name}"].isna().all()
    assert (results.trials["val_worst_class"] <= results.trials["val_balanced_accuracy"] + 1e-12).all()
    field = pq.read_schema(case / "trials.parquet").field("test_worst_class")
    assert str(field.type) == "double" and field.metadata[b"unit"] == b"fraction"
    best = results.explore.set_index("trial_id")["val_macro_f1"].astype(float).idxmax()
    assert results.plan.chosen_trial == best and results.plan.metric.name == "test_macro_f1"
    page = text_of(build(Findings(results)))
    assert "Differences of mean test macro F1" in page and "Validation macro F1 (%)" in page
    assert "macro F1 on the test split" in page and "Test worst class (%)" in page
    effects = pq.read_schema(case / "effects.parquet")
    assert effects.field("estimate").metadata[b"meaning"] == b"difference of mean test macro F1"
    classes = results.classes[results.classes["split"] == "test"].assign(
        f1=lambda t: 2 * t["correct"] / (t["support"] + t["predicted"])
    )
    expected = classes[classes["support"] > 0].groupby("trial_id")["f1"].mean()
    found = results.confirm.set_index("trial_id")["test_macro_f1"]
    pd.testing.assert_series_equal(found.sort_index(), expected.sort_index(), check_names=False)


def test_a_metric_that_is_to_be_low_is_searched_for_and_confirmed(lower):
    results = Results.open(lower)
    full = results.explore[results.explore["status"] == "complete"]
    assert results.plan.chosen_trial == full.set_index("trial_id")["val_cross_entropy"].astype(float).idxmin()
    assert results.plan.chosen_val_accuracy == full["val_cross_entropy"].min()
    pd.testing.assert_series_equal(  # loss and metric are the same number, computed twice
        results.confirm["test_cross_entropy"], results.confirm["test_loss"], check_names=False, rtol=1e-5
    )
    assert results.plan.guessing == {} and not Findings(results).runs.untrained.any()
    for row in results.rungs.dropna(subset="cutoff").itertuples():
        assert (row.decision == "stop") == (row.value > row.cutoff)
    said = told(Findings(results), str(lower)).as_json()
    assert said["best"]["val_cross_entropy"] == full["val_cross_entropy"].min()
    screen = Console(width=100, file=io.StringIO())
    show(told(Findings(results), str(lower)), screen)
    assert "\na lower test cross-entropy is better\n" in screen.file.getvalue()


def test_the_report_of_such_a_metric_speaks_its_unit_and_says_which_way_is_better(lower):
    findings = Findings(Results.open(lower))
    page = text_of(build(findings))
    assert "Lower cross-entropy is better." in page and "±0.05 nats" in page and "(nats)" in page
    assert (
        "points" not in page.partition("Effects on fresh seeds")[2].partition("The record")[0].split("exploration")[0]
    )
    assert "the lowest of many" in page or "optimistic: the lowest" in page
    declared = findings.hypotheses.iloc[0]
    row = findings.results.confirm.groupby("momentum")["test_cross_entropy"].mean()
    assert (declared["level"], declared["reference"]) == ("0.0", "0.9")
    assert declared["estimate"] == pytest.approx(row[0.0] - row[0.9])


def test_an_effect_of_a_metric_that_is_to_be_low_is_called_better_where_it_lowers_it(lower):
    findings = Findings(Results.open(lower))
    row = findings.effects.iloc[:1].assign(verdict="effect", note="")
    from resnetlab.report.answer import statements

    for size, word in ((-0.2, "better"), (0.2, "worse")):
        (one,), *_ = statements(list(row.assign(estimate=size).itertuples()), "0.05 nats", findings.effect)
        assert one.claim.endswith(f"nats, {word}")
    (one,), *_ = statements(list(row.itertuples()), "0.5 points", METRICS["test_accuracy"].effect)
    assert one.claim.endswith("points")


def test_asha_stops_what_lies_above_the_cutoff_where_less_is_better():
    up, down = Asha(1, 2, 4), Asha(1, 2, 4, sign=-1)
    values = [0.5, 0.7, 0.2, 0.6, 0.1, 0.9]
    for i, value in enumerate(values):
        one, other = up.report(str(i), 1, -value), down.report(str(i), 1, value)
        assert one.decision == other.decision and other.value == value
        assert (one.cutoff is None) == (other.cutoff is None) and (one.cutoff is None or one.cutoff == -other.cutoff)
    again = Asha(1, 2, 4, sign=-1)
    again.replay([{"trial_id": str(i), "rung": 0, "value": value} for i, value in enumerate(values)])
    assert again.report("x", 1, 0.55) == down.report("x", 1, 0.55)


def test_the_best_so_far_the_front_and_the_levels_go_by_the_metrics_direction():
    metric = METRICS["val_loss"]
    trials = pd.DataFrame(
        {"trial_id": list("abc"), "number": range(3), "status": "complete", "epochs_run": 2, "epochs_allowed": 2,
         "ended": pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-03"]), "kernel": [3, 5, 5],
         "parameters": [10, 20, 30], "val_loss": [0.5, 0.3, 0.4]}
    )  # fmt: skip
    assert search_progress(trials, metric).by_number["best"].tolist() == [0.5, 0.3, 0.3]
    assert pareto(trials, "parameters", metric)["front"].tolist() == [True, True, False]
    assert levels_tried(trials, {"kernel": (3, 5)}, metric)["best"].tolist() == [0.5, 0.3]


def test_the_sampler_minimises_what_is_to_be_low():
    study = build_study(_content(metrics=["cross_entropy"], objective="cross_entropy"), "x")
    assert OptunaSampler(study).optuna.direction.name == "MINIMIZE"
    assert OptunaSampler(build_study(_content(), "x")).optuna.direction.name == "MAXIMIZE"
    rows = [
        {"phase": "explore", "status": "complete", "number": i, "trial_id": str(i), "kernel": 3 + 2 * i,
         "epochs_run": 9, "val_cross_entropy": value} for i, value in enumerate((0.4, 0.6))
    ]  # fmt: skip
    plan = make_plan(study, rows, "", "")
    assert (plan.chosen_trial, plan.incumbent) == ("0", {"kernel": 3})


def _content(**more):
    return {"name": "x", "dataset": {"name": "digits"}, "factors": {"kernel": {"levels": [3, 5]}}} | more


def test_naming_the_default_changes_neither_plan_nor_what_is_searched_for():
    plain, named = build_study(_content(), "x"), build_study(_content(objective="val_accuracy"), "x")
    assert plain.searched == named.searched == METRICS["val_accuracy"]
    assert plain.confirmed == named.confirmed == METRICS["test_accuracy"]
    assert "metric" not in sketch(plain).content()
    other = build_study(_content(metrics=["auroc"], confirm={"metric": "auroc"}), "x")
    assert (other.searched.name, other.confirmed.name) == ("val_accuracy", "test_auroc")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"metrics": ["macro_f2"]}, ["metrics: 'macro_f2' is not known", "did you mean 'macro_f1'?"]),
        ({"objective": "macro_f1"}, ["objective: 'macro_f1' is no metric of this study", "add it to metrics"]),
        ({"metrics": ["auroc"], "objective": "auroc2"}, ["objective: 'auroc2'", "did you mean 'auroc'?"]),
        ({"confirm": {"metric": "top5"}}, ["confirm.metric: 'top5'", "add it to metrics"]),
        ({"metrics": ["auroc"], "objective": "test_auroc"}, ["objective: 'test_auroc' is no metric"]),
        ({"confirm": {"delta": 101}}, ["confirm.delta: need at most 100 points, got 101"]),
        (
            {"metrics": ["cross_entropy"], "objective": "cross_entropy",
             "hypotheses": ["kernel 3 < kernel 5 by at least 1 points"]},
            ["test cross-entropy has differences in nats, got points"],
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(more, words):
    with pytest.raises(BadRequest) as caught:
        build_study(_content(**more), "x.yaml")
    assert all(word in str(caught.value) for word in ["x.yaml", *words]), caught.value


def test_a_metric_with_the_name_of_a_built_in_one_or_without_a_default_is_refused(tmp_path):
    text = LOWER.replace("[cross_entropy, auroc]", "[cross_entropy, 'more.py:auroc']")
    (tmp_path / "more.py").write_text("def auroc(labels, scores):\n    return 0.5\n")
    with pytest.raises(BadRequest, match=r"more\.py:auroc and a built-in metric are both called auroc"):
        loaded(tmp_path, text)
    (tmp_path / "more.py").write_text("def mine(labels, scores, *, beta: float):\n    return beta\n")
    with pytest.raises(BadRequest, match=r"more.py:mine: beta has no default"):
        loaded(tmp_path, text.replace("more.py:auroc", "more.py:mine"))


def test_a_metric_that_is_not_finite_fails_its_trial_and_says_where(tmp_path, cache):
    text = LOWER.replace("auroc]", "'more.py:mine']")
    (tmp_path / "more.py").write_text(
        "def mine(labels, scores, *, beta: float = 2.0):\n    return 1 / beta - float('inf')\n"
    )
    study = loaded(tmp_path, text.replace("trials: 3", "trials: 5"))
    with pytest.raises(TrialsFailed) as caught:
        run_here(study, tmp_path / "r", cache)
    said = str(caught.value)
    assert (
        "the first 4 trials failed" in said and "epoch 1: val: mine: returned -inf (allowed: a finite number)" in said
    )
    reasons = pq.read_table(tmp_path / "r" / "trials.parquet")["reason"].to_pylist()
    assert all(re.search(r"trial [0-9a-f]{12}, epoch 1: val: mine: returned -inf", reason) for reason in reasons)


def test_folders_of_studies_without_further_metrics_have_no_further_columns():
    study = default_study()
    assert study.measures == () and study.scored == ()


OWN_METRICS = """
import numpy as np

METRICS = {"surprise": {"direction": "min", "unit": "bits", "digits": 2}, "worst": "max", "spread": ""}

def surprise(labels, scores):
    scores = scores - scores.max(1, keepdims=True)
    likely = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    return float(-likely[np.arange(len(labels)), labels].mean() / np.log(2))

def worst(labels, scores):
    return min((scores[labels == label].argmax(1) == label).mean() for label in np.unique(labels))

def spread(labels, scores):
    return float(scores.std())
"""
DECLARED = LOWER.replace(
    "metrics: [cross_entropy, auroc]\nobjective: cross_entropy",
    "metrics: ['more.py:surprise', 'more.py:worst', 'more.py:spread', cross_entropy]\nobjective: surprise",
).replace("nats]", "bits]")


def declared(place, text=DECLARED, old="", new=""):
    place.mkdir(exist_ok=True)
    assert old in OWN_METRICS
    (place / "more.py").write_text(OWN_METRICS.replace(old, new) if old else OWN_METRICS)
    return loaded(place, text)


def test_a_metric_of_one_s_own_is_searched_for_and_shown_as_METRICS_beside_it_says(tmp_path, cache):
    study = declared(tmp_path / "study")
    found = {metric.name: metric for metric in study.measures}
    assert (found["val_surprise"].label, found["val_surprise"].unit) == ("Validation surprise", "bits")
    assert study.searched.better == "lower" and study.confirmed.show(1.25) == "1.25 bits"
    assert (found["test_worst"].unit, found["test_worst"].better, found["test_spread"].better) == ("", "higher", "")
    assert build_study(json.loads(json.dumps(study.recorded())), "study.json").searched == study.searched
    folder = tmp_path / study.name
    run_here(study, folder, cache)
    (folder / "study.json").write_text(json.dumps(study.recorded()))
    results = Results.open(folder)
    full = results.explore[results.explore["status"] == "complete"].set_index("trial_id")
    assert results.plan.chosen_trial == full["val_surprise"].astype(float).idxmin()
    pd.testing.assert_series_equal(
        results.confirm["test_surprise"] * np.log(2), results.confirm["test_loss"], check_names=False, rtol=1e-5
    )
    fields = pq.read_schema(folder / "trials.parquet")
    assert fields.field("test_surprise").metadata[b"unit"] == b"bits"
    page = text_of(build(Findings(results)))
    assert "Lower surprise is better." in page and "±0.05 bits" in page and "Test surprise (bits)" in page


def test_the_metrics_of_the_docs_are_searched_for_and_confirmed(tmp_path, cache):
    study = of_the_docs(tmp_path, "my_metrics.py", "metrics.yaml")
    rows = run_here(study, tmp_path / "results/metrics", cache)
    assert {row["status"] for row in rows} <= {"complete", "stopped"} and len(rows) == 3 + 2 * 3
    (tmp_path / "results/metrics/study.json").write_text(json.dumps(study.recorded()))
    results = Results.open(tmp_path / "results/metrics")
    assert results.confirm["test_rank"].between(1, 10).all() and results.plan.metric.unit == "places"
    assert (results.confirm["test_worst_class"] <= results.confirm["test_accuracy"]).all()
    page = text_of(build(Findings(results)))
    assert "±0.02 places" in page and "Test worst class (%)" in page


def test_the_study_says_direction_unit_and_scale_of_its_own_metrics(tmp_path):
    text = LOWER.replace("[cross_entropy, auroc]", "{cross_entropy: , 'more.py:mine': SAID}")
    text = text.replace("objective: cross_entropy", "objective: mine").replace("nats]", "bits]")
    (tmp_path / "more.py").write_text("def mine(labels, scores):\n    return 0.5\n")
    study = loaded(tmp_path, text.replace("SAID", "{direction: min, unit: bits, scale: 10}"))
    assert study.searched.better == "lower" and study.searched.show(0.5) == "5.000 bits"
    assert set(study.measured) == {"accuracy", "loss", "cross_entropy", "mine"}
    other = loaded(tmp_path, text.replace("SAID", "{direction: max, unit: bits, scale: 10}"))
    assert other.study_hash != study.study_hash and other.searched.better == "higher"
    added = declared(tmp_path, text.replace("mine", "worst").replace("SAID", "{unit: bits}"))
    assert added.searched.better == "higher" and added.searched.unit == "bits"
    from resnetlab import Study

    (tmp_path / "given_metric.py").write_text("def mine(labels, scores):\n    return 0.5\n")
    spec = importlib.util.spec_from_file_location("given_metric", tmp_path / "given_metric.py")
    sys.modules["given_metric"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for study in (
        Study.load(_content(), metrics={module.mine: "min"}, objective="mine"),
        Study.load(_content(metrics={module.mine: "min"}, objective="mine")),
    ):
        assert study.searched.better == "lower" and study.metrics == ("given_metric.py:mine",)


@pytest.mark.parametrize(
    ("text", "old", "new", "words"),
    [
        ("", '"worst": "max"', '"wurst": "max"', ["METRICS beside it says nothing of 'worst'", "did you mean 'wurst'"]),
        ("", '"max"', '"up"', ["METRICS beside more.py:worst: worst: direction", "min", "{val_loss: min}"]),
        ("", "METRICS = {", "METRICS = 3 or {", ["more.py:surprise: METRICS beside it: need a dict, got 3"]),
        ("objective: spread", "", "", ["objective: spread has no direction", "min or max in METRICS"]),
        ("confirm.metric: spread", "", "", ["confirm.metric: spread has no direction"]),
        ("metrics: 3", "", "", ["metrics: need a list of names, got 3"]),
        ("metrics: {cross_entropy: max}", "", "", ["metrics: cross_entropy: is built in, got 'max'"]),
        ("metrics: {more.py:worst: {units: m}}", "", "", ["metrics: worst: units: unknown key"]),
        ("metrics: {more.py:worst: {unit: '%', scale: 2}}", "", "", ["metrics: worst: ", "need 100 where unit is %"]),
    ],
)  # fmt: skip
def test_what_is_declared_wrongly_is_refused(tmp_path, text, old, new, words):
    place, said = tmp_path / "s", dict([text.split(": ", 1)]) if text else {}
    declared(place)
    (place / "more.py").write_text(OWN_METRICS.replace(old, new) if old else OWN_METRICS)
    with pytest.raises(BadRequest) as caught:
        own.load(place / "mine.yaml", {key: yaml.safe_load(value) for key, value in said.items()})
    assert all(word in str(caught.value) for word in words), caught.value
