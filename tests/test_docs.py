"""What the documentation shows is run: studies are read, diffs applied, tables compared with the code."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

from resnetlab.study import load_study

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

TRAIN = """
import numpy as np, sys
from pathlib import Path
from resnetlab.data import prepare
from resnetlab.study import load_study
from resnetlab.training.loop import Training

draw = np.random.default_rng(0)
labels = np.arange(300) % 3
noise = draw.integers(0, 60, (300, 8, 8, 1))
np.savez("images.npz", images=(noise + 60 * labels[:, None, None, None]).astype("uint8"), labels=labels)
study = load_study(Path("study.yaml"))
clipped = study.config({"kernel": 5, "clip": 1e-4}, seed=0)
assert clipped.trial_id != study.config({"kernel": 5, "clip": 0.0}, seed=0).trial_id
dataset = prepare(clipped.data, Path("cache"))
still = Training(clipped, dataset).run_epoch().train_loss
free = Training(study.config({"kernel": 5, "clip": 0.0}, seed=0), dataset).run_epoch().train_loss
print(free < 0.9 * still)
"""


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_the_factor_model_and_dataset_of_the_documentation_work(tmp_path):
    shutil.copytree(ROOT / "resnetlab", tmp_path / "resnetlab", ignore=shutil.ignore_patterns("__pycache__"))
    diffs = blocks("extending.md", "diff")
    assert len(diffs) == 3
    for diff in diffs:
        applied = subprocess.run(["git", "apply", "-"], input=diff, text=True, cwd=tmp_path, capture_output=True)
        assert applied.returncode == 0, applied.stderr
    (tmp_path / "study.yaml").write_text(blocks("extending.md", "yaml")[-1])
    done = subprocess.run(
        [sys.executable, "-c", TRAIN],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        env={"PYTHONPATH": str(tmp_path), "PATH": "", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True"], done.stdout


def test_the_studies_of_the_documentation_are_read(tmp_path):
    studies = blocks("study.md", "yaml")
    assert len(studies) == 2
    for number, text in enumerate(studies):
        (tmp_path / f"study-{number}.yaml").write_text(text)
        study = load_study(tmp_path / f"study-{number}.yaml")
        assert study.declared and study.confirm.seeds == 3


def test_the_page_of_the_tables_is_that_of_the_code():
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run python docs/make_tables.py --write"


def test_links_between_pages_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *DOCS.glob("*.md"), ROOT / "cluster/README.md", ROOT / "results/README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
