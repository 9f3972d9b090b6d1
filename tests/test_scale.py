"""Many trials on real Ray, which pretends that there is a GPU: what Tune keeps of those that are over, how a sweep of
them goes on, and how the share of a GPU is measured, used and recorded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table

ROOT = Path(__file__).resolve().parents[1]
CODE = """
import functools, json, sys
from pathlib import Path
import ray, scale
from resnetlab.driver import drive
from resnetlab.ray_backend import backend, cluster
from resnetlab.ray_backend.gpu import probe
from resnetlab.sweep import state_machine

class Meter:
    looks = 0
    def memory(self):
        self.looks += 1
        return (0 if self.looks == 1 else 6 << 30), 16 << 30
    def busy(self):
        return 0.4

if sys.argv[3] == "auto":
    study = scale.study
    def sharing(*asked):
        found = study(*asked)
        return found.model_copy(update={"resources": found.resources.model_copy(update={"gpus": "auto"})})
    scale.study = sharing
    cluster.check_reachable = lambda *asked, **how: None
    ray.init = functools.partial(ray.init, num_gpus=1)
    drive.TORCH_TYPE = {drive.built_for(): "cpu"}  # the kind of GPU that torch is built for, here the CPU
    probe.RayProbe = functools.partial(probe.RayProbe, meter=Meter, seconds=0.2)

scale.EPOCHS, kept, begun = 2, [], []
backend.ROUND_TRIALS, backend.ROUND_TRIALS_PER_SLOT = 40, 1
step = backend._EachStep.on_step_end
def on_step_end(self, iteration, trials, **info):
    kept.append(len(trials))
    step(self, iteration, trials, **info)
backend._EachStep.on_step_end = on_step_end
started = state_machine.Sweep.started
def noted(self, trial_id):
    begun.append((len(self.waiting), self.waits_for))
    started(self, trial_id)
state_machine.Sweep.started = noted
scale.sweep(Path(sys.argv[1]), 160, "tpe", int(sys.argv[2]), 40)
print(json.dumps({"kept": max(kept), "begun": begun[-1]}))
"""


def run(place, until, gpus="0"):
    env = os.environ | {
        "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}",
        "RAY_worker_niceness": "0",
        "RAY_AUTH_MODE": "token",
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(place), str(until), gpus], env=env, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
@pytest.mark.slow
def test_no_experiment_of_tune_has_more_trials_than_a_round_and_the_sweep_goes_on(tmp_path):
    first = run(tmp_path, 250)
    assert first["begun"][0] >= 1 and first["begun"][1].startswith("0.25 CPUs (room for ")
    assert first["kept"] == 40
    folder = ResultsFolder.at(tmp_path / "scale")
    statuses = read_table(folder, "trials")["status"].to_pylist()
    assert statuses.count("complete") > 100 and set(statuses) <= {"complete", "interrupted"}
    shared = run(tmp_path, 0, "auto")
    assert "GPU" in shared["begun"][1]
    trials, epochs = read_table(folder, "trials"), read_table(folder, "epochs")
    assert trials["status"].to_pylist() == ["complete"] * 160 and epochs.num_rows == 320
    record = json.loads((tmp_path / "scale" / "sweep.json").read_text())
    assert len(record["sessions"]) == 2 and record["waiting"] == {"trials": 0, "for": ""}
    found = record["gpu_share"]
    assert [one["trials"] for one in found["seen"]][:1] == [1] and found["seen"][0]["memory"] == 6 << 30
    assert found["trials"] in (1, 2) and record["slots"] == found["trials"]  # by two real rates; a third has no room
