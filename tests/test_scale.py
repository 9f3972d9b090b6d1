"""Many trials on real Ray: what Tune keeps of those that are over, and how a sweep of them goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnetlab.tables.folder import Folder
from resnetlab.tables.store import read_table

ROOT = Path(__file__).resolve().parents[1]
CODE = """
import json, sys
from pathlib import Path
import scale
from resnetlab.tuning import engine, sweep

scale.EPOCHS, kept, begun = 2, [], []
step = engine._Controller.on_step_end
def on_step_end(self):
    step(self)
    kept.append(len(self._trials) + len(self._stopped_trials) + len(self._trials_to_cache))
engine._Controller.on_step_end = on_step_end
started = sweep.Sweep.started
def noted(self, trial_id):
    begun.append((len(self.waiting), self.waits_for))
    started(self, trial_id)
sweep.Sweep.started = noted
scale.sweep(Path(sys.argv[1]), 160, "tpe", int(sys.argv[2]), 40)
print(json.dumps({"kept": max(kept), "begun": begun[-1]}))
"""


def run(place, until):
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}", "RAY_worker_niceness": "0"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(place), str(until)], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_tune_forgets_trials_that_are_over_and_the_sweep_goes_on(tmp_path):
    first = run(tmp_path, 250)
    assert first["begun"][0] >= 1 and first["begun"][1].startswith("0.25 CPUs (room for ")
    assert first["kept"] < 160  # of 125 that ended: at most 64 that are over, twice counted, and those that run
    folder = Folder.at(tmp_path / "scale")
    statuses = read_table(folder, "trials")["status"].to_pylist()
    assert statuses.count("complete") > 100 and set(statuses) <= {"complete", "interrupted"}
    run(tmp_path, 0)
    trials, epochs = read_table(folder, "trials"), read_table(folder, "epochs")
    assert trials["status"].to_pylist() == ["complete"] * 160 and epochs.num_rows == 320
    record = json.loads((tmp_path / "scale" / "sweep.json").read_text())
    assert len(record["sessions"]) == 2 and record["waiting"] == {"trials": 0, "for": ""}
