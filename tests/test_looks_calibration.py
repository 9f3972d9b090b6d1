"""What looks save and cost, and what variances about the blocks are worth: measured by command, on enough repeats."""

import json
from pathlib import Path

import pytest

from resnetlab.calibration import looks_table, low_runs, new_images, shared_seeds
from resnetlab.calibration.looks import Case, cases, measure_looks
from resnetlab.calibration.simulator import Truth
from resnetlab.calibration.table import FAMILYWISE
from resnetlab.cli.calibrate import Part, calibrate
from resnetlab.report.sections.looks import MEANING

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"


def test_a_line_counts_runs_errors_and_bias():
    truth = Truth(main={"kernel": {5: 1.0}}, sd=0.74)
    row = measure_looks(Case("equal variances", "fractional", 8, ("kernel",), False, 1.0, truth), 300)
    assert 0.3 < row["epochs"] < 0.5 and row["power"] > 0.97 and row["settled"] > 0.97  # 41% in 10,000 repeats
    assert row["familywise"] < 0.06 and abs(row["bias"]) < 0.1 and row["primaries"] == 1
    null = measure_looks(Case("equal variances", "one-factor", 4, truth=Truth(sd=0.74)), 300)
    assert null["power"] is None and 0.7 < null["epochs"] < 1 and null["familywise"] < 0.08


def test_only_one_part_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(looks_table, "SAVED", ())
    monkeypatch.setattr("resnetlab.calibration.looks.cases", lambda: [Case("equal variances", "one-factor", 3)])
    calibrate(20, 1, 0, tmp_path, Part.LOOKS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["looks.json", "looks.md"]
    assert json.loads((tmp_path / "looks.json").read_text())["rows"][0]["repeats"] == 20


@pytest.mark.parametrize(
    ("name", "targets", "least"),
    [
        ("looks", looks_table.targets, 10_000),
        ("shared-seeds", shared_seeds.targets, 10_000),
        ("low-runs", low_runs.targets, 10_000),
        ("new-images", new_images.targets, 1_000),
    ],
)
def test_the_committed_tables_rest_on_enough_repeats_and_hide_no_miss(name, targets, least):
    content = json.loads((REFERENCE / f"{name}.json").read_text())
    assert min(row["repeats"] for row in content["rows"]) >= least
    again = targets(content["rows"])
    assert [one["target"] for one in again] == [one["target"] for one in content["targets"]]
    assert [one["met"] for one in again] == [one["met"] for one in content["targets"]]
    assert (REFERENCE / f"{name}.md").read_text().count("**no**") == sum(not one["met"] for one in again)


def test_the_committed_tables_have_every_case():
    rows = json.loads((REFERENCE / "looks.json").read_text())["rows"]
    asked = [(case.world, case.design, case.seeds, case.reestimate, case.points) for case in cases()]
    assert [tuple(row[key] for key in ("world", "design", "seeds", "reestimate", "points")) for row in rows] == asked
    assert len(json.loads((REFERENCE / "shared-seeds.json").read_text())["rows"]) == len(shared_seeds.cases())
    rows = json.loads((REFERENCE / "new-images.json").read_text())["rows"]
    asked = [(world.design, world.seeds, world.images) for world in new_images.WORLDS for _ in ("effects", "arm means")]
    assert [(row["design"], row["seeds"], row["images"]) for row in rows] == asked
    rows = json.loads((REFERENCE / "low-runs.json").read_text())["rows"]
    asked = [(case.low, case.design, case.seeds, case.share) for case in low_runs.cases()]
    assert [(row["low"], row["design"], row["seeds"], row["share"]) for row in rows] == asked


def test_the_committed_intervals_on_new_images_miss_only_with_two_seeds():
    """They are wider than need be there, up to 97.7%; with more seeds each line is within 93 to 97%. Over splits
    that are drawn again, those of effects from the arms' own variances are too wide, and all others within."""
    rows = json.loads((REFERENCE / "new-images.json").read_text())["rows"]
    missed = [(row["seeds"], 0.97 < row["new"] < 0.98) for row in rows if not 0.93 <= row.get("new", 0.95) <= 0.97]
    assert missed == [(2, True)] * 3
    wide = [(row["variance"], row["what"]) for row in rows if not 0.93 <= row.get("splits", 0.95) <= 0.97]
    assert wide == [("arms", "effects")] * 3
    met = (
        [False, True, False, True],
        [False, True, True, True],
    )  # of effects, of arm means: few seeds, more; arms, blocks
    assert [one["met"] for one in new_images.targets(rows)] == [*met[0], *met[1]]


def test_low_runs_are_told_from_others_at_guessing_only():
    """Equal arms of which half the runs are low: in three seeds they are told apart where nothing doubts low runs."""
    at = low_runs.measure_low(low_runs.Case(low_runs.AT, "one-factor", 3, 0.5), 1000)
    above = low_runs.measure_low(low_runs.Case(low_runs.ABOVE, "one-factor", 3, 0.5), 1000)
    assert at["collapsed"] == pytest.approx(0.5, abs=0.02) and at["familywise"] <= FAMILYWISE
    assert above["collapsed"] < 0.001 and above["familywise"] > 0.08


def test_the_committed_lines_of_low_runs_are_what_the_docs_say():
    """At guessing the error is bounded; above it, with three seeds or fewer of one factor, it is not."""
    rows = json.loads((REFERENCE / "low-runs.json").read_text())["rows"]
    above = [row for row in rows if row["low"] != low_runs.AT]
    few = [row for row in above if row["design"] == "one-factor" and row["seeds"] <= low_runs.FEW]
    assert max(row["familywise"] for row in rows if row["low"] == low_runs.AT) < 0.028
    assert max(row["familywise"] for row in few) > 0.3
    assert max(row["familywise"] for row in above if row not in few) < 0.0605


def test_what_the_report_says_of_the_bias_was_measured():
    rows = json.loads((REFERENCE / "looks.json").read_text())["rows"]
    bias = [abs(row["bias"]) for row in rows if row["bias"] is not None and row["world"] == "equal variances"]
    assert "by at most 0.1 points" in MEANING and max(bias) < 0.105
