"""What looks settled, in the effects table, the hypotheses, the report and the terminal."""

import io
import json

import pytest
from rich.console import Console
from test_looks_sweep import ARMS, drive, start, study

from resnetlab.analysis.confirm.earlier_plans import earlier_plans
from resnetlab.analysis.results import Results
from resnetlab.report.build import build_report
from resnetlab.report.findings import Findings
from resnetlab.report.terminal import show, told


def made(place, the_study, steps=None):
    sweep = start(place, the_study)
    drive(sweep, slots=1, steps=steps)
    sweep.store.close()
    sweep.store.folder.write_json("study.json", the_study.recorded())
    sweep.store.folder.write_json("sweep.json", {"command": "python sweeps/ablation.py --study s"})
    return Findings(Results.open(place))


def shown(found, place):
    out = io.StringIO()
    show(told(found, str(place)), Console(file=out, width=200))
    return out.getvalue()


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    place = tmp_path_factory.mktemp("ended")
    hypotheses = ["kernel 5 > kernel 3 by at least 0.5 points", "blocks 3 within 5 points of blocks 2"]
    the_study = study().model_copy(update={"hypotheses": tuple(hypotheses)})
    return place, made(place, the_study)


def test_effects_say_when_they_were_settled_and_show_the_repeated_interval(ended):
    _, found = ended
    kernel = found.effects[found.effects["factor"] == "kernel"].iloc[0]
    last = found.looks.block
    assert kernel["verdict"] == "effect" and kernel["n"] == kernel["n_reference"] == 2 * last
    assert f"an effect at the look after block {last} of 8; interval at stopping; repeated interval" in kernel["note"]
    assert "O'Brien-Fleming" in kernel["method"]
    assert "no verdict before" not in " ".join(found.effects["note"])


def test_hypotheses_are_decided_by_what_looks_may_spend(ended):
    _, found = ended
    verdicts = dict(zip(found.hypotheses["factor"], found.hypotheses["verdict"], strict=True))
    assert verdicts["kernel"] == "supported" and verdicts["blocks"] == "supported"
    assert (found.hypotheses["n"] == 2 * found.looks.block).all()
    assert (found.hypotheses["p_supported"] <= 0.05).all()


def test_terminal_and_report_say_what_is_settled(ended):
    place, found = ended
    said = shown(found, place)
    assert f"looked after {found.looks.block} of 8 blocks: settled: " in said and "saved" in said
    assert "s: finished" in said and f"{4 * found.looks.block} of {4 * found.looks.block} planned confirm runs" in said
    page = build_report(place).read_text()
    assert "The looks" in page and "Repeated 95% interval" in page and "It looks at its runs after each block" in page
    assert json.dumps(told(found, str(place)).as_json())


def test_while_it_runs_settled_comparisons_have_a_verdict_and_open_ones_do_not(tmp_path):
    arms = ARMS | {"deep": {"blocks": 4}}
    found = made(tmp_path, study(arms=arms, confirm={"delta": 0.1}), steps=3 * 2 + 2 * 3 + 1)
    assert found.looks.block >= 3 and not found.looks.stopped
    effects = found.effects.set_index("level")
    assert effects.loc["wide", "verdict"] == "effect"
    assert effects.loc["deep", "verdict"] == "inconclusive"
    assert "no verdict before every planned run has ended" in effects.loc["deep", "note"]
    said = shown(found, tmp_path)
    assert (
        "arm: wide - plain (an effect)" in said and "open: arm: deep - plain" in said and "goes on: plain, deep" in said
    )


def test_runs_that_no_look_asked_for_are_not_missing(tmp_path):
    found = made(tmp_path, study(arms=ARMS, confirm={"delta": 0.5}))
    assert found.looks.stopped and found.runs.finished
    wide = found.performance.set_index("arm").loc["wide"]
    assert wide["n"] == wide["planned"] < 8 and "give no value" not in wide["note"]
    row = found.effects.set_index("level").loc["wide"]
    assert row["n"] == row["n_reference"] == wide["n"]  # the first arm's later runs are not in it


def test_more_seeds_make_a_second_plan_and_the_first_verdict_stands(tmp_path):
    few = study({"looks": "none", "seeds": 3}, arms=ARMS)
    first = made(tmp_path, few)
    before = first.effects.set_index("name")
    second = made(tmp_path, study({"looks": "none", "seeds": 7}, arms=ARMS))
    earlier = earlier_plans(second.results).set_index("name")
    now = second.effects.set_index("name")
    assert (earlier["plan_hash"] == first.results.plan.plan_hash).all() and len(earlier) == 2
    assert (earlier["verdict"] == before["verdict"]).all() and (now["n"] == 4).all()
    for name, row in earlier.iterrows():
        ends = sorted((before.loc[name, "estimate"], now.loc[name, "estimate"]))
        assert ends[0] <= row["pooled"] <= ends[1]
        assert row["pooled_high"] - row["pooled_low"] < before.loc[name, "high"] - before.loc[name, "low"]
    page = build_report(tmp_path).read_text()
    assert "Earlier plans" in page and "It describes, and gives no verdict" in page
