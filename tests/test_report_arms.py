"""Named arms in the report: by class, image by image, votes, curves, costs; few classes and many."""

import re

import numpy as np
import pytest
from made_arms import CHARACTERS, PLANTED, arms_study, make_arms
from made_results import make_results
from matplotlib.figure import Figure

from resnetlab.analysis.results import Results
from resnetlab.report.build import build_report
from resnetlab.report.figures import arm_costs, arm_curves, class_accuracy, confusion
from resnetlab.report.figures.shared import Named
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import percent
from resnetlab.report.page import page
from resnetlab.report.sections import fairness, pairs, per_class, transfer, voting

FONTS = tuple(f"Font {i}" for i in range(1205))  # as many as the paper's


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    place = tmp_path_factory.mktemp("arms")
    make_arms(place)
    return Results.open(place)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    place = tmp_path_factory.mktemp("many")
    study = arms_study({"scratch": {}, "wide": {"batch_size": 64}})
    planted = {"scratch": 0.8, "wide": 0.7}
    make_arms(place, study=study, planted=planted, classes=FONTS, images=3 * len(FONTS))
    return Results.open(place)


def drawn(results):
    """The drawings of arms by name, each drawn once without being written."""
    modules, findings = (arm_curves, class_accuracy, confusion, arm_costs), Findings(results)
    found = {drawing.name: drawing for module in modules for drawing in module.drawings(findings)}
    for drawing in found.values():
        drawing.draw(Figure(figsize=drawing.size).subplots())
        assert drawing.alt and drawing.caption and "trial" in drawing.foot
    return found


def table(section, start):
    return next(table for table in section.tables if table.title.startswith(start))


def ran(results, arm):
    return results.confirm[results.confirm["arm"] == arm]["trial_id"].tolist()


def test_precision_recall_f1_and_support_are_those_of_the_predictions(results):
    (shown,) = [t for t in per_class.section(Findings(results)).tables if t.title.startswith("scratch: precision")]
    kept = results.predictions[results.predictions["trial_id"].isin(ran(results, "scratch"))]
    number = CHARACTERS.index(shown.rows[0][0])
    ours, taken = kept[kept["label"] == number], kept[kept["predicted"] == number]
    recall, precision = (part["label"].eq(part["predicted"]).mean() for part in (ours, taken))
    row = shown.rows[0]
    assert row[1] == pytest.approx(recall) and row[3] == percent(precision)
    assert row[4] == percent(2 * recall * precision / (recall + precision))
    assert row[5] * 3 == len(ours)  # three seeds
    assert number == 0 and len(shown.rows) == 40 and "40 worst of 47" in shown.foot


def test_accuracy_per_class_stands_side_by_side_for_the_arms_of_a_task(results):
    section = per_class.section(Findings(results))
    shown = table(section, "Accuracy per class by arm")
    assert shown.headings == ["Class", "Test images", "scratch", "transfer", "transfer-full"]
    best = table(section, "Classes at 100%")
    assert "35 test images" in best.headings[1] and [row[0] for row in best.rows] == shown.headings[2:]
    assert len(table(section, "The 10 worst classes with at least 35").rows) == 10


def test_pairs_and_votes(results):
    rows = pairs.section(Findings(results)).tables[0].rows
    assert {row[0] for row in rows} == {"transfer against scratch", "transfer-full against scratch"}
    assert len(rows) == 6 and all(re.fullmatch(r"[+−]\d\.\d\d", row[4]) for row in rows)
    votes = [row for shown in voting.section(Findings(results)).tables for row in shown.rows]
    assert "the seeds of scratch" in {row[0] for row in votes} and "the 3 best runs of all arms" in {
        row[0] for row in votes
    }


def test_time_is_told_with_and_without_the_source(results):
    section = transfer.section(Findings(results))
    rows = {row[0]: dict(zip(section.tables[0].headings[:9], row[:9], strict=True)) for row in section.tables[0].rows}
    assert set(rows) == set(PLANTED)
    assert rows["transfer"]["Frozen stages"] == "3, run once" and rows["transfer"]["Starts from"] == "font-source"
    assert rows["transfer"]["Trained parameters"] == "206,279 of 262,023"


def test_a_source_that_learnt_nothing_is_named(results, tmp_path):
    assert transfer.section(Findings(results)).text == []
    make_arms(tmp_path, planted=PLANTED | {"font-source": 0.055})
    (said,) = transfer.section(Findings(Results.open(tmp_path))).text
    assert "font-source did not learn its own task" in said and "of 22 classes, where guessing gives up to" in said
    assert "So transfer and transfer-full started from next to nothing" in said


def test_named_arms_are_held_to_equal_epochs_size_and_time(results):
    rows = [row for shown in fairness.section(Findings(results)).tables for row in shown.rows]
    assert [row[0] for row in rows].count("equal parameters") == 2
    assert any(row[1].startswith("transfer instead of scratch: 1.00 times the parameters") for row in rows)


