"""Folders side by side: the pooled effect against other software and by simulation, differences, what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_results import default_study, make_results
from scipy import stats
from test_real_sweep import environment

from resnetlab.comparison import shown
from resnetlab.comparison.folders import AGREE, DIFFER, IDENTICAL, Comparison, labels
from resnetlab.comparison.forest import drawings
from resnetlab.comparison.pooling import between_variance, pooled
from resnetlab.errors import BadRequest, FolderRefused
from resnetlab.report.rendering import render
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table, write_table

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "results" / "reference"
AVERAGE = {
    "blocks": {"levels": [2, 3]},
    "kernel": {"levels": [3, 5]},
    "lr": {"low": 0.01, "high": 0.5, "log": True},
}

# Kacker (2004, Metrologia 41: 132), and what R's metafor 2.4 gives for it: rma(y, v, method = "PM").
KACKER = [61.0, 61.4, 62.21, 62.3, 62.34, 62.6, 62.7, 62.84, 65.9]
VARIANCES = [0.2025, 1.2100, 0.0900, 0.2025, 0.3844, 0.5625, 0.0676, 0.0225, 1.8225]


def test_the_pooled_effect_is_that_of_metafor():
    found = pooled(KACKER, np.sqrt(VARIANCES))
    assert found.between**2 == pytest.approx(0.705395309224248, abs=1e-9)
    assert found.estimate == pytest.approx(62.4076199113286, abs=1e-9)
    assert found.standard_error == pytest.approx(0.338030602684471, abs=1e-9)
    assert found.q == pytest.approx(24.801897741835, abs=1e-9)
    assert found.p == pytest.approx(0.00167935146372742, abs=1e-10)
    assert found.share == pytest.approx(0.837218626490482, abs=1e-9)
    half = stats.t.ppf(0.975, 8) * found.standard_error
    assert (found.low, found.high) == pytest.approx((found.estimate - half, found.estimate + half))


def test_hartung_and_knapps_factor_is_one_at_paule_and_mandels_variance():
    y, v = np.array(KACKER), np.array(VARIANCES)
    w = 1 / (v + between_variance(y, v))
    mean = (w * y).sum() / w.sum()
    assert (w * (y - mean) ** 2).sum() / (len(y) - 1) == pytest.approx(1, abs=1e-9)


def test_studies_that_agree_better_than_chance_have_no_variance_between_them():
    found = pooled([1.0, 1.01, 0.99], [0.2, 0.2, 0.2])
    assert found.between == found.share == 0
    assert found.standard_error == pytest.approx(0.2 / np.sqrt(3))  # never narrower than the weights make it
    assert sum(found.weights) == pytest.approx(1)


def test_what_has_no_error_takes_no_part():
    alone = pooled([1.0, 2.0, np.nan], [0.1, np.nan, 0.2])
    assert alone.studies == 1 and np.isnan(alone.estimate) and alone.weights == (0.0, 0.0, 0.0)
    two = pooled([1.0, 2.0, 1.2], [0.1, 0.0, 0.1])
    assert two.studies == 2 and two.weights[1] == 0


@pytest.mark.parametrize("studies", [2, 3, 5])
@pytest.mark.parametrize("between", [0.0, 1.0, 3.0])
def test_intervals_cover_the_mean_over_studies(studies, between):
    """In 2,000 simulated sets of studies, whose own standard errors are estimated from 12 degrees of freedom."""
    draw, covered = np.random.default_rng(studies), 0
    for _ in range(2000):
        truth = draw.normal(0, between, studies)
        errors = np.sqrt(draw.chisquare(12, studies) / 12) * draw.choice([0.7, 1.0, 1.5], studies)
        found = pooled(truth + errors * draw.standard_t(12, studies), errors)
        covered += found.low <= 0 <= found.high
    assert covered / 2000 > 0.935  # 0.95 less three standard errors of this simulation


# Folders


def crossed(place: Path, seed: int, **changes) -> str:
    study = default_study(seed=seed, factors=AVERAGE, confirm={"seeds": 4, "design": "factorial"}, **changes)
    make_results(place, study, faults=False)
    return str(place)


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Comparison:
    place = tmp_path_factory.mktemp("three")
    return Comparison.of([crossed(place / name / "made", seed) for name, seed in (("a", 7), ("b", 8), ("c", 11))])


def test_effects_are_turned_the_same_way_round(three):
    assert list(three.labels) == ["a/made", "b/made", "c/made"]
    assert len({str(plan.incumbent["blocks"]) for plan in three.plans}) == 2  # or there is nothing to turn
    assert [one.name.partition(" ")[0] for one in three.compared][:2] == ["blocks", "kernel"]
    for one in three.compared:
        assert len(one.answers) == 3
        for answer in one.answers:
            effects = three.findings[answer.study].effects
            factors = "|".join(sorted(factor for factor, _ in one.question.pairs))
            same = [row for row in effects.itertuples() if "|".join(sorted(row.factor.split(" × "))) == factors]
            same = [row for row in same if row.estimand == one.question.estimand]
            assert answer.verdict == (same[0].verdict if same else "depends on another factor")
            for row in same:
                ends = sorted([abs(row.low), abs(row.high)])
                assert abs(answer.estimate) == pytest.approx(abs(row.estimate))
                assert sorted([abs(answer.low), abs(answer.high)]) == pytest.approx(ends)
            assert answer.low <= answer.estimate <= answer.high
    assert any(a.verdict == "depends on another factor" for one in three.compared for a in one.answers)
    blocks = three.compared[0]
    planted = 0.008 if blocks.name == "blocks 3 instead of 2" else -0.008
    assert all(np.sign(answer.estimate) == np.sign(planted) for answer in blocks.answers)


def test_differences_are_welchs(three):
    one = three.compared[0]
    first, other = one.answers[0], one.answers[1]
    error = np.hypot(first.standard_error, other.standard_error)
    assert other.difference == pytest.approx(other.estimate - first.estimate)
    df = error**4 / (first.standard_error**4 / first.df + other.standard_error**4 / other.df)
    half = stats.t.ppf(0.975, df) * error
    assert (other.difference_low, other.difference_high) == pytest.approx(
        (other.difference - half, other.difference + half)
    )
    assert np.isnan(first.difference) and not other.paired


def test_main_effects_of_one_cube_are_pooled(three):
    for one in three.compared:
        assert one.why == "" and one.pooled.studies == 3
        wanted = pooled([a.estimate for a in one.answers], [a.standard_error for a in one.answers])
        assert one.pooled == wanted


def test_settings_that_differ_are_listed_and_no_others(three):
    names = [name for name, _ in three.settings]
    assert "seed" in names and "plan" in names and "search.trials" not in names
    assert dict(three.settings)["seed"] == ["7", "8", "11"]


def perturbed(place: str, by) -> str:
    """The folder with its confirm runs' test accuracies changed."""
    folder = ResultsFolder.at(place)
    table = read_table(folder, "trials")
    frame = table.to_pandas()
    rows = frame["phase"] == "confirm"
    frame.loc[rows, "test_accuracy"] = by(frame[rows])
    write_table(folder, "trials", type(table).from_pandas(frame, table.schema, preserve_index=False))
    return place


