"""How many trials fit on a cluster, and what is refused before Ray starts."""

import os
import subprocess
import sys

import pytest

from resnetlab.errors import BadRequest, ClusterLost
from resnetlab.ray_backend.capacity import fitting
from resnetlab.ray_backend.cluster import _check_room, _init
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
    assert sum(fitting(each, Resources(cpus=cpus, gpus=gpus)) for each in nodes) == slots
    _check_room(nodes, Resources(cpus=cpus, gpus=gpus))


def test_a_node_that_is_not_up_in_time_is_a_cluster_that_was_lost(monkeypatch):
    """Ray raises the bare class then; an error of another class is a fault of ours and stays as it is."""

    def late(**options):
        raise Exception("The current node timed out during startup. This could happen because\nsome reason")

    monkeypatch.setattr("ray.init", late)
    with pytest.raises(ClusterLost, match=r"^here: did not start: The current node timed out during startup.*because$"):
        _init("here", {})

    def wrong(**options):
        raise KeyError("x")

    monkeypatch.setattr("ray.init", wrong)
    with pytest.raises(KeyError):
        _init("here", {})


def test_what_no_node_can_hold_is_refused_with_what_there_is():
    with pytest.raises(BadRequest, match=r"needs 1 CPU and 1 GPU on one node.*nodes with 8 CPUs and 0 GPUs"):
        _check_room([node(8)], Resources(gpus=1))


OWN_RAY = """
import os
from resnetlab.study import Resources
from resnetlab.ray_backend import cluster

def held():
    ours = ("RAY_AUTH", "RAY_TMP", "RAY_USAGE", "OMP", "MKL")
    return {name: value for name, value in os.environ.items() if name.startswith(ours)}

before = held()
for turn in range(2):
    with cluster.connect(None, Resources(), lambda *what: None):
        import ray
        theirs = ray.get(ray.remote(held).remote())
        same = theirs["RAY_AUTH_TOKEN"] == os.environ["RAY_AUTH_TOKEN"]
        print(same, theirs["RAY_AUTH_MODE"], theirs["MKL_CBWR"], theirs["RAY_USAGE_STATS_ENABLED"])
    print(held() == before)
"""


def without_ray_settings():
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_AUTH", "RAY_TMP", "RAY_USAGE", "OMP", "MKL"))
    }


def test_our_own_ray_has_a_token_that_ends_with_it_and_sends_no_statistics():
    """Twice in one process; its environment is afterwards what it was."""
    command = [sys.executable, "-c", OWN_RAY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=without_ray_settings())
    assert done.stdout.splitlines() == ["True token AUTO 0", "True"] * 2, done.stderr


def test_ray_that_was_imported_without_a_choice_of_tokens_is_refused():
    code = (
        "import ray; from resnetlab.errors import BadRequest; from resnetlab.ray_backend import cluster\n"
        "from resnetlab.study import Resources\n"
        "try:\n    cluster.connect(None, Resources(), print).__enter__()\nexcept BadRequest as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=without_ray_settings())
    assert done.stdout.startswith("RAY_AUTH_MODE: is not set"), done.stderr