def test_what_is_confirmed_stands_against_time_whichever_metric_it_is(tmp_path):
    made = arms_study(metrics=["cross_entropy"], objective="cross_entropy")
    make_arms(tmp_path, made, seconds=dict.fromkeys(PLANTED, 6.0) | {"transfer": 2.0})
    findings = Findings(Results.open(tmp_path))
    costs = findings.arm_costs.set_index("arm")
    means = findings.results.confirm.groupby("arm")["test_cross_entropy"].mean()
    assert costs["value"].to_dict() == pytest.approx(means.to_dict())
    found = {drawing.name: drawing for drawing in arm_costs.drawings(findings)}
    assert found["arm-seconds"].alt.startswith("Test cross-entropy against training time: scratch 0.")
    assert "Mean test cross-entropy of each arm" in found["arm-seconds"].caption
    drawing = found["arm-seconds"].draw.keywords
    front = drawing["costs"].set_index("arm")["front"]
    assert front["transfer"] and front["transfer-full"] and not front["scratch"], "the lowest of the slow ones"
    axes = Figure(figsize=found["arm-seconds"].size).subplots()
    found["arm-seconds"].draw(axes)
    assert axes.get_ylabel() == "Test cross-entropy (nats)"
    section = transfer.section(findings)
    assert section.title == "Cross-entropy against time and size"
    headings = section.tables[0].headings
    assert "Test cross-entropy" in headings and "Cross-entropy (nats)" in headings
    rows = {row[0]: dict(zip(headings, row, strict=True)) for row in section.tables[0].rows}
    change = costs.loc["transfer", "value"] - costs.loc["scratch", "value"]
    assert rows["transfer"]["Cross-entropy (nats)"] == f"{change:+.3f}" and change > 0
    assert findings.shown_arm.name == "transfer-full", "which has the lowest on the validation split"
    shown = " ".join([*headings, *found["arm-seconds"].alt.split(), found["arm-seconds"].caption, *section.text])
    assert "accura" not in shown.lower()


def test_a_source_that_is_no_better_than_guessing_is_named_by_the_metric_that_is_confirmed(tmp_path):
    made = arms_study(metrics=["macro_f1"], objective="macro_f1")
    make_arms(tmp_path, made, planted=PLANTED | {"font-source": 0.055})
    (said,) = transfer.section(Findings(Results.open(tmp_path))).text
    assert re.search(
        r"font-source did not learn its own task: a macro F1 of \d\.\d\d.% on 22 classes, where guessing", said
    )


def test_figures_of_few_classes(results):
    assert set(drawn(results)) == {
        "arm-curves", "class-accuracy", "confusion-1", "confusion-2", "confusion-3", "confusion-4", "arm-seconds",
        "arm-parameters",
    }  # fmt: skip


def test_many_classes_stay_usable(many):
    assert set(drawn(many)) == {"arm-curves", "arm-seconds", "arm-parameters"}  # no matrix of 1,205 × 1,205
    section = per_class.section(Findings(many))
    assert all(len(shown.rows) <= 40 for shown in section.tables)
    mistakes = table(section, "scratch: most frequent mistakes")
    kept = many.predictions[many.predictions["trial_id"].isin(ran(many, "scratch"))]
    wrong = kept[kept["label"] != kept["predicted"]].groupby(["label", "predicted"]).size()
    assert int(mistakes.rows[0][2]) == wrong.max() and np.all(np.diff([int(row[2]) for row in mistakes.rows]) <= 0)
    text = page(Findings(many), {})
    assert "of 1,205" in text and len(text) < 1_000_000


def test_without_predictions_the_rest_is_shown(results, tmp_path):
    for file in results.folder.path.glob("*.*"):
        if file.name not in ("predictions.parquet", "report.html"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    text = build_report(tmp_path).read_text()
    assert "Accuracy per class by arm" in text and "Time per epoch" in text
    assert "The same images" not in text and "Ensembles" not in text
    assert (tmp_path / "figures/arm-curves.svg").exists() and not (tmp_path / "figures/confusion-1.svg").exists()


def test_a_searched_study_has_its_incumbents_mistakes_and_the_swaps(tmp_path):
    make_results(tmp_path)
    made = Results.open(tmp_path)
    assert set(drawn(made)) == {"confusion-1"}
    section = per_class.section(Findings(made))
    assert not table(section, "Incumbent: precision").folded and table(section, "Accuracy per class").folded
    assert all(row[0].endswith("against incumbent") for row in pairs.section(Findings(made)).tables[0].rows)
    assert transfer.section(Findings(made)) is None and voting.section(Findings(made)) is not None


def test_names_that_the_font_cannot_set_are_numbered():
    named = Named.of(["a", "\U0005abcd字", "λ", "$"], [0, 7, 8, 9])
    assert named.names == ["a", "class 7", "λ", "$"] and "class 7 is \U0005abcd字." in named.key
    assert Named.of(["a", "<b>"], [0, 1]) == Named(["a", "<b>"], "", ())
