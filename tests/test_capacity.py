"""The number of trials that fit while nodes join and leave."""

import pytest

from resnetlab.ray_backend import capacity
from resnetlab.ray_backend.capacity import Capacity
from resnetlab.study import Resources


def node(name, cpus, gpus=0, alive=True):
    resources = {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})
    place = {"NodeManagerHostname": name, "NodeManagerAddress": f"10.0.0.{name[1:]}"}
    return {"NodeID": name, "Alive": alive, "Resources": resources, **place}


@pytest.fixture
def looked(monkeypatch):
    monkeypatch.setattr(capacity, "POLL_INTERVAL", 0.0)
    nodes, said = [node("n1", 2)], []
    return Capacity(Resources(), lambda: list(nodes), said.append), nodes, said


def test_nodes_that_join_and_leave_are_told_and_recorded(looked):
    found, nodes, said = looked
    found.update()
    assert found.slots == 2 and not said and found.waited_for() == "1 CPU (room for 2 trials, on 1 node)"
    nodes.append(node("n2", 1))
    found.update()
    assert found.slots == 3 and said == ["node n2 (10.0.0.2) joined: room for 3 trials at once"]
    nodes[1]["Alive"] = False
    found.update()
    assert found.slots == 2 and said[1] == "node n2 (10.0.0.2) left: room for 2 trials at once"
    assert [(line["event"], line["slots"]) for line in found.log] == [("joined", 3), ("left", 2)]


def test_what_is_waited_for_where_no_node_has_room():
    found = Capacity(Resources(cpus=4, gpus=0.25), lambda: [node("n1", 2, 1)])
    assert found.slots == 0 and found.waited_for() == "4 CPUs and 0.25 GPUs (no node has room for one)"
