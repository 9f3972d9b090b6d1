"""Collapsed runs: left out on one side they make no claim, and results that depend on them are inconclusive."""

import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_results import make_results
from rich.console import Console
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, f1_score

from resnetlab.analysis.confirm.collapse import rates, rates_differ
from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.effects import analyse
from resnetlab.analysis.confirm.effects_table import TURNS, estimate, performance
from resnetlab.analysis.confirm.estimands import estimands
from resnetlab.analysis.results import Results
from resnetlab.calibration.error_rates import GUESSING, Scenario, measure, repeats, simulated_plan
from resnetlab.calibration.simulator import Truth, confirm_rows, confirm_values
from resnetlab.experiment.scores import BUILT_IN, guessed
from resnetlab.planning.plan import Plan, PlannedArm
from resnetlab.report import terminal
from resnetlab.report.findings import Findings
from resnetlab.report.sections import effects as section
from resnetlab.report.sections.collapsed import collapsed_runs
from resnetlab.study.metrics import CLASSIFIER


def two_arms(kernel_3, kernel_5, **more):
    """The effects table of two arms' accuracies, NaN for a run that diverged, and the plan's runs."""
    plan = Plan(
        study="s", study_hash="s", data_hash="d", code="c", chosen_trial="t", chosen_val_accuracy=0.7,
        incumbent={"kernel": 3}, design="one-factor", compared={"kernel": [5]}, seeds=len(kernel_3),
        alpha=0.05, delta=0.5,
        arms=[PlannedArm(name="incumbent", values={"kernel": 3}),
              PlannedArm(name="kernel=5", values={"kernel": 5}, changed={"kernel": 5})],
        **({"guessing": {"": 0.12}} | more),
    )  # fmt: skip
    rows = pd.DataFrame(confirm_rows(plan, np.array([kernel_3, kernel_5])))
    runs = ConfirmRuns.of(plan, rows)
    return estimate(runs).iloc[0], runs


NOTE = [0.307, 0.344, 0.433], [0.707, 0.233, 0.681]


@pytest.mark.parametrize("more", [{}, {"guessing": None}, {"guessing": {}}], ids=["today's", "older", "not known"])
def test_runs_are_not_left_out_on_one_side_alone(more):
    """A plan once dropped .233, below half of .7, and none of the other arm: "effect, -33 points"."""
    found, runs = two_arms(*NOTE, **more)
    assert found["verdict"] == "inconclusive" and (found["n"], found["n_reference"]) == (3, 3)
    assert found["p"] == pytest.approx(stats.ttest_ind(NOTE[1], NOTE[0], equal_var=False).pvalue)
    assert found["p"] == pytest.approx(0.36, abs=0.005)
    assert performance(runs)["mean"].tolist() == pytest.approx([np.mean(NOTE[0]), np.mean(NOTE[1])])


GOOD, BETTER, STUCK = [0.80, 0.81, 0.79, 0.80, 0.805], [0.90, 0.91, 0.89, 0.90, 0.905], 0.1


@pytest.mark.parametrize(
    ("one", "other", "verdict", "turns"),
    [
        (GOOD, BETTER, "effect", False),
        (GOOD, [STUCK, *BETTER[1:]], "inconclusive", True),  # only without it
        ([STUCK, *GOOD[1:]], BETTER, "inconclusive", True),
        (GOOD, [np.nan, *BETTER[1:]], "inconclusive", True),  # diverged counts as guessing
        ([STUCK, *GOOD[1:]], [STUCK, *GOOD[1:]], "inconclusive", False),
        (GOOD, [STUCK + i / 1000 for i in range(5)], "effect", False),  # it is what the arm does
        (GOOD, [np.nan, np.nan, STUCK, STUCK + 0.01, STUCK - 0.01], "effect", False),
        (GOOD[:2], [STUCK, STUCK + 0.001], "inconclusive", True),  # two runs do not show that
    ],
)
def test_a_verdict_that_turns_on_collapsed_runs_is_none(one, other, verdict, turns):
    found, runs = two_arms(one, other)
    assert (found["verdict"], found["note"].startswith(TURNS)) == (verdict, turns)
    lost = runs.untrained.sum()
    assert ("without collapsed and diverged runs" in found["note"]) == (lost > 0)


def test_what_it_would_be_without_them_is_said_with_both_sides_treated_alike():
    found, _ = two_arms([0.1, *GOOD[1:]], [0.1, 0.1, *BETTER[2:]])
    gap = 100 * (np.mean(BETTER[2:]) - np.mean(GOOD[1:]))
    assert f"without collapsed and diverged runs (3 and 4 runs): {gap:+.2f} points (" in found["note"]
    assert "3 of 10 runs collapsed" in found["note"]


