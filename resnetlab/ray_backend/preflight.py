"""What every node of a cluster has, asked before the first trial: versions, environment variables that choose how to
compute, devices, memory, the data, the storage.

One task on each node answers. It makes the datasets in the node's cache where they are missing, which the cache's lock
leaves to one process, and writes and reads the storage. What was found is shown in one table; where a node would alter
results, or could not keep them, the sweep does not start. Nodes that join later are checked in the same way by
`check_here`, in each trial.
"""

from __future__ import annotations

import os
import platform
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache as remembered
from pathlib import Path
from typing import Any

from rich.table import Table

from resnetlab.errors import BadData, BadRequest, ClusterLost, NodeRefused, ResnetlabError
from resnetlab.provenance import versions
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study.trial_config import DataConfig
from resnetlab.vision.data import Dataset, prepare

ALTERS = ("python", "resnetlab", "torch", "torchvision", "numpy")  # what training computes with
VARIABLES = (  # with which a user chooses how oneDNN, torch and cuBLAS compute
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",  # oneDNN's names of old, which it still reads
    "DNNL_CPU_ISA_HINTS",
    "DNNL_DEFAULT_FPMATH_MODE",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
PATIENCE = 15.0  # seconds between words on what is waited for
MENDS = {
    "versions": "Install the versions of cluster/constraints.txt on every node, or take the node out of the cluster.",
    "variables": "Set these variables alike on every node, before Ray starts there, and where the sweep is started.",
    "data": "Give every node the same files at the same place.",
    "storage": "Use a file system that every node mounts at this path, or a URL (s3://…, gs://…).",
}


def variables() -> dict[str, str]:
    """Those of VARIABLES that are set here."""
    return {name: value for name in VARIABLES if (value := os.environ.get(name))}


@dataclass(frozen=True)
class Asked:
    """What the nodes are compared with: the driver's folder, versions and environment variables, and each dataset with
    its hash, by a name."""

    folder: ResultsFolder
    cache: Path  # on each node
    data: Mapping[str, tuple[DataConfig, str]]
    versions: Mapping[str, str] = field(default_factory=versions)
    variables: Mapping[str, str] = field(default_factory=variables)

    @classmethod
    def of(cls, folder: ResultsFolder, cache: Path, datasets: Mapping[str, Dataset]) -> Asked:
        """With the name of each dataset, and its key where several have that name."""
        names = [found.config.name for found in datasets.values()]
        named = {
            f"data {found.config.name}" + f" {key[:6]}" * (names.count(found.config.name) > 1): (
                found.config,
                found.hash,
            )
            for key, found in datasets.items()
        }
        return cls(folder, cache, named)


@dataclass
class Node:
    """What one node answered. data: hash or problem of each dataset. storage: what is wrong with it."""

    host: str
    address: str
    versions: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""
    gpus: tuple[str, ...] = ()
    memory: int | None = None  # bytes that are free
    data: Mapping[str, str] = field(default_factory=dict)
    storage: str = ""
    problem: str = ""  # why it did not answer

    @property
    def name(self) -> str:
        return f"node {self.host} ({self.address})"


def check(asked: Asked, tick: Callable[[], None], say: Callable[[Any], None]) -> list[dict[str, Any]]:
    """Ask every node, show what they have, and return it, as JSON may hold it.

    `tick` is called every second; `say` shows a line or a table. Raises NodeRefused for versions and variables, BadData
    for data, BadRequest for storage, with all that is wrong in one message; ClusterLost where no node answers.
    """
    nodes = _answers(asked, tick, say)
    if len(nodes) > 1 or _problems(asked, nodes):
        say(table(asked, nodes))
    found = _problems(asked, nodes)
    if found:
        kinds = list(dict.fromkeys(kind for kind, _ in found))
        lines = "\n  ".join(line for _, line in found)
        kind = BadData if kinds == ["data"] else BadRequest if kinds == ["storage"] else NodeRefused
        raise kind(
            "\n  ".join(["preflight: these nodes differ from the driver:", lines, *(MENDS[kind] for kind in kinds)])
        )
    return [asdict(node) for node in nodes]


def _answers(asked: Asked, tick: Callable[[], None], say: Callable[[Any], None]) -> list[Node]:
    """Of all nodes that live, by host name."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = secrets.token_hex(8)
    asked.folder.write(f"probe/{token}", token.encode())
    ask = ray.remote(num_cpus=0, max_retries=0)(_ask)
    configs = {name: config.model_dump(mode="json") for name, (config, _) in asked.data.items()}
    pending = {}
    for node in ray.nodes():
        if node["Alive"]:
            strategy = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            words = (asked.folder.place, token, node["NodeID"], str(asked.cache), configs)
            pending[ask.options(scheduling_strategy=strategy).remote(*words)] = node
    found, told = [], time.monotonic()
    try:
        while pending:
            for ready in ray.wait(list(pending), timeout=1.0)[0]:
                node = pending.pop(ready)
                host, address = node["NodeManagerHostname"], node["NodeManagerAddress"]
                try:
                    answer = Node(address=address, **ray.get(ready))
                    if not answer.storage and asked.folder.read(f"probe/{token}-{node['NodeID']}") is None:
                        answer.storage = "writes to a folder of its own, which the driver does not see"
                    found.append(answer)
                except ray.exceptions.RayError as error:
                    if any(other["Alive"] for other in ray.nodes() if other["NodeID"] == node["NodeID"]):
                        lines = str(error).strip().splitlines() or [type(error).__name__]
                        found.append(Node(host, address, problem=f"cannot run this project: {lines[-1]}"))
                    else:
                        say(f"node {host} ({address}) has left the cluster")
            tick()
            if pending and time.monotonic() - told > PATIENCE:
                told = time.monotonic()
                waiting = ", ".join(node["NodeManagerHostname"] for node in pending.values())
                say(f"preflight: waiting for {waiting}, where data is made if it is missing")
    finally:
        asked.folder.clear("probe")
    if not found:
        raise ClusterLost("no node answers")
    return sorted(found, key=lambda node: (node.host, node.address))


def _ask(place: str, token: str, node: str, cache: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """On a node: the fields of its Node, but for its address."""
    hashes = {}
    for name, config in data.items():
        try:
            hashes[name] = prepare(DataConfig(**config), Path(cache), whole=True).hash
        except ResnetlabError as error:
            hashes[name] = str(error)
    return {
        "host": platform.node(),
        "versions": versions(),
        "variables": variables(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "gpus": _gpus(),
        "memory": _memory(),
        "data": hashes,
        "storage": _storage(place, token, node),
    }


def _storage(place: str, token: str, node: str) -> str:
    """What is wrong with the storage as this node sees it."""
    folder, name = ResultsFolder.at(place), f"probe/{token}-{node}"
    try:
        if folder.read(f"probe/{token}") != token.encode():
            return "does not see what the driver wrote"
        folder.write(name, node.encode())
        if folder.read(name) != node.encode():
            return "does not read what it wrote"
    except (OSError, ResnetlabError) as error:
        return f"cannot write: {str(error).removeprefix(f'{folder.url}/{name}: cannot be written: ')}"
    return ""


def _gpus() -> tuple[str, ...]:
    """Name and free memory of each GPU, as NVIDIA's own tool says it."""
    words = ["nvidia-smi", "--query-gpu=name,memory.free", "--format=csv,noheader"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in said.splitlines() if line.strip())


def _memory() -> int | None:
    """Bytes of this machine's memory that a process can still get; None on a node without psutil."""
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)


