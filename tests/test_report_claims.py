"""Declared hypotheses, naive conclusions, importance and fairness in the report."""

import re
from dataclasses import replace

import pandas as pd
import pytest
from made_arms import arms_study, make_arms
from made_results import default_study, make_results

from resnetlab.analysis.evaluation.class_results import Beside
from resnetlab.analysis.results import Results
from resnetlab.report.answer import answer
from resnetlab.report.build import build_report
from resnetlab.report.findings import Findings
from resnetlab.report.sections import declared_hypotheses, fairness, importance, naive_analysis, provenance

LINES = ["kernel 5 > kernel 3", "shortcut on > shortcut off by at least 50 points"]
FAIR = {"Uneven": False, "Cannot be told": True, "Even": True}  # whether the table is folded


def test_declared_hypotheses_end_with_their_numbers_and_rows(tmp_path):
    make_results(tmp_path, study=default_study(hypotheses=LINES))
    results = Results.open(tmp_path)
    (table,) = declared_hypotheses.section(Findings(results)).tables
    rows = {row[0]: row for row in table.rows}
    assert list(rows) == LINES
    assert rows[LINES[1]][1] in ("refuted", "inconclusive")
    at = table.headings.index("Rows")
    for row in rows.values():
        assert row[1] in ("supported", "refuted", "inconclusive")
        assert re.fullmatch(r"[0-9a-f]{8,}|none", row[at]) and (row[at] == "none") == (row[2] == "–")
    page = build_report(tmp_path).read_text()
    assert "Declared hypotheses" in page and "kernel 5 &gt; kernel 3" in page


def test_without_hypotheses_the_report_has_no_such_section(tmp_path):
    make_results(tmp_path)
    assert declared_hypotheses.section(Findings(Results.open(tmp_path))) is None


def test_last_reported_accuracies_never_show_a_size(tmp_path):
    """They are of unequal epochs: only what a reader would have said may stand in the report."""
    make_results(tmp_path)
    results = Results.open(tmp_path)
    (table,) = naive_analysis.section(Findings(results)).tables
    said = [row[1] for row in table.rows]
    assert said and not any(re.search(r"\d\.\d", text) for text in said)
    assert all(re.fullmatch(r"nothing|not estimable.*|.* is (better|worse)", text) for text in said)


def test_importance_and_fairness_are_there_and_marked(tmp_path):
    make_results(tmp_path)
    results = Results.open(tmp_path)
    section = importance.section(Findings(results))
    assert section.hypothesis and "not an effect" in section.text[0]
    section = fairness.section(Findings(results))
    assert {table.title: table.folded for table in section.tables}.items() <= FAIR.items()
    uneven = [len(table.rows) for table in section.tables if table.title == "Uneven"]
    every = sum(len(table.rows) for table in section.tables)
    assert every >= 3 and section.text == [f"{sum(uneven) or 'None'} of {every} checks found the comparison uneven."]


def test_where_it_comes_from_names_rows_that_were_left_out_and_further_data(tmp_path):
    make_results(tmp_path)
    sweep = Results.open(tmp_path).sweep
    bad = {"count": 2, "of": 900, "kinds": {"out of range": 2}, "first": ["A.csv line 3: r0c0 is 256, need 0 to 255"]}
    others = {"key": {"name": "glyphs", "label": "font", "classes": ["a", "b"], "hash": "abc"}}
    sweep["data"] |= {"bad_rows": bad, "others": others}
    Results.open(tmp_path).folder.write_json("sweep.json", {k: v for k, v in sweep.items() if k != "checksum"})
    (table,) = provenance.section(Findings(Results.open(tmp_path))).tables
    said = dict(table.rows)
    assert said["Bad rows"].startswith("2 of 900 rows left out as bad (2 out of range): A.csv line 3")
    assert said["Further data"] == "glyphs (font), 2 classes, hash abc"


def test_an_accuracy_has_guessing_beside_it_and_its_balanced_accuracy_where_classes_are_unequal(tmp_path):
    """Of 3 + 1 images, 2 and 1 right in one run, 3 and 0 in the other: recall 5/6 and 1/2."""
    rows = [("a", 0, 3, 2), ("a", 1, 1, 1), ("a", 2, 0, 0), ("b", 0, 3, 3), ("b", 1, 1, 0), ("b", 2, 0, 0)]
    classes = pd.DataFrame(rows, columns=["trial_id", "class", "support", "correct"]).assign(split="test")
    found = Beside.of(classes, ["a", "b"])
    assert (found.chance, found.majority, found.balanced) == pytest.approx((1 / 2, 3 / 4, (5 / 6 + 1 / 2) / 2))
    other = classes.assign(support=classes["support"] + (classes["trial_id"] == "b"))
    assert Beside.of(other, ["a", "b"]) is None and Beside.of(classes, ["c"]) is None
    make_results(tmp_path / "made", faults=False, test_images=300)
    results = Results.open(tmp_path / "made")
    said = answer(Findings(results)).best
    assert re.search(r"fresh seeds\). Guessing reaches [\d.]+\s%. ", said)
    first = results.classes["class"] == 0
    results.classes.loc[first, "support"] += results.classes["support"].max()
    said = answer(Findings(results)).best
    assert re.search(
        r"fresh seeds\). Guessing reaches [\d.]+\s%, always the largest class [\d.]+\s%; its balanced", said
    )