@pytest.mark.parametrize("worse", [False, True])
def test_where_guessing_is_not_known_diverged_runs_may_only_speak_for_the_claim(worse):
    sides = (BETTER, [np.nan, *GOOD[1:]]) if worse else (GOOD, [np.nan, *BETTER[1:]])
    assert two_arms(*sides, guessing={})[0]["verdict"] == ("effect" if worse else "inconclusive")
    alike, _ = two_arms([0.8, 0.8001, 0.7999, 0.8, 0.8], [np.nan, 0.8, 0.8001, 0.7999, 0.8], guessing={})
    assert alike["verdict"] == "inconclusive" and alike["note"].startswith(TURNS)


@pytest.mark.parametrize("kind", ["one-factor", "fractional"])
@pytest.mark.parametrize("seeds", [2, 3, 5, 8, 16])
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.25, 0.4, 0.5])
def test_arms_that_collapse_alike_are_not_told_apart(kind, seeds, rate):
    (row, *others) = measure(Scenario("bimodal", kind, seeds, Truth(collapse=rate)), 400)
    assert all(found["familywise"] <= 0.055 for found in (row, *others))


@pytest.mark.parametrize(
    ("rule", "seeds", "rate"), [("all runs as they are", 3, 0.5), ("single low runs left out", 2, 0.25)]
)
def test_simpler_rules_claim_too_much(rule, seeds, rate):
    """The second was ours: runs below half of the incumbent's, where they are at most half of an arm, were left out."""
    scenario = Scenario("bimodal", "one-factor", seeds, Truth(collapse=rate))
    plan = scenario.plan
    arms = [arm.values for arm in plan.arms]
    values = confirm_values(scenario.truth, arms, seeds, 1000, np.random.default_rng(0))
    values = np.where(np.isnan(values), 0.1, values) + np.random.default_rng(1).normal(0, 0.003, values.shape)
    low = values < 0.4
    left_out = low & (2 * low.sum(-1, keepdims=True) <= seeds) if rule.startswith("single") else np.zeros_like(low)
    found = analyse(estimands(plan), np.where(left_out, np.nan, values), plan.alpha, plan.least_effect)
    assert (found.verdict == "effect").any(-1).mean() > 0.08


def test_an_interaction_that_turns_on_collapsed_runs_brings_no_simple_effects_in():
    """It would take the place of main effects that nothing is said against."""
    seen = 0
    for found in repeats(Scenario("w", "fractional", 5, Truth(collapse=0.4)), 1000, 0):
        kinds = np.array([item.kind for item in found.questions.items])
        inter = kinds == "interaction"
        doubted = found.turns[:, inter] & (found.p_adjusted[:, inter] <= 0.05)
        none = (found.verdict[:, inter] != "effect").all(-1)
        assert not found.shown[none][:, kinds == "simple"].any() and found.shown[none][:, kinds == "main"].all()
        seen += int((doubted.any(-1) & none).sum())
    assert seen >= 10


def test_an_arm_that_always_collapses_is_found():
    scenario = Scenario("one arm fails", "one-factor", 5, Truth(main={"kernel": {5: -75.0}}))
    plan = scenario.plan
    which = [item.name for item in estimands(plan).items].index("kernel: 5 - 3")
    found = np.concatenate([each.verdict[:, which] for each in repeats(scenario, 200, 0)])
    assert (found == "effect").mean() > 0.95


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "top5"])
@pytest.mark.parametrize("counts", [[100] * 10, [900, 60, 40], [50, 50]])
def test_guessing_reaches_the_level_that_a_plan_has_and_hardly_more(metric, counts):
    """By classifiers that always name one class, or any by their shares."""
    labels = np.repeat(np.arange(len(counts)), counts)
    level, rng = guessed(metric, np.array(counts)), np.random.default_rng(0)
    if metric == "top5" and len(counts) <= 5:
        assert level is None
        return
    scored = {
        "accuracy": lambda y: (y == labels).mean(),
        "balanced_accuracy": lambda y: balanced_accuracy_score(labels, y),
        "macro_f1": lambda y: f1_score(labels, y, average="macro", zero_division=0),
        "top5": lambda y: np.mean(np.abs(labels - y) < 2.5),
    }[metric]
    shares = np.array(counts) / sum(counts)
    found = [scored(np.full(len(labels), k)) for k in range(len(counts))]
    found += [scored(rng.choice(len(counts), len(labels), p=shares)) for _ in range(300)]
    assert np.mean(np.array(found) <= level) > 0.99 and level < 1


