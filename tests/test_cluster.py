"""How many trials fit a cluster, and what is refused before Ray starts."""

import subprocess
import sys

import pytest

from resnetlab.errors import BadRequest
from resnetlab.study import Resources
from resnetlab.tuning.cluster import _slots


def node(cpus, gpus=0, alive=True):
    return {"Alive": alive, "Resources": {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})}


@pytest.mark.parametrize(
    "nodes, cpus, gpus, slots",
    [
        ([node(2)], 1, 0, 2),
        ([node(1), node(4)], 2, 0, 2),
        ([node(16, 2)], 1, 0.25, 8),  # four trials on each GPU
        ([node(3, 1)], 1, 0.25, 3),  # as many as there are CPUs for
        ([node(16, 2)], 1, 0.4, 4),  # two on each, a fifth of each left over
        ([node(16, 4)], 1, 2, 2),
        ([node(16, 4, alive=False), node(2, 1)], 1, 1, 1),
    ],
)
def test_trials_are_packed_node_by_node(nodes, cpus, gpus, slots):
    assert _slots(nodes, Resources(cpus=cpus, gpus=gpus)) == slots


def test_what_no_node_can_hold_is_refused_with_what_there_is():
    with pytest.raises(BadRequest, match=r"needs 1 CPUs and 1 GPUs on one node.*nodes with 8 CPUs and 0 GPUs"):
        _slots([node(8)], Resources(gpus=1))


OWN_RAY = """
import os, sys
import ray  # as a notebook may have done: before a token was chosen
from pathlib import Path
from resnetlab.study import Resources
from resnetlab.tuning import cluster, reaper

class Probe:
    def pid(self):
        return os.getpid()
    def environment(self):
        return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_CBWR")}

os.environ.pop("OMP_NUM_THREADS", None)
before = dict(os.environ)
with cluster.connect(None, Resources(), lambda *what: None):
    folder = ray._private.worker._global_node.get_session_dir_path()
    room = int(ray.cluster_resources()['CPU'])
    probes = [ray.remote(num_cpus=1)(Probe).remote() for _ in range(room)]
    pids = ray.get([probe.pid.remote() for probe in probes])
    print(ray.get(probes[0].environment.remote()))
    pids = set(reaper.processes(folder)) - {os.getpid()}
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace") for pid in pids]
    print([name for name in ("monitor.py", "log_monitor.py", "dashboard.py") if any(name in line for line in lines)])
    started = Path(folder, "logs/raylet.out").read_text().count("Started worker process")
    print("workers beyond those that trials took:", started - room)
ours = {"OMP_NUM_THREADS", *cluster.WORKERS}
changed = {name for name in set(before) | set(os.environ) if before.get(name) != os.environ.get(name)}
print([name for name in changed if name in ours or "prestart" in name or "preload" in name])
"""


def test_our_own_ray_starts_no_process_that_nothing_uses():
    """Neither Ray's autoscaler, forwarder of logs and dashboard, nor workers beyond those that trials get."""
    done = subprocess.run([sys.executable, "-c", OWN_RAY], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    environment, idle, more, changed = done.stdout.splitlines()
    assert environment == "{'OMP_NUM_THREADS': '1', 'OMP_WAIT_POLICY': 'PASSIVE', 'MKL_CBWR': 'AUTO'}"
    assert idle == "[]"
    assert more == "workers beyond those that trials took: 0"
    assert changed == "[]"  # of the environment of the process that started it