def test_named_arms_have_their_balanced_accuracies_beside_them_and_tasks_are_told_apart(tmp_path):
    """Those of another task have other classes, so guessing reaches something else there."""
    make_arms(tmp_path)
    results = Results.open(tmp_path)
    said = answer(Findings(results)).best
    assert re.search(r"n = 3\)\. Guessing reaches 4\.\d+\s% \(font-source\)\. Guessing", said)
    assert re.search(r"Guessing reaches 2\.\d+\s% \(transfer, scratch and transfer-full\)\.", said)
    assert "balanced" not in said
    first = results.classes["class"] == 0
    results.classes.loc[first, "support"] += results.classes["support"].max()
    said = answer(Findings(results)).best
    for arm in ("transfer-full", "scratch", "transfer"):
        ids = results.confirm.loc[results.confirm["arm"] == arm, "trial_id"]
        rows = results.classes[results.classes["trial_id"].isin(ids)]
        recall = (rows["correct"] / rows["support"]).groupby(rows["class"]).mean().mean()
        assert re.search(rf"balanced accuracy: .*{arm} {100 * recall:.2f}", said)
    assert said.count("balanced accuracy: ") == said.count("always the largest class") == 2


def test_of_many_named_arms_those_that_are_told_have_guessing_beside_them(tmp_path):
    planted = {f"arm-{number}": 0.7 + number / 100 for number in range(5)}
    arms = {name: {"batch_size": 8 + number} for number, name in enumerate(planted)}
    make_arms(tmp_path, study=arms_study(arms), planted=planted)
    results = Results.open(tmp_path)
    assert re.search(r"from arm-0 .* to arm-4 .*\(n = 3\)\. Guessing reaches", answer(Findings(results)).best)
    results.classes.loc[results.classes["class"] == 0, "support"] += results.classes["support"].max()
    assert re.search(r"balanced accuracy: arm-0 [\d.]+\s%, arm-4 [\d.]+\s%\.", answer(Findings(results)).best)


def test_the_best_of_a_search_has_guessing_beside_it(tmp_path):
    make_results(tmp_path, confirm=False)
    results = Results.open(tmp_path)
    assert "Guessing" not in answer(Findings(results)).best  # not recorded
    results.sweep["data"]["counts"] = {"train": [100, 100], "val": [50, 50], "test": [5, 5]}
    assert re.search(r"not confirmed\. Guessing reaches 50\.\d+\s%\.$", answer(Findings(results)).best)
    results.sweep["data"]["counts"]["val"] = [90, 10, 0]
    said = answer(Findings(results)).best
    assert re.search(
        r"Guessing reaches 50\.\d+\s%, always the largest class 90\.\d+\s%; its balanced accuracy was not", said
    )
    results.trials["val_balanced_accuracy"] = 0.7123
    assert re.search(r"its balanced accuracy is 71\.\d+\s%\.$", answer(Findings(results)).best)


def test_a_hypothesis_on_an_arm_that_failed_is_not_answered(tmp_path):
    """It is in the table, the terminal and the report, and says why; the others have their verdicts."""
    lines = ["transfer > scratch", "transfer-full > scratch"]
    make_arms(
        tmp_path,
        study=arms_study(hypotheses=[f"arm {one.replace('> ', '> arm ')}" for one in lines]),
        fail=("transfer",),
    )
    findings = Findings(Results.open(tmp_path))
    failed, other = findings.hypotheses.to_dict("records")
    assert failed["verdict"] == "not answered" and failed["n"] == 0 and failed["n_reference"] == 3
    assert "no run of transfer gave a value" in failed["note"] and pd.isna(failed["estimate"])
    assert other["verdict"] in ("supported", "refuted", "inconclusive") and other["n"] == 3
    (table,) = declared_hypotheses.section(findings).tables
    assert {row[0]: row[1] for row in table.rows}[failed["hypothesis"]] == "not answered"
    assert "not answered" in build_report(tmp_path).read_text()


def test_a_hypothesis_is_inconclusive_until_its_arm_has_been_run(tmp_path):
    """An arm without runs is not answered only once no run is to come."""
    arms = ["arm transfer > arm scratch"]
    make_arms(tmp_path, study=arms_study(hypotheses=arms))
    results = Results.open(tmp_path)
    gone = results.trials[results.trials["arm"] != "transfer"].reset_index(drop=True)
    assert Findings(replace(results, trials=gone)).hypotheses["verdict"].tolist() == ["inconclusive"]