def test_the_same_runs_twice_are_identical_and_never_pooled(tmp_path):
    found = Comparison.of([crossed(tmp_path / "a", 7), crossed(tmp_path / "b", 7)])
    assert found.shared == [(0, 1)]
    for one in found.compared:
        assert one.answers[1].judged == IDENTICAL and one.answers[1].difference == 0 and one.answers[1].paired
        assert one.pooled is None and "ran the same seeds" in one.why
    assert found.settings == []


def test_runs_of_the_same_seeds_are_compared_in_pairs(tmp_path):
    """Another machine that changes each run a little: in pairs it is seen to agree, which seeds alone would hide."""
    draw = np.random.default_rng(0)
    other = perturbed(crossed(tmp_path / "b", 7), lambda rows: rows["test_accuracy"] + draw.normal(0, 2e-4, len(rows)))
    found = Comparison.of([crossed(tmp_path / "a", 7), other])
    for one in found.compared:
        first, second = one.answers
        assert second.judged == AGREE and second.paired
        loose = np.hypot(first.standard_error, second.standard_error) * 2
        assert second.difference_high - second.difference_low < loose


def test_a_planted_difference_is_found(tmp_path):
    def shifted(rows: pd.DataFrame) -> pd.Series:
        return rows["test_accuracy"] + 0.02 * (rows["kernel"] == 5)

    found = Comparison.of([crossed(tmp_path / "a", 7), perturbed(crossed(tmp_path / "b", 8), shifted)])
    kernel = next(one for one in found.compared if one.question.pairs == {("kernel", frozenset(("3", "5")))})
    assert kernel.answers[1].judged == DIFFER
    assert abs(kernel.answers[1].difference) == pytest.approx(0.02, abs=0.006)
    assert kernel.pooled.share > 0.9 and kernel.pooled.p < 0.001


