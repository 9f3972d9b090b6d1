"""Decide what a sweep's trials train on (`resources.device`): one kind of device for all, by what the nodes have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from resnetlab.errors import BadRequest, NodeRefused
from resnetlab.ray_backend.capacity import node_name
from resnetlab.study import Resources
from resnetlab.wording import plural


@dataclass(frozen=True)
class Choice:
    """The kind of device (`cpu`, `cuda`, `rocm`, `xpu`, `mps`) and the GPUs that a trial gets. why: empty if it was
    asked for by name."""

    kind: str
    gpus: float | Literal["auto"]
    why: str = ""


def choose(resources: Resources, nodes: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> Choice:
    """Choose for nodes as `ray.nodes()` lists them. kinds: by NodeID, what torch there is built for.

    Raises NodeRefused if nodes have GPUs of different kinds, whose results would differ; BadRequest if the kind that is
    asked for is not there.
    """
    if not resources.on_gpu:
        return Choice("cpu", 0.0)
    auto = resources.device == "auto"
    having = [node for node in nodes if node["Alive"] and node["Resources"].get("GPU")]
    where: dict[str, list[str]] = {}
    for node in having:
        where.setdefault(kinds.get(node["NodeID"], "cpu"), []).append(node_name(node))
    if len(where) > 1:
        found = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in where.items())
        raise NodeRefused(
            f"resources.device: torch is built for different kinds of device on the nodes that have GPUs ({found}), "
            "which would alter results (allowed: one kind; take the other nodes out of the cluster, or device: cpu)"
        )
    kind = next(iter(where), "cpu")
    if kind == "cpu":
        why = "torch is built for CPUs alone" if having else "no node has a GPU"
        if auto:
            return Choice("cpu", 0.0, why)
        raise BadRequest(f"resources.device: trials are to train on a GPU, but {why} (allowed: device: auto or cpu)")
    if resources.device not in (None, "auto", kind):
        raise BadRequest(f"resources.device: {resources.device}, but the GPUs here are {kind} (allowed: auto, {kind})")
    count = sum(int(node["Resources"]["GPU"]) for node in having)
    return Choice(
        kind, resources.gpus or 1.0, f"{plural(count, 'GPU')} on {plural(len(having), 'node')}" if auto else ""
    )
