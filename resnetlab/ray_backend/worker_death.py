"""How the process of a trial ended, found out on the machine where it ran."""

from __future__ import annotations

import re

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from resnetlab.sweep.crashes import PATIENCE, Crash, judged, tail


def cause_of_death(said: str) -> Crash | None:
    """How the process ended of whose death Ray has `said` this; None where it was no crash (its node is lost, say), or
    its log cannot be read. Waits for at most `PATIENCE` seconds."""
    pid, address = (re.search(rf"^\s*{name}: (\S+)$", said, re.MULTILINE) for name in ("pid", "ip"))
    if pid is None or address is None or "worker process has died" not in said:
        return None
    try:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] == address[1]]
        read = ray.remote(num_cpus=0, max_retries=0)(tail)
        tasks = [
            read.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                int(pid[1])
            )
            for node in nodes
        ]
        answers = ray.get(tasks, timeout=PATIENCE)
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    except (RayError, TimeoutError):
        return None
    if not {node["NodeID"] for node in nodes} <= alive:
        return None
    return next((crash for answer in answers if (crash := judged(*answer)) is not None), None)
