"""How many trials fit a cluster, and what is refused before Ray starts."""

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
