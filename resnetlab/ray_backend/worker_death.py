"""Find out how a trial's process ended, from its log on the machine where it ran."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from resnetlab.sweep.crashes import LOG_TIMEOUT, Crash, diagnose, last_trial, tail

Log = tuple[str, str, int | None]  # what `tail` returns


def cause_of_death(ray_error: str) -> Crash | None:
    """How the process ended that Ray's error message `ray_error` is about. Waits for at most `LOG_TIMEOUT` seconds.

    None if it did not crash (its node was lost, for example), or if its log cannot be read.
    """
    pid, address = (re.search(rf"^\s*{name}: (\S+)$", ray_error, re.MULTILINE) for name in ("pid", "ip"))
    if pid is None or address is None or "worker process has died" not in ray_error:
        return None
    logs = _logs([int(pid[1])], lambda node: bool(node["NodeManagerAddress"] == address[1]))
    return next((crash for log in logs if (crash := diagnose(*log)) is not None), None)


def killed_for_memory(ray_error: str) -> list[str]:
    """The ids of the trials whose processes Ray's memory monitor killed. Waits for at most `LOG_TIMEOUT` seconds.

    ray_error: the message of Ray's OutOfMemoryError. It names processes, and their logs name the trials. Ray 2.52 names
    one process, `where the task (…, pid=7, …) was running`; since 2.56 there may be several, each in a line
    `Selected to kill: (…, pid=7, …)`. Empty if the trials cannot be found out.
    """
    node_id = re.search(r"on the node \(IP: \S+, ID: (\w+)\)", ray_error)
    pids = [int(pid) for pid in re.findall(r"(?:Selected to kill:|where the task) \(.*?\bpid=(\d+)", ray_error)]
    if node_id is None:
        return []
    logs = _logs(pids, lambda node: bool(node["NodeID"] == node_id[1]))
    return [trial_id for text, _, _ in logs if (trial_id := last_trial(text)) is not None]


def _logs(pids: Iterable[int], on: Callable[[Mapping[str, Any]], bool]) -> list[Log]:
    """The logs of processes on the nodes for which `on` is true; empty if such a node is lost or does not answer."""
    try:
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and on(node)]
        read = ray.remote(num_cpus=0, max_retries=0)(tail)
        tasks = [
            read.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(pid)
            for node in nodes
            for pid in pids
        ]
        logs: list[Log] = ray.get(tasks, timeout=LOG_TIMEOUT)
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    except (RayError, TimeoutError):
        return []
    return logs if alive.issuperset(nodes) else []
