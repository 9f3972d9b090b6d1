"""Declared hypotheses, naive conclusions, importance and fairness in the report."""

import re

import pandas as pd
import pytest
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