def _plain(name: str, version: str) -> str:
    """What of a version matters: not how its package was built, and not Python's third number."""
    plain = version.partition("+")[0]
    return ".".join(plain.split(".")[:2]) if name == "python" else plain


def _problems(asked: Asked, nodes: list[Node]) -> list[tuple[str, str]]:
    """Kind and wording of everything for which a sweep may not start."""
    found = []
    for node in nodes:
        if node.problem:
            found.append(("versions", f"{node.name} {node.problem}"))
            continue
        for kind in ("versions", "variables"):
            for name, ours, theirs in _others(getattr(asked, kind), getattr(node, kind)):
                found.append((kind, f"{node.name} has {name} {theirs}, the driver {ours}: that may alter results"))
        for name, (_, ours) in asked.data.items():
            theirs = node.data[name]
            if theirs != ours:
                is_hash = len(theirs) == len(ours) and " " not in theirs
                what = f"has {name} with hash {theirs}, the driver {ours}" if is_hash else f"has no {name}: {theirs}"
                found.append(("data", f"{node.name} {what}"))
        if node.storage:
            found.append(
                ("storage", f"--storage {asked.folder.url}: not shared by all nodes: {node.name} {node.storage}")
            )
    return found


def _others(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Name, version or value here and there of what would alter results."""
    pairs = [(name, ours.get(name, "absent"), theirs.get(name, "absent")) for name in ALTERS]
    found = [(name, here, there) for name, here, there in pairs if _plain(name, here) != _plain(name, there)]
    values = [(name, ours.get(name, "unset"), theirs.get(name, "unset")) for name in VARIABLES]
    return found + [(name, here, there) for name, here, there in values if here != there]


def table(asked: Asked, nodes: list[Node]) -> Table:
    """One column for all nodes that are alike, one line for what was asked; what differs is said at its end."""
    alike: dict[str, list[Node]] = {}
    for node in nodes:
        alike.setdefault(repr([value for _, value in _facts(asked, node)]), []).append(node)
    groups = list(alike.values())
    shown = Table(box=None, header_style="bold", pad_edge=False, title="preflight", title_justify="left")
    shown.add_column("")
    for group in groups:
        more = f" and {len(group) - 3} more" if len(group) > 3 else ""
        shown.add_column(", ".join(node.host for node in group[:3]) + more, overflow="fold")
    shown.add_column("")
    refused = {name for node in nodes for name, _, _ in _others(asked.versions, node.versions)}
    refused |= {name for name, (_, ours) in asked.data.items() if any(node.data.get(name) != ours for node in nodes)}
    for cells in zip(*(_facts(asked, group[0]) for group in groups), strict=True):
        label = cells[0][0]
        values = [value for _, value in cells]
        stops = label in refused or (label == "storage" and any(node.storage or node.problem for node in nodes))
        stops |= label == "variables" and any(_others(asked.variables, node.variables) for node in nodes)
        verdict = "refused" if stops else "differs" if len(set(values)) > 1 else ""
        shown.add_row(label, *values, verdict, style="bold" if verdict else None)
    shown.add_row("free memory", *(_free(group) for group in groups), "")
    return shown


def _facts(asked: Asked, node: Node) -> list[tuple[str, str]]:
    """What a node is compared in, with its label."""
    if node.problem:
        return [(label, "?") for label, _ in _facts(asked, Node("", "", data=dict.fromkeys(asked.data, "")))]
    facts = [(name, node.versions.get(name, "absent")) for name in asked.versions]
    facts.append(("variables", ", ".join(f"{name}={value}" for name, value in node.variables.items()) or "none"))
    facts.append(("machine", node.machine))
    names = [gpu.rpartition(",")[0] for gpu in node.gpus]
    facts.append(("GPUs", ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names)) or "none"))
    facts += [(name, node.data[name]) for name in asked.data]
    return [*facts, ("storage", node.storage or "written and read")]


def _free(group: list[Node]) -> str:
    """Free memory of these nodes, and of their GPUs: the least and the most."""
    known = [node.memory / 2**30 for node in group if node.memory is not None]
    said = [f"{min(known):.1f} to {max(known):.1f} GiB" if len(known) > 1 else f"{known[0]:.1f} GiB"] if known else []
    gpus = sorted({gpu.rpartition(",")[2].strip() for node in group for gpu in node.gpus})
    return ", ".join(said + ([f"GPU {gpus[0]} to {gpus[-1]}" if len(gpus) > 1 else f"GPU {gpus[0]}"] if gpus else []))


def decisive() -> dict[str, str]:
    """The versions and variables here of what would alter results."""
    return {name: found for name, found in versions().items() if name in ALTERS} | variables()


@remembered
def _here() -> Mapping[str, str]:
    return decisive()


def check_here(wanted: Mapping[str, str]) -> None:
    """In a trial, on a node that may have joined after the preflight: NodeRefused where it would alter results."""
    for name, ours, theirs in _others(wanted, _here()) if wanted else ():
        mend = "set it alike before Ray starts there" if name in VARIABLES else "install that"
        raise NodeRefused(
            f"node {platform.node()}, which joined during the sweep, has {name} {theirs}, the sweep's is {ours}: "
            f"take it out of the cluster, or {mend}"
        )