def test_plans_that_are_not_alike_are_not_pooled(tmp_path):
    longer = crossed(tmp_path / "b", 8, search={"trials": 30, "epochs": 12, "grace_period": 1, "reduction_factor": 3})
    found = Comparison.of([crossed(tmp_path / "a", 7), longer])
    assert all("budgets differ (9 and 12 epochs)" in one.why for one in found.compared)
    wider = crossed(tmp_path / "e", 8, baseline={"width": 16, "weight_decay": 0.001})
    found = Comparison.of([str(tmp_path / "a"), wider])
    assert all(
        one.pooled is None and "baselines differ (batch_size, downsample, weight_decay, width)" in one.why
        for one in found.compared
    )
    other = crossed(tmp_path / "f", 8, dataset={"name": "digits"})
    assert all(one.pooled is not None for one in Comparison.of([str(tmp_path / "a"), other]).compared)
    for name, seed in (("c", 7), ("d", 8)):
        make_results(tmp_path / name, default_study(seed=seed), faults=False)
    around = Comparison.of([str(tmp_path / "c"), str(tmp_path / "d")])
    assert any("incumbents differ" in one.why for one in around.compared)


@pytest.mark.parametrize("name", ["font-transfer", "structure-ablation"])
def test_named_arms_of_a_reference_study_against_themselves(name, tmp_path):
    import shutil

    shutil.copytree(REFERENCE / name, tmp_path / name)
    found = Comparison.of([str(REFERENCE / name), str(tmp_path / name)])
    judged = [one.answers[1].judged for one in found.compared if np.isfinite(one.answers[1].estimate)]
    assert judged and set(judged) == {IDENTICAL}


def test_refusals(tmp_path):
    a = crossed(tmp_path / "a", 7)
    make_results(tmp_path / "plain", default_study(), confirm=False)
    with pytest.raises(BadRequest, match="two folders or more"):
        Comparison.of([a])
    with pytest.raises(BadRequest, match="given twice"):
        Comparison.of([a, str(tmp_path / "x" / ".." / "a")])
    with pytest.raises(BadRequest, match="has no plan"):
        Comparison.of([a, str(tmp_path / "plain")])
    with pytest.raises(BadRequest, match="not a results folder"):
        Comparison.of([a, str(tmp_path)])
    found = Comparison.of([a, crossed(tmp_path / "b", 8)])
    with pytest.raises(FolderRefused, match="holds the results of a study"):
        shown.write(found, ResultsFolder.at(a))


