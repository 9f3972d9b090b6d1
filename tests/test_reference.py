"""The committed reference results open, and their reports can be rebuilt from the tables alone."""

import json
from pathlib import Path

import pandas as pd
import pytest

from resnetlab.analysis.results import Results
from resnetlab.planning.plan import asked
from resnetlab.report.build import as_html
from resnetlab.report.findings import Findings
from resnetlab.study.trial_config import TrialConfig

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"
FOLDERS = sorted(path.parent for path in REFERENCE.glob("*/study.json"))


def test_there_are_reference_results():
    assert "default" in {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_reference_results_open_and_say_what_they_rest_on(folder):
    results = Results.open(folder)
    assert results.plan is not None and not results.missing and not results.notes
    assert "fresh seeds" in as_html(Findings(results)).decode()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_reference_results_keep_the_hashes_that_they_recorded(folder):
    results, written = Results.open(folder), json.loads((folder / "plan.json").read_text())
    assert results.plan.plan_hash == written.pop("plan_hash") and results.plan.content() == written
    assert results.plan.asked == asked(results.study)
    if folder.name != "structure-ablation":  # was hashed with the `rotation: 15` of its file, which is 15.0 since
        assert results.study.study_hash == written["study_hash"]
    trials = results.trials
    assert [TrialConfig.model_validate_json(text).trial_id for text in trials["config"]] == list(trials["trial_id"])
    planned = {config.trial_id for *_, config in results.plan.trials(results.study)}
    assert planned >= set(results.confirm["trial_id"])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_reference_results_keep_the_verdicts_that_they_recorded(folder):
    """Plans that are older than an orientation of their own, or than intervals on new images, say what they said."""
    recorded = pd.read_parquet(folder / "effects.parquet")
    results = Results.open(folder)
    found = Findings(results).effects
    assert list(found["name"]) == list(recorded["name"]) and list(found["verdict"]) == list(recorded["verdict"])
    assert found["low"].to_numpy() == pytest.approx(recorded["low"].to_numpy(), nan_ok=True)
    assert set(found["verdict_on"].dropna()) <= {f"{results.plan.about} images"}
