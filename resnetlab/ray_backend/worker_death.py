"""How the process of a trial ended, found out on the machine where it ran."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from resnetlab.sweep.crashes import PATIENCE, Crash, begun, judged, tail

Log = tuple[str, str, int | None]  # what `tail` returns


def cause_of_death(said: str) -> Crash | None:
    """How the process ended of whose death Ray has `said` this; None where it was no crash (its node is lost, say), or
    its log cannot be read. Waits for at most `PATIENCE` seconds."""
    pid, address = (re.search(rf"^\s*{name}: (\S+)$", said, re.MULTILINE) for name in ("pid", "ip"))
    if pid is None or address is None or "worker process has died" not in said:
        return None
    logs = _logs([int(pid[1])], lambda node: bool(node["NodeManagerAddress"] == address[1]))
    return next((crash for log in logs if (crash := judged(*log)) is not None), None)


def killed_for_memory(said: str) -> list[str]:
    """The trials whose processes Ray's memory monitor has ended, according to the text of its OutOfMemoryError: the
    processes' logs name them. Empty where that cannot be found out. Waits for at most `PATIENCE` seconds.

    Ray 2.52 names one process, `where the task (…, pid=7, …) was running`; since 2.56 there may be several, each in a
    line `Selected to kill: (…, pid=7, …)`.
    """
    node_id = re.search(r"on the node \(IP: \S+, ID: (\w+)\)", said)
    pids = [int(pid) for pid in re.findall(r"(?:Selected to kill:|where the task) \(.*?\bpid=(\d+)", said)]
    if node_id is None:
        return []
    logs = _logs(pids, lambda node: bool(node["NodeID"] == node_id[1]))
    return [trial_id for text, _, _ in logs if (trial_id := begun(text)) is not None]


def _logs(pids: Iterable[int], on: Callable[[Mapping[str, Any]], bool]) -> list[Log]:
    """The logs of processes of the nodes for which `on` is true; none where these are lost, or do not answer."""
    try:
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and on(node)]
        read = ray.remote(num_cpus=0, max_retries=0)(tail)
        tasks = [
            read.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(pid)
            for node in nodes
            for pid in pids
        ]
        logs: list[Log] = ray.get(tasks, timeout=PATIENCE)
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    except (RayError, TimeoutError):
        return []
    return logs if alive.issuperset(nodes) else []
