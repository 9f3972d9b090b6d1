"""Failing trials on real Ray: a process killed by a signal is explained, and failed trials run again on request."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[1]
STUDY = """
dataset: {name: glyphs, variants: 1, limit: 100}
baseline: {blocks: 1, width: 8, downsample: 0, batch_size: 32}
arms:
  kernel-1: {kernel: 1}
  kernel-3: {kernel: 3}
search: {epochs: 2}
confirm: {design: arms, seeds: 1}
"""


class Place:
    """A folder with the study, faults and results of its own."""

    def __init__(self, path, cache):
        self.path, self.cache = path, cache
        (path / "s.yaml").write_text(STUDY)
        self.plant()

    def plant(self, *faults):
        for done in self.path.glob("plant.*.done"):
            done.unlink()
        (self.path / "plant.json").write_text(json.dumps(faults))

    def sweep(self, *options):
        """(code, stdout, stderr) of ablation.py."""
        environment = os.environ | {
            "RESNETLAB_CACHE": str(self.cache),
            "RESNETLAB_PLANT": str(self.path / "plant.json"),
            "RESNETLAB_TRAINED": str(self.path / "trained.log"),
            "PYTHONPATH": f"{ROOT / 'tests/faults/plant'}:{ROOT}",
            "RAY_TMPDIR": "/tmp",
            "COLUMNS": "200",
        }
        words = [sys.executable, str(ROOT / "sweeps/ablation.py"), "--study", str(self.path / "s.yaml")]
        words += ["--storage", str(self.path / "r"), "--slots", "1", *options]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=500)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    def rows(self):
        return {row["arm"]: row for row in pq.read_table(self.path / "r/s/trials.parquet").to_pylist()}

    def begun(self, trial_id, epoch):
        """How often that epoch was begun."""
        lines = (self.path / "trained.log").read_text().splitlines()
        return sum(line.split()[0] == trial_id and line.endswith(f"begun {epoch}") for line in lines)

    def told(self):
        words = [sys.executable, str(ROOT / "sweeps/status.py"), str(self.path / "r/s"), "--json"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def place(tmp_path, cache):
    return Place(tmp_path, cache)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "named", "advice"),
    [
        (signal.SIGSEGV, "killed by SIGSEGV (segmentation fault)", "try another level of kernel"),
        pytest.param(signal.SIGKILL, "killed by SIGKILL", "a smaller batch", marks=pytest.mark.long),
    ],
    ids=["SIGSEGV", "SIGKILL"],
)
def test_a_second_death_by_a_signal_at_one_place_ends_a_trial_and_says_all(place, number, named, advice):
    fault = {"when": {"kernel": 3}, "epoch": 2, "once": False}
    place.plant(
        fault | {"do": "say", "words": "double free or corruption (!prev)"}, fault | {"do": "die", "signal": number}
    )
    code, out, error = place.sweep()
    rows = place.rows()
    lost, other = rows["kernel-3"], rows["kernel-1"]
    assert (lost["status"], lost["epochs_run"], other["status"]) == ("failed", 1, "complete")
    assert place.begun(lost["trial_id"], 2) == 2 and place.begun(lost["trial_id"], 1) == 1
    for text in (lost["reason"], out):
        for words in (named, "in epoch 2", "double free or corruption (!prev)", "model resnet, batch_size 32", advice):
            assert words in text, (words, text)
    assert "kernel 3 (baseline 1)" in lost["reason"] and "died 2 times at the same place" in lost["reason"]
    log = (place.path / "r/s/errors" / f"{lost['trial_id']}.txt").read_text()
    assert "double free or corruption" in log and ("sitecustomize.py" in log) == (number != signal.SIGKILL)
    assert code == 1 and "--retry-failed" in error and "report.html" in out
    assert "yet" not in out.partition("No comparison")[2], out
    (failure,) = place.told()["failures"]
    assert (failure["trials"], failure["example"], failure["status"]) == (1, lost["trial_id"], "failed")
    assert failure["remedy"].endswith("--retry-failed") and failure["log"] == f"errors/{lost['trial_id']}.txt"
    assert failure["cause"] == lost["reason"]
    page = (place.path / "r/s/report.html").read_text()
    assert "What failed" in page and lost["trial_id"] in page and "--retry-failed" in page
    assert "--debug" in page and f"errors/{lost['trial_id']}.txt" in page


@pytest.mark.slow
def test_failed_trials_are_run_again_when_asked_and_only_then(place):
    fault = {"when": {"kernel": 3}, "epoch": 1, "do": "raise", "words": "no such operator", "once": False}
    place.plant(fault)
    notify = "--notify", f"cat >> {place.path / 'told.jsonl'}"
    code, out, error = place.sweep(*notify)
    lost = place.rows()["kernel-3"]
    assert code == 1 and "1 planned comparison could not be made" in error, error
    assert lost["status"] == "failed" and "RuntimeError: no such operator (sitecustomize.py" in lost["reason"]
    kept = place.path / "r/s/errors" / f"{lost['trial_id']}.txt"
    assert "Traceback" in kept.read_text() and "no such operator" in kept.read_text()
    assert f"once that is mended: {place.told()['next']}" in out
    place.plant()
    code, out, _ = place.sweep()  # the same command alone leaves it as it is
    assert code == 1 and place.rows()["kernel-3"]["status"] == "failed" and "--retry-failed" in out
    before = place.rows()["kernel-1"]
    code, out, error = place.sweep("--retry-failed", "--set", "resources.epoch_timeout_s=600", *notify)
    assert code == 0, error
    now = place.rows()
    assert now["kernel-1"] == before  # what was complete is left alone
    assert now["kernel-3"]["status"] == "complete" and now["kernel-3"]["restarts"] == 1
    assert "run again after it ended as failed: RuntimeError: no such operator" in now["kernel-3"]["reason"]
    assert "1 trial that failed is run again" in out and kept.exists()
    assert not place.told()["failures"] and not place.told()["not_made"]
    told = [json.loads(line) for line in (place.path / "told.jsonl").read_text().splitlines()]
    assert [one["event"] for one in told] == ["failed", "finished"]
    sessions = json.loads((place.path / "r/s/sweep.json").read_text())["sessions"]
    assert [session["slots"] for session in sessions] == [1] * len(sessions)
