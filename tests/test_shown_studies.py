"""The studies with own code that we show: each is swept whole by its command, as it stands; the first two pages of
docs/own-code.md also in this process, where nothing else does it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import docs_here
import pytest
from sweeps_here import run_here

import resnetlab
from resnetlab.analysis.results import Results

ROOT = Path(__file__).resolve().parents[1]
STUDIES = {  # where its files are written from, and their names; the study is the last
    "own-model": ("my_net.py", "my_parts.py", "own-model.yaml"),
    "own-task": ("my_task.py", "own-task.yaml"),
    "own": ("my_net.py", "my_loss.py", "own.yaml"),
    "stripes": ("my_data.py", "stripes.yaml"),
    "search": ("my_search.py", "search.yaml"),
    "metrics": ("my_metrics.py", "metrics.yaml"),
    "forest": ("forest.py", "forest.yaml"),
    "language": ("language.py", "language.yaml"),
}


def written(name: str, place: Path) -> Path:
    """The study's file, beside its code."""
    if name in ("own-model", "own-task"):
        for file in STUDIES[name]:
            shutil.copy(ROOT / "tests/own_code" / file, place)
    else:
        docs_here.written(place, *STUDIES[name])
    return place / STUDIES[name][-1]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_swept_as_it_stands(name, tmp_path):
    study = written(name, tmp_path)
    command = [sys.executable, str(ROOT / "sweeps/ablation.py"), "--study", study.name]
    env = os.environ | {"RESNETLAB_CACHE": str(tmp_path / "cache"), "RAY_TMPDIR": "/tmp"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = Results.open(tmp_path / "results" / name)
    assert set(found.trials["status"]) <= {"complete", "stopped"} and not found.missing
    assert set(found.confirm["status"]) == {"complete"} and len(resnetlab.load(found.folder.path).effects)
    assert (tmp_path / "results" / name / "report.html").is_file()


@pytest.mark.parametrize(
    ("name", "changes", "varied"),
    [
        ("own", {"search.trials": 2, "search.epochs": 2, "confirm.seeds": 1}, {"norm": {"batch", "group"}}),
        ("stripes", {}, {"width": {4, 8}}),
    ],
)
def test_the_network_and_the_data_of_the_docs_are_swept(name, changes, varied, tmp_path):
    study = docs_here.of_the_docs(tmp_path, *STUDIES[name], **changes)
    rows = run_here(study, tmp_path / "results", tmp_path / "cache")
    confirm = [row for row in rows if row["phase"] == "confirm"]
    assert {row["status"] for row in rows} <= {"complete", "stopped"}
    assert len(confirm) == study.confirm.seeds * (4 if name == "own" else 2)
    assert {factor: {row[factor] for row in confirm} for factor in varied} == varied
