"""Reruns of published studies: the report's section, the table of docs/reproductions.md, and studies ready to run."""

from pathlib import Path

import pytest
from made_arms import arms_study, make_arms

from resnetlab.analysis.results import Results
from resnetlab.cli.reproduce import comparison_table
from resnetlab.errors import BadRequest
from resnetlab.report.findings import Findings
from resnetlab.report.sections import published
from resnetlab.reproduction import verdict_tables
from resnetlab.study import load_study

ROOT = Path(__file__).resolve().parents[1]


def rerun(place, name="font-transfer", **planted):
    """Runs of a made network under a published study's name; only their folder counts."""
    study = arms_study(name=name, search={"epochs": 12})
    make_arms(place, study=study, planted={"scratch": 0.89, "font-source": 0.6, "transfer": 0.88, "transfer-full": 0.9})
    return Results.open(place)


def test_the_report_holds_the_runs_against_what_was_printed(tmp_path):
    section = published.section(Findings(rerun(tmp_path)))
    claims, numbers, notes, arms = section.tables
    assert [table.title for table in (claims, numbers, notes)] == ["Claims", "Numbers", "Notes"] and arms.folded
    texts = {str(number): text for number, text in notes.rows}

    def why(cell):
        return [texts[number] for number in cell.split(", ")]

    row = next(row for row in numbers.rows if row[:3] == ["scratch", "test accuracy, last epoch", "89 %"])
    assert row[5] == 3 and row[7] == "not comparable" and "other data (glyphs, not character-fonts)" in why(row[8])
    assert abs(float(row[3].split()[0]) - 89) < 1.5 and "…" in row[4]
    said = next(row for row in claims.rows if "about as accurate" in row[0])
    assert said[1] == "transfer against scratch" and "two points are read as alike" in why(said[6])
    choices = {row[0]: row[1:] for row in arms.rows}
    assert all(choices["transfer"]) and choices["font-source"][0] == "not in the text"


def test_a_study_of_ones_own_has_no_such_section(tmp_path):
    assert published.section(Findings(rerun(tmp_path, name="mine"))) is None


def test_a_shortened_run_is_not_comparable(tmp_path):
    found = verdict_tables.reproduction_of(rerun(tmp_path, name="font-transfer-scale-0.1"))
    assert found.name == "font-transfer"
    assert {row.verdict for row in (*found.numbers, *found.claims)} == {"not comparable"}
    assert all("shortened on purpose" in row.reasons[0] for row in found.claims)


def test_the_table_has_claims_and_main_numbers_of_what_ran(tmp_path):
    rerun(tmp_path / "font-transfer")
    rerun(tmp_path / "mine", name="mine")
    lines = comparison_table(tmp_path).splitlines()
    assert len({line.count(" | ") for line in lines if line.startswith("|") and "---" not in line}) == 1
    assert any(line.startswith("| font-transfer | scratch: test accuracy, last epoch | 89 % |") for line in lines)
    assert any("The transferred model is about as accurate" in line for line in lines)
    assert not any("mine" in line for line in lines)
    (tmp_path / "font-transfer").rename(tmp_path / "font-transfer-4-fonts")
    assert "| font-transfer-4-fonts | scratch: test accuracy" in comparison_table(tmp_path)
    (about,) = [line for line in lines if line.startswith("- `font-transfer`")]
    assert (
        "glyphs, 4,800 training and 2,000 test images; 12 epochs; " in about
        and "; 12 of 12 runs complete; cpu" in about
    )
    assert "lr=0.01 instead of 0.001, normalise=train instead of half" in about


def test_without_a_folder():
    with pytest.raises(BadRequest, match="--table nowhere: not a folder"):
        comparison_table(Path("nowhere"))


def test_the_factorial_of_optimizer_rate_and_decay_is_ready():
    study = load_study(ROOT / "sweeps" / "studies" / "optimizer-factorial.yaml")
    assert [len(factor.branches[0].levels) for factor in study.space.factors] == [2, 2, 2]
    assert study.confirm.design == "factorial" and len(study.hypotheses) == 2
