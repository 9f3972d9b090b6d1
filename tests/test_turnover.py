"""One worker runs many trials: it loads nothing unneeded, leaks nothing, and passes nothing on to the next trial.

The worker is the class that Ray Tune drives, in a process of its own, without a cluster.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resnetlab.experiment.messages import Task, TrialContext
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study.records import Phase
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.data import prepare

ROOT = Path(__file__).resolve().parents[1]
DATA = {"name": "glyphs", "variants": 1, "limit": 256, "test_fraction": 0.6}
TINY = {"blocks": 1, "width": 4, "downsample": 1, "batch_size": 64, "lr": 0.05, "epochs": 1}
FIRST = {"dropout": 0.2, "crop": 1, "flip": True, "rotation": 10.0, "optimizer": "adamw", "lr": 0.01, "epochs": 2}
OTHERS = [
    {"precision": "bf16", "kernel": 5},
    {"deterministic": True, "optimizer": "rmsprop", "lr": 0.001},
    {"threads": 2, "optimizer": "adam", "lr": 0.01, "batch_size": 200},
    {"model": "mlp", "head_width": 64, "head_depth": 3, "lr": 100.0, "momentum": 0.99, "epochs": 4},  # it diverges
    {"frozen": 2, "head_depth": 2},
    {"model": "cnn", "width": 4},
    {"batch_size": 60_000},  # more than there are images: it fails
]


def trials(worker, folder, cache, settings):
    """Train one trial after another in `worker`; yields the last report of each, its epochs all together."""
    for changes in settings:
        changes = dict(changes)
        cpus = changes.pop("threads", 1)
        context = TrialContext(folder, Path(cache), cpus=cpus, gpus=0, epoch_timeout_s=600)
        config = TrialConfig(data=DATA, **(TINY | changes))
        ResultsFolder.at(folder).clear("checkpoints")
        task = Task(config.trial_id, config, Phase.EXPLORE, False, prepare(config.data, Path(cache)).hash)
        assert worker.reset_config({"task": task, "context": context})
        epochs = ()
        while True:
            report = worker.step()["report"]
            epochs += report.epochs
            if report.ending or len(epochs) == config.epochs:
                break
        yield replace(report, epochs=epochs)


def new_worker():
    from resnetlab.ray_backend.worker import TrialWorker

    worker = TrialWorker({})
    return worker


def lasting(report):
    """A report without what a clock or the machine says."""
    clocks = {"train_seconds", "eval_seconds", "images_per_second", "peak_memory"}
    return [{name: value for name, value in row.as_row().items() if name not in clocks} for row in report.epochs]


NETWORKS = [
    {
        "seed": i, "blocks": 1 + i % 2, "width": 4 + i % 5, "kernel": (3, 5)[i % 2], "batch_size": 32,
        "optimizer": ("sgd", "adamw")[i % 2], "rotation": float(i % 5), "data_fraction": 0.2,
    }
    for i in range(200)
]  # fmt: skip


def one_process(folder, cache):
    """FIRST in a process that has done nothing yet, then 200 trials; resident bytes after each of these."""
    worker, memory = new_worker(), []
    (first,) = trials(worker, folder, cache, [FIRST])
    for report in trials(worker, folder, cache, NETWORKS):
        assert not report.ending, report
        memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    print(json.dumps({"first": lasting(first), "memory": memory, "torchvision": "torchvision" in sys.modules}))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    place = tmp_path_factory.mktemp("cache")
    prepare(TrialConfig(data=DATA).data, place)
    return str(place)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, cache):
    """What `one_process` found."""
    code = "import sys; sys.path.insert(0, 'tests'); from test_turnover import *; one_process(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(tmp_path_factory.mktemp("fresh")), cache]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_same_trial_first_and_last_and_in_a_fresh_process(tmp_path, cache, fresh):
    """All metrics equal to the last bit, whatever precision, threads, failures and generators came between."""
    worker = new_worker()
    first, *between, last = trials(worker, str(tmp_path), cache, [FIRST, *OTHERS, FIRST])
    assert lasting(first) == lasting(last) and len(first.epochs) == 2
    endings = [report.ending.status if report.ending else "complete" for report in between]
    assert endings == [*["complete"] * 3, "diverged", *["complete"] * 2, "failed"]
    assert fresh["first"] == lasting(first)


def test_nothing_passes_from_one_trial_to_the_next(tmp_path, cache):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(trials(new_worker(), str(tmp_path), cache, [*OTHERS, FIRST]))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 1 and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert not torch.is_autocast_enabled("cpu") and not torch.is_autocast_enabled("cuda")
    assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic
    assert torch.get_default_dtype() == torch.float32


def test_a_worker_loads_no_torchvision_and_keeps_no_memory(fresh):
    """Memory after 200 trials within 5% of after 20, when oneDNN has a kernel for all of their ten networks. That of
    200 different networks, with as many kernels more, is measured by benchmarks/turnover.py."""
    after_20, after_200 = fresh["memory"][19], fresh["memory"][199]
    assert after_200 <= 1.05 * after_20, (
        f"{after_20 / 2**20:.0f} MiB after 20 trials, {after_200 / 2**20:.0f} after 200"
    )
    assert not fresh["torchvision"]