def test_labels_are_as_short_as_they_can_be():
    assert labels(["/x/a/default", "/y/b/default"]) == ["a/default", "b/default"]
    assert labels(["/x/a", "/x/b"]) == ["a", "b"]
    assert labels(["s3://k/a/m", "/k/a/m"]) == ["s3://k/a/m", "/k/a/m"]


def test_the_page_the_table_and_the_plot(three, tmp_path):
    page = shown.write(three, ResultsFolder.at(tmp_path / "out"))
    text = Path(page).read_text(encoding="utf-8")
    assert "Pooled over the studies" in text and "forest" in text and "<script>alert" not in text
    table = pd.read_csv(tmp_path / "out" / "compared.csv")
    assert len(table) == sum(len(one.answers) + 1 for one in three.compared)
    assert table.loc[table["study"] == "pooled", "i2"].notna().all()
    for drawing in drawings(three):
        assert render(drawing)["svg"].startswith(b"<?xml")
        assert "pooled" in drawing.alt


def test_markup_in_a_folders_name_is_text(tmp_path):
    name = "<script>alert(1)<&>"
    found = Comparison.of([crossed(tmp_path / name.replace("/", ""), 7), crossed(tmp_path / "b", 8)])
    page = Path(shown.write(found, ResultsFolder.at(tmp_path / "out"))).read_text(encoding="utf-8")
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_the_command(tmp_path):
    a, b = crossed(tmp_path / "a", 7), crossed(tmp_path / "b", 8)
    env = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "110"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        words = (sys.executable, str(ROOT / "sweeps" / "compare.py"), *words)
        return subprocess.run(
            words, cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8", timeout=300
        )

    done = run(a, b, "--json", "--output", "out")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["studies"] == ["a", "b"] and len(said["effects"]) == 9 and (tmp_path / "out" / "compare.html").exists()
    text = run(a, b)
    assert "pooled" in text.stdout and "differs" in text.stdout and text.returncode == 0
    assert run(a).returncode == 2 and run(a, "nowhere").returncode == 2


REAL = """
dataset: {name: glyphs, variants: 1, limit: 400}
baseline: {blocks: 1, width: 4, downsample: 1, batch_size: 32, lr: 0.1}
arms: {kernel-3: {kernel: 3}, kernel-1: {kernel: 1}}
search: {epochs: 2}
confirm: {design: arms, seeds: 3}
"""


@pytest.mark.long
@pytest.mark.slow
def test_two_real_sweeps_of_one_study_with_other_seeds_are_compared_and_pooled(tmp_path):
    (tmp_path / "tiny.yaml").write_text(REAL)
    for seed in ("1", "2"):
        words = ["--study", "tiny.yaml", "--storage", f"seed-{seed}", "--seed", seed]
        script = [sys.executable, str(ROOT / "sweeps/ablation.py"), *words]
        done = subprocess.run(script, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    places = ["seed-1/tiny", "seed-2/tiny"]
    script = [sys.executable, str(ROOT / "sweeps/compare.py"), *places, "--json", "--output", "both"]
    done = subprocess.run(
        script, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = Comparison.of([str(tmp_path / place) for place in places])
    (one,) = found.compared
    assert dict(found.settings)["seed"] == ["1", "2"] and found.shared == []
    for study, answer in enumerate(one.answers):
        runs = found.findings[study].results.confirm
        means = runs.groupby("arm")["test_accuracy"].mean()
        assert abs(answer.estimate) == pytest.approx(abs(means["kernel-1"] - means["kernel-3"]))
        assert (answer.n, answer.n_reference) == (3, 3)
    assert one.answers[1].difference == pytest.approx(one.answers[1].estimate - one.answers[0].estimate)
    assert one.pooled is not None and one.pooled.studies == 2
    assert min(a.estimate for a in one.answers) <= one.pooled.estimate <= max(a.estimate for a in one.answers)
    assert json.loads(done.stdout) and (tmp_path / "both/compare.html").stat().st_size > 10_000
