"""Rounds of Tune: where they end, that results do not depend on them, and what ends one early."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import NodeDiedError, OutOfMemoryError

from resnetlab.errors import ClusterLost
from resnetlab.experiment.messages import TrialContext
from resnetlab.ray_backend import backend
from resnetlab.storage.content_hash import content_hash
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study.records import Status

ROOT = Path(__file__).resolve().parents[1]
STUDY = f"""
name: rounds
dataset: {{name: glyphs, variants: 2, limit: 600}}
baseline: {{blocks: 1, width: 4, downsample: 1, batch: 32, lr: 0.1}}
factors:
  kernel: {{levels: [1, 3]}}
  lr: {{low: 0.01, high: 0.3, log: true}}
search: {{trials: 7, epochs: 4, reduction: 2, audit: 0}}
confirm: {{seeds: 1}}
resources: {{cpus: {os.cpu_count()}}}
"""
SWEEP = """
import sys
from pathlib import Path
from resnetlab.ray_backend import backend
from resnetlab.driver.options import Options
from resnetlab.driver.run import run_study
from resnetlab.study.study import load_study
backend.ROUND_TRIALS, backend.ROUND_TRIALS_PER_SLOT = int(sys.argv[2]), 1
begun, fit = [], backend.tune.Tuner.fit
backend.tune.Tuner.fit = lambda tuner: begun.append(tuner) or fit(tuner)
run_study(load_study(Path("study.yaml")), Options(storage=sys.argv[1], cache=Path("cache")))
print(len(begun))
"""


@pytest.mark.slow
def test_a_sweep_in_rounds_of_three_finds_the_same_as_one_in_a_single_round(tmp_path):
    """With one trial at a time, so that reports come in one order. Trials are stopped in the midst of their epochs."""
    (tmp_path / "study.yaml").write_text(STUDY)
    env = os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token"}
    found = {}
    for name, limit in (("rounds", 3), ("whole", 1000)):
        command = [sys.executable, "-c", SWEEP, name, str(limit)]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=540)
        assert done.returncode == 0, done.stderr
        folder = ResultsFolder.at(tmp_path / name / "rounds")
        found[name] = int(done.stdout.splitlines()[-1]), content_hash(folder)
    assert found["whole"][0] == 1 and found["rounds"][0] >= 3
    assert found["rounds"][1] == found["whole"][1]


class Told:
    """What `run` asks of a sweep, and what it tells it. Each round, a trial `a` runs; `gains` are epochs of rounds."""

    def __init__(self, gains):
        self.finished, self.running, self.notes, self.calls = False, {}, [], []
        self.progress, self._gains = SimpleNamespace(epochs=0), iter(gains)

    def round(self):
        self.running = {"a": 1, "b": 2}
        self.progress.epochs += next(self._gains)

    def died(self, trial_id, reason, status):
        self.calls.append(("died", trial_id, status))
        self.running.pop(trial_id)

    def hand_back(self, trial_id):
        self.calls.append(("back", trial_id))
        self.running.pop(trial_id)


def drive(sweep, monkeypatch, errors, killed=()):
    """`run`, whose rounds end with `errors`, of which Ray says that the processes of `killed` were ended."""
    left = list(errors)

    def round_of_tune(*_):
        sweep.round()
        error = left.pop(0)
        sweep.finished = not left
        return error

    monkeypatch.setattr(backend, "_round", round_of_tune)
    monkeypatch.setattr(backend, "killed_for_memory", lambda said: list(killed))
    context = TrialContext("results", Path("cache"), 1, 0, 60)
    backend.run(sweep, context, lambda: None, SimpleNamespace(update=lambda: None, bound=1))


def test_a_trial_that_rays_memory_monitor_ends_is_told_from_those_that_ran_beside_it(monkeypatch):
    sweep = Told([0, 0])
    drive(sweep, monkeypatch, [OutOfMemoryError("low on memory"), None], ["b", "long over"])
    assert sweep.calls[:2] == [("died", "b", Status.OUT_OF_MEMORY), ("back", "a")] and not sweep.notes


def test_lost_workers_of_unknown_trials_do_not_go_on_for_ever(monkeypatch):
    sweep = Told([0] * 9)
    with pytest.raises(ClusterLost, match=r"lost 4 times in a row: the node died"):
        drive(sweep, monkeypatch, [NodeDiedError("the node died\nmore")] * 9)
    assert "all go on from their checkpoints (the node died)" in sweep.notes[0] and len(sweep.notes) == 4


def test_lost_workers_of_unknown_trials_are_no_matter_while_epochs_are_trained(monkeypatch):
    sweep = Told([1] * 9)
    drive(sweep, monkeypatch, [NodeDiedError("the node died")] * 9)
    assert len(sweep.notes) == 9


DEATH = """
import os, ray
from resnetlab.study import Resources
from resnetlab.ray_backend import cluster
from resnetlab.sweep.crashes import begins

class Worker:
    def begin(self, *trials):
        for trial_id in trials:
            os.write(2, (begins(trial_id) + "\\n").encode())
        return os.getpid()

with cluster.connect(None, Resources(), lambda *what: None):
    from resnetlab.ray_backend.worker_death import killed_for_memory
    workers = [ray.remote(num_cpus=0)(Worker).remote() for _ in range(3)]
    trials = [("0" * 12, "1" * 12), ("2" * 12,), ()]
    pids = [ray.get(worker.begin.remote(*names)) for worker, names in zip(workers, trials)]
    node = f"(IP: 10.0.0.1, ID: {ray.get_runtime_context().get_node_id()})"
    memory = f"Memory on the node {node}"
    old = f"{memory} where the task (actor ID: 5, name=TrialWorker.train, pid={pids[0]}, memory used=1GB) was running"
    about = "(Actor(5): job ID=01, task name=TrialWorker.__init__, required resources={CPU: 1}, pid=%d, actual memory)"
    first, second, third = (about % pid for pid in pids)
    new = f"{memory} was 6GB\\n[\\nSelected to kill: {first}\\nSelected to kill: {second}\\n{third}\\n]"
    print(killed_for_memory(old), killed_for_memory(new), killed_for_memory(new.replace("IP: ", "ID: ")))
    print(killed_for_memory(old.replace(str(pids[0]), str(pids[2]))), killed_for_memory("low on memory"))
"""


@pytest.mark.slow
def test_the_logs_of_the_processes_that_ray_has_ended_name_their_trials():
    env = os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token"}
    done = subprocess.run([sys.executable, "-c", DEATH], env=env, capture_output=True, text=True, timeout=500)
    one, two = "1" * 12, "2" * 12
    assert done.stdout.splitlines() == [f"['{one}'] ['{one}', '{two}'] []", "[] []"], done.stderr
