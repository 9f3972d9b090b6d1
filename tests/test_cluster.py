"""How many trials fit a cluster, and what is refused before Ray starts."""

import os
import subprocess
import sys

import pytest

from resnetlab.errors import BadRequest
from resnetlab.ray_backend.cluster import _slots
from resnetlab.study import Resources


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
import os
from pathlib import Path
import ray  # before a token was chosen, as a notebook may do
from resnetlab.study import Resources
from resnetlab.ray_backend import cluster, reaper

def held():
    return {name: value for name, value in os.environ.items() if name.startswith(("RAY_AUTH", "OMP", "MKL"))}

before = held()
for turn in range(2):  # the second with another token
    with cluster.connect(None, Resources(), lambda *what: None):
        print(ray.get(ray.remote(lambda: held().keys() - before.keys()).remote()) >= {"RAY_AUTH_TOKEN", "MKL_CBWR"})
        folder = ray._private.worker._global_node.get_session_dir_path()
        pids = set(reaper.processes(folder)) - {os.getpid()}
        lines = " ".join(Path(f"/proc/{pid}/cmdline").read_text(errors="replace") for pid in pids)
        print([name for name in ("raylet", "monitor.py", "log_monitor.py", "dashboard.py") if f"/{name}" in lines])
    print(held() == before)
"""


def test_our_own_ray_has_a_token_that_ends_with_it_and_no_process_that_nothing_uses():
    """Neither Ray's autoscaler, nor what forwards its logs, nor the dashboard; and whoever imported Ray before may."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_AUTH", "OMP", "MKL"))}
    done = subprocess.run([sys.executable, "-c", OWN_RAY], capture_output=True, text=True, timeout=400, env=env)
    assert done.stdout.splitlines() == ["True", "['raylet']", "True"] * 2, done.stderr
