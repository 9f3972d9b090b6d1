"""Declared hypotheses: parsed strictly, given room in the plan, and judged with the right error rates."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.effects import analyse
from resnetlab.analysis.confirm.effects_table import TURNS, estimate
from resnetlab.analysis.confirm.estimands import between, estimands
from resnetlab.analysis.confirm.verdicts import COLUMNS, claims, decide, exploratory
from resnetlab.calibration.error_rates import INCUMBENT, PLANTED, simulated_plan
from resnetlab.calibration.simulator import Memory, Truth, confirm_rows, confirm_values, drive
from resnetlab.calibration.sweeps import Way, simulated_study
from resnetlab.errors import BadRequest
from resnetlab.planning.making import sketch
from resnetlab.planning.plan import asked
from resnetlab.study import build_study
from resnetlab.study.hypotheses import read_hypothesis
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import one_dataset

FACTORS = {
    "blocks": {"levels": [2, 3, 4]},
    "kernel": {"levels": [3, 5]},
    "se": {"levels": [False, True]},
    "head_depth": {"levels": [1, 2]},
    "optimizer": {"levels": ["sgd", "adamw"]},
    "schedule": {"levels": ["constant", "one-cycle"]},
    "weight_decay": {"levels": [0.0, 0.01]},
    "lr": {"low": 0.01, "high": 1.0, "log": True},
}


def study(*hypotheses, factors=FACTORS, **confirm):
    confirm = {"design": "one-factor", "seeds": 4} | confirm
    return build_study(
        {"name": "s", "dataset": {"name": "glyphs"}, "factors": factors, "confirm": confirm,
         "baseline": {"downsample": 1, "blocks": 3}, "hypotheses": list(hypotheses)},
        "mine.yaml",
    )  # fmt: skip


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, expected",
    [
        ("kernel 5 > kernel 3 by at least 0.5 points", ("kernel", 5, 3, "above", 0.5)),
        ("kernel 5>kernel 3", ("kernel", 5, 3, "above", 0.0)),
        ("kernel=3 < kernel=5 by at least 1 point", ("kernel", 5, 3, "above", 1.0)),
        ("  se on   >  se off ", ("se", True, False, "above", 0.0)),
        ("se true > se false", ("se", True, False, "above", 0.0)),
        ("head_depth 2 within 1 point of head_depth 1", ("head_depth", 2, 1, "within", 1.0)),
        ("schedule one-cycle > schedule constant", ("schedule", "one-cycle", "constant", "above", 0.0)),
        ("weight_decay 1e-2 within 0.25 points of weight_decay 0", ("weight_decay", 0.01, 0.0, "within", 0.25)),
    ],
)
def test_lines_are_read(line, expected):
    found = study(line).declared[0]
    assert (found.factor, found.level, found.reference, found.relation, found.margin) == expected
    assert isinstance(found.level, type(expected[1])) and found.text == line


@pytest.mark.parametrize(
    "line, words",
    [
        ("kernal 5 > kernal 3", ["'kernal' is not a factor", "did you mean 'kernel'"]),
        ("kernel 7 > kernel 3", ["kernel has no level '7'", "allowed: 3, 5"]),
        ("se 1 > se 0", ["se has no level '1'", "allowed: off, on"]),
        ("lr 0.1 > lr 0.2", ["lr is tuned over a range", "kernel"]),
        ("kernel 5 > blocks 3", ["one factor, got kernel and blocks"]),
        ("kernel 5 > kernel 5", ["with itself"]),
        ("kernel 5 is better", ["not understood", "by at least 0.5 points"]),
        ("kernel 5 > 3", ["'3' does not name a factor and a level"]),
        ("kernel 5 > kernel 3 by at least 0.5", ["need a margin in points, got 0.5"]),
        ("kernel 5 > kernel 3 by at least 500 points", ["points <= 100, got 500"]),
        ("kernel 5 within 0 points of kernel 3", ["0 < points <= 100, got 0"]),
        ("kernel 5 within -1 points of kernel 3", ["not understood"]),
        ("kernel 5 > kernel 3 > kernel 5", ["not understood"]),
        ("", ["not understood"]),
        ("kernel 5 > kernel " + "3" * 400, ["characters are too many"]),
    ],
)
def test_lines_that_cannot_be_tested_are_refused(line, words):
    with pytest.raises(BadRequest) as error:
        study(line)
    assert str(error.value).startswith("mine.yaml: hypotheses: ")
    for word in words:
        assert word in str(error.value)


def test_hypotheses_that_repeat_or_are_not_confirmed_are_refused():
    with pytest.raises(BadRequest, match="says the same as 'kernel 5 > kernel 3'"):
        study("kernel 5 > kernel 3", "kernel 3 < kernel 5")
    content = study().model_dump() | {"hypotheses": ["kernel 5 > kernel 3"], "confirm": {"factors": ["se"]}}
    with pytest.raises(BadRequest, match=r"kernel is not in confirm.factors \(allowed: se\)"):
        build_study(content, "mine.yaml")
    with pytest.raises(BadRequest, match=r"mine.yaml: hypotheses\.0: "):
        build_study(study().model_dump() | {"hypotheses": [{"kernel": 5}]}, "mine.yaml")


WORDS = ["kernel", "5", "3", "7", "se", "on", "off", "lr", ">", "<", "=", "within", "1", "points", "of",
         "by at least", "0.5", "point", "é", "-", "."]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join) | st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_reason(text):
    space = study().space
    try:
        found = read_hypothesis(text, space)
    except ValueError as error:
        assert str(error).startswith("hypotheses: ")
    else:
        assert found.level in space[found.factor].levels


# -- in the plan -------------------------------------------------------------------------------------------------------


def test_hypotheses_are_part_of_the_plan_and_not_of_the_studys_identity():
    without, with_one = study(), study("kernel 5 > kernel 3")
    assert without.identity() == with_one.identity() and without.study_hash == with_one.study_hash
    assert sketch(without).plan_hash != sketch(with_one).plan_hash
    assert asked(with_one) == asked(without) | {"hypotheses": ["kernel 5 > kernel 3"]}
    assert build_study(json.loads(with_one.model_dump_json()), "again") == with_one


def test_a_plan_made_before_there_were_hypotheses_still_answers_its_study():
    assert asked(study(seeds=3)) == {
        "seeds": 3, "design": "one-factor", "factors": None, "alpha": 0.05, "delta": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize("line, chosen", [("blocks 4 > blocks 3", 4), ("blocks 3 within 1 point of blocks 2", 2)])
def test_a_fraction_makes_room_for_the_level_of_a_hypothesis(line, chosen):
    plan = sketch(study(line, design="fractional", factors={k: FACTORS[k] for k in ("blocks", "kernel", "se")}))
    assert plan.compared["blocks"] == [chosen] and len(plan.arms) == 8


# -- verdicts ----------------------------------------------------------------------------------------------------------

LINES = (
    "kernel 5 > kernel 3 by at least 0.3 points",  # true where 1.1
    "se off > se on",  # false: se gives +0.8
    "head_depth 2 within 0.5 points of head_depth 1",  # true: nothing
    "optimizer adamw within 0.5 points of optimizer sgd",  # false: -0.9
    "blocks 4 > blocks 3 by at least 1.2 points",  # exactly at the margin
)
TRUTH = Truth(main=PLANTED.main, sd=0.1)


def declared(kind="one-factor", seeds=5, lines=LINES):
    factors = {name: {"levels": [INCUMBENT[name], *levels]} for name, levels in
               simulated_plan(kind, seeds).compared.items()}  # fmt: skip
    one = study(*lines, factors=factors, design=kind, seeds=seeds)
    plan = simulated_plan(kind, seeds)
    return one, plan.model_copy(update={"asked": asked(one)})


def confirmed(plan, truth=TRUTH, seed=0):
    values = confirm_values(truth, [arm.values for arm in plan.arms], plan.seeds, 1, np.random.default_rng(seed))
    return pd.DataFrame(confirm_rows(plan, values[0]))


@pytest.mark.parametrize("kind", ["one-factor", "fractional", "factorial"])
def test_planted_truth_is_judged_right(kind):
    one, plan = declared(kind)
    found = claims(one, plan, confirmed(plan))
    assert list(found.columns) == COLUMNS and found["hypothesis"].tolist() == list(LINES)
    assert found["verdict"].tolist()[:4] == ["supported", "refuted", "supported", "refuted"]
    assert (found["plan_hash"] == plan.plan_hash).all() and (found["rows"].str.len() == 16).all()
    assert set(found["estimand"]) == {
        "change at the incumbent" if kind == "one-factor" else "average over the other factors"
    }
    assert (found["n"] == (5 if kind == "one-factor" else len(plan.arms) * 5 // 2)).all()
    for row in found.itertuples(index=False):
        assert row.confidence == pytest.approx(0.9) and row.low < row.estimate < row.high
    kernel = found.iloc[0]
    assert 100 * kernel["estimate"] == pytest.approx(1.1, abs=0.2) and 100 * kernel["low"] > 0.3


def test_the_verdicts_are_those_of_one_sided_welch_tests():
    one, plan = declared(lines=LINES[:1], seeds=4)
    rows = confirmed(plan, Truth(main={"kernel": {5: 0.7}}, sd=0.3))
    found = claims(one, plan, rows).iloc[0]
    y, x = (rows.loc[rows["arm"] == arm, "test_accuracy"].astype(float) for arm in ("kernel=5", "incumbent"))
    test = stats.ttest_ind(y - 0.003, x, equal_var=False, alternative="greater")
    assert found["p_supported"] == pytest.approx(test.pvalue) and found["p_refuted"] == pytest.approx(1 - test.pvalue)
    interval = stats.ttest_ind(y, x, equal_var=False).confidence_interval(0.9)
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high))
    assert (found["verdict"] == "supported") == (found["low"] > 0.003)


def test_holm_runs_over_all_that_was_declared_compared_or_not():
    found = []
    for lines in (["kernel 5 > kernel 3"], ["kernel 5 > kernel 3", "blocks 4 > blocks 2"]):
        one = study(*lines, design="fractional", factors={k: FACTORS[k] for k in ("blocks", "kernel", "se")})
        plan = sketch(one).model_copy(update={"chosen_val_accuracy": 0.8})
        found.append(claims(one, plan, confirmed(plan, Truth(main={"kernel": {5: 0.2}}, sd=0.3))))
    assert found[1].iloc[1]["note"].startswith("not compared")
    assert found[1].iloc[0]["p_supported"] == pytest.approx(2 * found[0].iloc[0]["p_supported"])


@pytest.mark.parametrize("kind, seeds", [("one-factor", 3), ("fractional", 2)])
def test_false_verdicts_are_as_rare_as_promised(kind, seeds):
    """Each hypothesis at the edge of being true, where errors are most frequent, unequal variances."""
    lines = ("kernel 5 > kernel 3 by at least 0.5 points", "se on > se off", "optimizer adamw > optimizer sgd",
             "head_depth 2 within 1 point of head_depth 1", "blocks 4 within 1 point of blocks 3")  # fmt: skip
    one, plan = declared(kind, seeds, lines)
    truth = Truth(main={"kernel": {5: 0.5}, "head_depth": {2: 1.0}, "blocks": {4: -1.0}}, sd=0.6,
                  spread={"kernel": {5: 2.0}, "se": {True: 0.5}})  # fmt: skip
    pairs = [(found.factor, found.level, found.reference) for found in one.declared]
    values = confirm_values(truth, [arm.values for arm in plan.arms], seeds, 3000, np.random.default_rng(0))
    found = analyse(between(plan, pairs), values, 0.05, 0.005)
    verdict, _, _ = decide(found.estimates, one.declared, 0.05)
    for wrong in ("supported", "refuted"):
        assert 0.01 < (verdict == wrong).any(-1).mean() <= 0.055, wrong


def test_a_wide_interval_supports_and_refutes_nothing():
    one, plan = declared()
    found = claims(one, plan, confirmed(plan, Truth(sd=3.0)))
    assert set(found["verdict"]) == {"inconclusive"}


def test_a_difference_too_small_to_matter_is_called_that():
    one, plan = declared(lines=["kernel 5 > kernel 3"], seeds=8)
    found = claims(one, plan, confirmed(plan, Truth(sd=0.05), seed=1)).iloc[0]
    assert found["verdict"] != "inconclusive" or "if there is any, is below 0.5 points" in found["note"]
    quiet = confirmed(plan, Truth(main={"kernel": {5: 0.0}}, sd=0.05), seed=3)
    assert "is below 0.5 points" in claims(one, plan, quiet).iloc[0]["note"]


# -- what stands in the way --------------------------------------------------------------------------------------------


def test_levels_that_the_plan_does_not_hold_are_inconclusive_with_the_reason():
    one = study("blocks 4 > blocks 2", "kernel 5 > kernel 3", design="fractional",
                factors={k: FACTORS[k] for k in ("blocks", "kernel", "se")})  # fmt: skip
    plan = sketch(one).model_copy(update={"chosen_val_accuracy": 0.8})
    found = claims(one, plan, confirmed(plan))
    blocks = found.iloc[0]
    assert blocks["verdict"] == "inconclusive" and blocks["rows"] == "" and blocks["n"] == 0
    assert "not compared: blocks=" in blocks["note"] and "compares one alternative" in blocks["note"]
    assert found.iloc[1]["verdict"] == "supported"
    before = claims(one, None, confirmed(plan))
    assert set(before["note"]) == {"not compared: nothing is planned yet"} and len(before) == 2
    none = study("kernel 5 > kernel 3", design="none")
    assert "does not compare kernel" in claims(none, sketch(none), confirmed(plan)).iloc[0]["note"]


def test_two_alternatives_are_compared_with_each_other_where_the_design_has_both():
    for kind, seeds in (("one-factor", 4), ("factorial", 2), ("d-optimal", 3)):
        one = study("blocks 4 > blocks 2 by at least 1 point", design=kind, seeds=seeds,
                    factors={k: FACTORS[k] for k in ("blocks", "kernel", "se")})  # fmt: skip
        plan = sketch(one).model_copy(update={"chosen_val_accuracy": 0.8})
        truth = Truth(main={"blocks": {2: -1.0, 4: 1.0}}, sd=0.05)
        found = claims(one, plan, confirmed(plan, truth)).iloc[0]
        assert found["verdict"] == "supported" and 100 * found["estimate"] == pytest.approx(2.0, abs=0.2), kind


def test_no_verdict_before_all_runs_have_ended_or_from_one_seed():
    one, plan = declared(seeds=4)
    rows = confirmed(plan)
    rows.loc[0, ["status", "test_accuracy"]] = ["running", np.nan]
    found = claims(one, plan, rows)
    assert set(found["verdict"]) == {"inconclusive"} and found["note"].str.startswith("no verdict before").all()
    one, plan = declared(seeds=1)
    found = claims(one, plan, confirmed(plan))
    assert set(found["verdict"]) == {"inconclusive"} and found["note"].str.contains("2 seeds or more").all()


def test_alike_is_not_supported_where_one_side_lost_more_runs():
    one, plan = declared(lines=LINES[2:3], seeds=6)
    rows = confirmed(plan, Truth(sd=0.05))
    assert claims(one, plan, rows).iloc[0]["verdict"] == "supported"
    lost = rows["arm"].eq("head_depth=2") & rows["seed_block"].eq(1)
    rows.loc[lost, "status"], rows.loc[lost, "test_accuracy"] = "diverged", np.nan
    found = claims(one, plan, rows).iloc[0]
    assert found["verdict"] == "inconclusive" and found["note"].startswith(TURNS) and found["n"] == 5


def test_a_found_interaction_is_named():
    one, plan = declared("fractional", 4)
    found = claims(one, plan, confirmed(plan, Truth(main=PLANTED.main, together=PLANTED.together, sd=0.1)))
    named = found.set_index("factor")["note"].str.contains("blocks × kernel was found")
    assert named["kernel"] and named["blocks"] and not named["se"]


def test_the_hash_names_the_rows_that_a_verdict_rests_on():
    one, plan = declared()
    rows = confirmed(plan)
    first = claims(one, plan, rows).set_index("factor")["rows"]
    shuffled = rows.sample(frac=1, random_state=0)[rows.columns[::-1]]
    assert claims(one, plan, shuffled).set_index("factor")["rows"].equals(first)
    other = rows.copy()
    which = (other["arm"] == "kernel=5") & (other["seed_block"] == 0)
    other.loc[which, "test_accuracy"] += 1e-9
    changed = claims(one, plan, other).set_index("factor")["rows"]
    assert changed["kernel"] != first["kernel"] and changed.drop("kernel").equals(first.drop("kernel"))


def test_all_that_was_not_declared_is_exploratory():
    one, plan = declared("fractional", 4, lines=("se off > se on", "kernel 5 > kernel 3"))
    rows = confirmed(plan, Truth(main=PLANTED.main, together=PLANTED.together, sd=0.1))
    effects = estimate(ConfirmRuns.of(plan, rows))
    free = exploratory(effects, claims(one, plan, rows))
    assert effects.loc[~free, "name"].tolist() == ["se: on - off"]
    assert free.sum() == len(effects) - 1 and effects["name"].str.contains("kernel: 5 - 3 where").any()
    assert exploratory(effects, claims(study(), plan.model_copy(update={"asked": {}}), rows)).all()


def test_a_question_between_two_levels_is_the_difference_of_two():
    plan = simulated_plan("factorial", 2)
    everything = np.ones(len(plan.arms), dtype=bool)
    main = estimands(plan)
    weights = main.weights(everything)[[item.name == "kernel: 5 - 3" for item in main.items]]
    assert between(plan, [("kernel", 5, 3)]).weights(everything) == pytest.approx(weights)
    assert between(plan, [("kernel", 3, 5)]).weights(everything) == pytest.approx(-weights)


def test_a_changed_hypothesis_is_a_new_plan_with_fresh_runs_and_the_old_one_is_kept():
    def sweep(one):
        return Sweep(one, store, {"git_revision": "simulated"}, one_dataset(one, "simulated", ()))

    store, one = Memory(), simulated_study(Way("random", 8, confirm=True), seed=0)
    one = one.model_copy(update={"hypotheses": ("kernel 5 > kernel 3",)})
    first = sweep(one)
    drive(first, PLANTED)
    again = sweep(one)
    assert again.plan.plan_hash == first.plan.plan_hash and drive(again, PLANTED) == 0
    bolder = one.model_copy(update={"hypotheses": ("kernel 5 > kernel 3 by at least 1 point",)})
    second = sweep(bolder)
    drive(second, PLANTED)
    assert second.plan.plan_hash != first.plan.plan_hash
    assert store.folder.read(f"plans/{first.plan.plan_hash}.json") is not None
    trials = pd.DataFrame(list(store.trials.values()))
    confirm = trials[trials["phase"] == "confirm"]
    assert confirm.groupby("plan_hash").size().tolist() == [32, 32] and confirm["seed"].nunique() == 4
    found = claims(bolder, second.plan, confirm)
    assert found["hypothesis"].tolist() == list(bolder.hypotheses) and "another plan" in found["note"][0]


def test_named_arms_are_compared_with_each_other():
    """`font→character transfer within 1 point of scratch`, as a study of named arms has it."""
    arms = {"scratch": {}, "transfer": {"blocks": 4}, "deeper": {"blocks": 6}, "source": {"data": {"label": "font"}}}
    content = {"name": "s", "dataset": {"name": "glyphs", "label": "character"}, "arms": arms,
               "confirm": {"design": "arms", "seeds": 4}}  # fmt: skip
    lines = ["arm transfer within 1 point of arm scratch", "arm deeper > arm transfer by at least 1 point"]
    one = build_study(content | {"hypotheses": lines}, "arms.yaml")
    plan = sketch(one)
    rows = confirmed(plan, Truth(main={"blocks": {4: 0.1, 6: -2.0}}, sd=0.1))
    found = claims(one, plan, rows)
    assert found["verdict"].tolist() == ["supported", "refuted"]
    assert found["estimand"].tolist() == ["difference between two arms"] * 2
    assert exploratory(estimate(ConfirmRuns.of(plan, rows)), found).tolist() == [
        False,
        True,
        True,
    ]  # the last: source has no match
    for line, words in [
        ("arm transfer > arm source", "different tasks"),
        ("arm transfer > arm nobody", "no level 'nobody'"),
        ("blocks 4 > blocks 3", "'blocks' is not a factor"),
    ]:
        with pytest.raises(BadRequest, match=words):
            build_study(content | {"hypotheses": [line]}, "arms.yaml")