@pytest.mark.parametrize("counts", [[100] * 10, [900, 60, 40], [50, 50], [10, 990]])
def test_scores_without_meaning_reach_the_level_of_auroc_and_hardly_more(counts):
    labels, level = np.repeat(np.arange(len(counts)), counts), guessed("auroc", np.array(counts))
    rng = np.random.default_rng(0)
    found = [BUILT_IN["auroc"].of(labels, rng.normal(size=(len(labels), len(counts)))) for _ in range(300)]
    assert np.mean(np.array(found) <= level) > 0.99 and np.max(found) > 0.5 + (level - 0.5) / 4
    assert guessed("auroc", np.array([50])) is None


@pytest.mark.parametrize("metric", ["cross_entropy", "calibration_error", "a user's own"])
def test_guessing_is_not_known_of_every_metric(metric):
    assert guessed(metric, np.array([50, 50])) is None
    assert guessed("accuracy", np.array([2, 1])) is None, "three images tell nothing from guessing"
    assert set(CLASSIFIER) >= {"cross_entropy", "calibration_error"}


def test_the_level_is_in_the_plan_and_changes_no_seed():
    plan = simulated_plan("one-factor", 3)
    other = plan.model_copy(update={"guessing": {"": 0.2}})
    assert plan.content()["guessing"] == {"": GUESSING} and plan.plan_hash != other.plan_hash
    assert plan.seeds_from == other.seeds_from
    older = Plan.model_validate({key: value for key, value in plan.content().items() if key != "guessing"})
    assert "guessing" not in older.content() and older.collapsed_up_to == [0.4] * len(plan.arms)
    named = plan.model_copy(update={"guessing": {plan.arms[1].name: 0.3}})
    assert named.collapsed_up_to[1] == 0.3 and np.isnan(named.collapsed_up_to[0])


def test_rates_are_compared_with_the_first_arms():
    collapsed = np.array([[False] * 10, [True] * 3 + [False] * 7])
    found = rates(["a", "b"], collapsed, np.ones((2, 10), bool))
    wilson = [stats.binomtest(k, 10).proportion_ci(0.95, "wilson") for k in (0, 3)]
    assert found["low"].tolist() == pytest.approx([end.low for end in wilson])
    b = found.iloc[1]
    # Newcombe 1998, method 10
    assert b["difference_low"] == pytest.approx(0.3 - np.hypot(0.3 - wilson[1].low, wilson[0].high))
    assert b["difference_high"] == pytest.approx(0.3 + np.hypot(wilson[1].high - 0.3, 0.0))
    assert b["p"] == rates_differ(3, 10, 0, 10) == pytest.approx(stats.fisher_exact([[3, 7], [0, 10]]).pvalue)
    waiting = rates(["a", "b"], collapsed, np.array([[True] * 10, [False] * 10]))
    assert waiting["runs"].tolist() == [10, 0] and np.isnan(waiting["rate"].iloc[1])


def test_report_and_terminal_say_what_collapsed(tmp_path):
    plan = make_results(tmp_path, faults=False)
    assert collapsed_runs(Findings(Results.open(tmp_path))) == []
    content = plan.content() | {"guessing": {"": 0.12}}
    changed = Plan.model_validate(content)
    (tmp_path / "plan.json").write_text(json.dumps(content | {"plan_hash": changed.plan_hash}))
    arm = plan.arms[1].name
    stored = pq.read_table(tmp_path / "trials.parquet")
    trials = stored.to_pandas()
    ours = trials["plan_hash"] == plan.plan_hash
    trials.loc[ours, "plan_hash"] = changed.plan_hash
    trials.loc[ours & (trials["arm"] == arm) & (trials["seed_block"] == 0), "test_accuracy"] = 0.1
    pq.write_table(pa.Table.from_pandas(trials, stored.schema, preserve_index=False), tmp_path / "trials.parquet")
    findings = Findings(Results.open(tmp_path))
    (table,) = collapsed_runs(findings)
    assert [row[1] for row in table.rows][:2] == ["0 / 3", "1 / 3"] and "12" in table.foot
    assert "Runs that collapsed or diverged" in [one.title for one in section.section(findings).tables]
    turning = findings.effects["note"].str.contains(TURNS, regex=False).sum()
    assert turning >= 1
    said = terminal.told(findings, str(tmp_path))
    assert f"{turning} comparison" in terminal_text(said) and "on runs that collapsed" in terminal_text(said)


def terminal_text(said):
    console = Console(file=io.StringIO(), width=200)
    terminal.show(said, console)
    return console.file.getvalue()
