"""The number of trials that a sweep may run at once: what the cluster has room for, which changes as nodes join and
leave; what the user allows; and what other sweeps on the cluster leave."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from resnetlab.errors import BadRequest
from resnetlab.study import Resources
from resnetlab.wording import plural

POLL_INTERVAL = 2.0  # seconds between two looks at the cluster

Node = Mapping[str, Any]  # an item of `ray.nodes()`


def fitting(node: Node, resources: Resources) -> int:
    """How many trials fit on an otherwise idle node."""
    if not node["Alive"]:
        return 0
    cpus, gpus = node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)
    fits = int(cpus / resources.cpus + 1e-9)
    if resources.gpus and resources.gpus != "auto":
        per_gpu = int(1 / resources.gpus + 1e-9)
        fits = min(fits, int(gpus) * per_gpu if per_gpu else int(gpus / resources.gpus + 1e-9))
    return fits


def in_words(resources: Resources) -> str:
    """What one trial needs, in words: `1 CPU and 0.25 GPUs`."""
    cpus = plural(float(resources.cpus), "CPU")
    if not resources.on_gpu:
        return cpus
    gpus = "a share of a GPU" if resources.gpus == "auto" else plural(resources.gpus or 1.0, "GPU")
    return f"{cpus} and{', where there is one,' if resources.device == 'auto' else ''} {gpus}"


def node_name(node: Node) -> str:
    """Host and address: `gpu-3 (10.0.0.7)`."""
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def check_slots(slots: int | None) -> None:
    """BadRequest unless `slots`, the most trials that may run at once, is None (any number) or at least 1."""
    if slots is not None and (not isinstance(slots, int) or slots < 1):
        raise BadRequest(f"--slots {slots}: need at least 1, the number of trials that may run at once")


class Capacity:
    """Tracks how many trials may run at once.

    look: returns the nodes; `say` gets a line for every node that joins or leaves, and `log` an entry for sweep.json.
    most: as many as the user allows; None for any number.
    share: as many as other sweeps leave; None if there are none. others: these, in words, for who waits for them.
    held: True while no trial may run, because the sweep was asked to pause or to stop.
    """

    def __init__(
        self,
        resources: Resources,
        look: Callable[[], Iterable[Node]],
        say: Callable[[str], None] = print,
        most: int | None = None,
    ):
        self._resources, self._look, self._say = resources, look, say
        self._nodes = self._alive()
        self._looked = time.monotonic()
        self.log: list[dict[str, Any]] = []
        self.most, self.others, self.held = most, "", False
        self.share: int | None = None

    def _alive(self) -> dict[str, Node]:
        return {node["NodeID"]: node for node in self._look() if node["Alive"]}

    @property
    def room(self) -> int:
        """Number of trials that fit at once, on all nodes together."""
        return sum(fitting(node, self._resources) for node in self._nodes.values())

    @property
    def slots(self) -> int:
        """Number of trials that fit and that the user allows."""
        return self.room if self.most is None else min(self.room, self.most)

    @property
    def bound(self) -> float:
        """Number of trials that may run, whatever fits: a sweep that runs more hands some back."""
        return 0 if self.held else min((n for n in (self.most, self.share) if n is not None), default=math.inf)

    @property
    def limit(self) -> float:
        """Number of trials that may be handed out: one more than fit, so that no worker waits, but within the bound."""
        return min(self.room + 1, self.bound)

    def update(self) -> None:
        """Look at the cluster again, at most every `POLL_INTERVAL` seconds."""
        if time.monotonic() - self._looked < POLL_INTERVAL:
            return
        before, self._nodes = self._nodes, self._alive()
        self._looked = time.monotonic()
        for event, here, there in (("joined", self._nodes, before), ("left", before, self._nodes)):
            for name in here.keys() - there.keys():
                node, slots = node_name(here[name]), self.slots
                self.log.append({"at": datetime.now(UTC).isoformat(), "event": event, "node": node, "slots": slots})
                self._say(f"node {node} {event}: room for {plural(slots, 'trial')} at once")

    def waited_for(self) -> str:
        """What a trial without a worker waits for: `1 CPU (room for 2 trials, on 1 node)`."""
        nodes = sum(fitting(node, self._resources) > 0 for node in self._nodes.values())
        if not nodes:
            return f"{in_words(self._resources)} (no node has room for one)"
        room = f"room for {plural(self.room, 'trial')}, on {plural(nodes, 'node')}"
        most = [f"--slots allows {self.most}"] if self.most is not None and self.most < self.room else []
        return f"{in_words(self._resources)} ({'; '.join([room, *most, *filter(None, [self.others])])})"
