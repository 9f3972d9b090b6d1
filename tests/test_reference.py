"""The committed reference results open, and their reports are remade from the tables alone."""

import shutil
from pathlib import Path

import pytest

from resnetlab.analysis.results import Results
from resnetlab.report.build import build_report

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"
FOLDERS = sorted(path.parent for path in REFERENCE.glob("*/study.json"))


def test_there_are_reference_results():
    assert "default" in {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_reference_results_open_and_say_what_they_rest_on(folder, tmp_path):
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    results = Results.open(copy)
    assert results.plan is not None and not results.missing and not results.notes
    assert "fresh seeds" in build_report(copy).read_text()
