"""Check every node of a cluster before the first trial: package versions, environment variables that choose how to
compute, devices, memory, data and storage.

One Ray task per node collects these facts. It also prepares missing datasets in the node's cache (whose lock lets one
process do so) and writes and reads the storage. A table shows the nodes; a sweep does not start if a node would alter
results or could not store them. On nodes that join later, each trial makes these checks itself (`check_here`).
"""

from __future__ import annotations

import os
import platform
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rich.table import Table

from resnetlab.errors import BadData, BadRequest, ClusterLost, NodeRefused, ResnetlabError
from resnetlab.provenance import versions
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data import Dataset, prepare
from resnetlab.vision.training.accelerator import built_for

DECISIVE_PACKAGES = ("python", "resnetlab", "torch", "torchvision", "numpy")  # those that training computes with
DECISIVE_VARIABLES = (  # choose how oneDNN, torch and cuBLAS compute
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",  # old names, which oneDNN still reads
    "DNNL_CPU_ISA_HINTS",
    "DNNL_DEFAULT_FPMATH_MODE",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
NOTICE_INTERVAL = 15.0  # seconds between two notices of which nodes have not answered
REMEDIES = {
    "versions": "Install the versions of cluster/constraints.txt on every node, or take the node out of the cluster.",
    "variables": "Set these variables alike on every node, before Ray starts there, and where the sweep is started.",
    "data": "Give every node the same files at the same place.",
    "GPUs": "Restart these nodes or take them out of the cluster, or train on CPUs (--gpus-per-trial 0).",
    "storage": "Use a file system that every node mounts at this path, or a URL (s3://…, gs://…).",
}


def variables() -> dict[str, str]:
    """Those of DECISIVE_VARIABLES that are set in this process."""
    return {name: value for name in DECISIVE_VARIABLES if (value := os.environ.get(name))}


@dataclass(frozen=True)
class DriverFacts:
    """What the nodes are compared with.

    cache: folder of the data cache on each node. data: config and hash of each dataset, by a name. gpus: whether trials
    train on GPUs.
    """

    folder: ResultsFolder
    cache: Path
    data: Mapping[str, tuple[DataConfig, str]]
    versions: Mapping[str, str] = field(default_factory=versions)
    variables: Mapping[str, str] = field(default_factory=variables)
    gpus: bool = False

    @classmethod
    def of(cls, folder: ResultsFolder, cache: Path, datasets: Mapping[str, Dataset], gpus: bool = False) -> DriverFacts:
        """The facts of this process. datasets: by their keys, which tell datasets of one name apart."""
        names = [dataset.config.name for dataset in datasets.values()]
        data = {}
        for key, dataset in datasets.items():
            name = dataset.config.name
            data[f"data {name} {key[:6]}" if names.count(name) > 1 else f"data {name}"] = dataset.config, dataset.hash
        return cls(folder, cache, data, gpus=gpus)


@dataclass
class Node:
    """The facts of one node.

    torch_for: kind of device that torch there is built for. gpus: name and free memory of each; gpu_problem: what
    `nvidia-smi` says is wrong, or empty. data: hash of each dataset, or what is wrong with it. storage: what is wrong
    with it, or empty. memory: free bytes. problem: why the node did not answer, or empty.
    """

    host: str
    address: str
    node_id: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""
    torch_for: str = ""
    gpus: tuple[str, ...] = ()
    gpu_problem: str = ""
    memory: int | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    storage: str = ""
    problem: str = ""

    @property
    def name(self) -> str:
        return f"node {self.host} ({self.address})"


def check(driver: DriverFacts, tick: Callable[[], None], say: Callable[[Any], None]) -> list[dict[str, Any]]:
    """Check all nodes, show them in a table if there are several or one is refused, and return their facts for JSON.

    tick: called every second. say: shows a line or a table.
    Raises NodeRefused for versions and variables, BadData for data, BadRequest for storage, with everything that is
    wrong in one message; ClusterLost if no node answers.
    """
    nodes = _answers(driver, tick, say)
    problems = _problems(driver, nodes)
    if len(nodes) > 1 or problems:
        say(table(driver, nodes))
    if problems:
        kinds = list(dict.fromkeys(kind for kind, _ in problems))
        lines = [line for _, line in problems]
        error = BadData if kinds == ["data"] else BadRequest if kinds == ["storage"] else NodeRefused
        heading = "preflight: these nodes differ from the driver:"
        raise error("\n  ".join([heading, *lines, *(REMEDIES[kind] for kind in kinds)]))
    return [asdict(node) for node in nodes]


def _answers(driver: DriverFacts, tick: Callable[[], None], say: Callable[[Any], None]) -> list[Node]:
    """The facts of all living nodes, sorted by host name."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = secrets.token_hex(8)
    driver.folder.write(f"probe/{token}", token.encode())
    facts_here = ray.remote(num_cpus=0, max_retries=0)(_facts_here)
    configs = {name: config.model_dump(mode="json") for name, (config, _) in driver.data.items()}
    pending = {}
    for node in ray.nodes():
        if node["Alive"]:
            strategy = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            arguments = (driver.folder.place, token, node["NodeID"], str(driver.cache), configs)
            pending[facts_here.options(scheduling_strategy=strategy).remote(*arguments)] = node
    answers, noticed = [], time.monotonic()
    try:
        while pending:
            for ready in ray.wait(list(pending), timeout=1.0)[0]:
                node = pending.pop(ready)
                host, address = node["NodeManagerHostname"], node["NodeManagerAddress"]
                try:
                    answer = Node(address=address, node_id=node["NodeID"], **ray.get(ready))
                    if not answer.storage and driver.folder.read(f"probe/{token}-{node['NodeID']}") is None:
                        answer.storage = "writes to a folder of its own, which the driver does not see"
                    answers.append(answer)
                except ray.exceptions.RayError as error:
                    if any(other["Alive"] for other in ray.nodes() if other["NodeID"] == node["NodeID"]):
                        lines = str(error).strip().splitlines() or [type(error).__name__]
                        answers.append(
                            Node(host, address, node["NodeID"], problem=f"cannot run this project: {lines[-1]}")
                        )
                    else:
                        say(f"node {host} ({address}) has left the cluster")
            tick()
            if pending and time.monotonic() - noticed > NOTICE_INTERVAL:
                noticed = time.monotonic()
                waiting = ", ".join(node["NodeManagerHostname"] for node in pending.values())
                say(f"preflight: waiting for {waiting}, where data is made if it is missing")
    finally:
        driver.folder.clear("probe")
    if not answers:
        raise ClusterLost("no node answers")
    return sorted(answers, key=lambda node: (node.host, node.address))


def _facts_here(place: str, token: str, node: str, cache: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Run on a node: the fields of its Node, except its address. place: of the results folder; token: written there by
    the driver; node: its id, whose file is written there."""
    hashes = {}
    for name, config in data.items():
        try:
            hashes[name] = prepare(DataConfig(**config), Path(cache), whole=True).hash
        except ResnetlabError as error:
            hashes[name] = str(error)
    gpus, gpu_problem = _gpus()
    return {
        "host": platform.node(),
        "versions": versions(),
        "variables": variables(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch_for": built_for(),
        "gpus": gpus,
        "gpu_problem": gpu_problem,
        "memory": _free_memory(),
        "data": hashes,
        "storage": _storage_problem(place, token, node),
    }


def _storage_problem(place: str, token: str, node: str) -> str:
    """What is wrong with the storage as this node sees it, or empty."""
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


def _gpus() -> tuple[tuple[str, ...], str]:
    """Name and free memory of each GPU, as `nvidia-smi` prints them, and what it says is wrong. Nothing without it."""
    command = ["nvidia-smi", "--query-gpu=name,memory.free", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except OSError:
        return (), ""
    except subprocess.TimeoutExpired:
        return (), "nvidia-smi does not answer"
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] + lines
        return (), f"nvidia-smi: {said[0] if said else f'ended with {done.returncode}'}"
    lost = [line for line in lines if "lost" in line.lower() or "unknown error" in line.lower()]
    return tuple(line for line in lines if line not in lost), f"nvidia-smi: {lost[0]}" if lost else ""


def _free_memory() -> int | None:
    """Bytes of memory available on this machine; None without psutil."""
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)


def _compared_version(name: str, version: str) -> str:
    """The part of a version that is compared: without the local build (`+cu128`), and without Python's third number."""
    release = version.partition("+")[0]
    return ".".join(release.split(".")[:2]) if name == "python" else release


def _problems(driver: DriverFacts, nodes: list[Node]) -> list[tuple[str, str]]:
    """Kind (a key of REMEDIES) and wording of everything that keeps the sweep from starting."""
    problems = []
    for node in nodes:
        if node.problem:
            problems.append(("versions", f"{node.name} {node.problem}"))
            continue
        for kind in ("versions", "variables"):
            for name, ours, theirs in _differences(getattr(driver, kind), getattr(node, kind)):
                problems.append((kind, f"{node.name} has {name} {theirs}, the driver {ours}: that may alter results"))
        for name, (_, ours) in driver.data.items():
            theirs = node.data[name]
            if theirs != ours:
                is_hash = len(theirs) == len(ours) and " " not in theirs
                what = f"has {name} with hash {theirs}, the driver {ours}" if is_hash else f"has no {name}: {theirs}"
                problems.append(("data", f"{node.name} {what}"))
        if driver.gpus and node.gpu_problem:
            problems.append(("GPUs", f"{node.name} has a GPU that cannot be used: {node.gpu_problem}"))
        if node.storage:
            problems.append(
                ("storage", f"--storage {driver.folder.url}: not shared by all nodes: {node.name} {node.storage}")
            )
    return problems


def _differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Name, our and their version or value of each package and variable that differs and would alter results."""
    versions = [(name, ours.get(name, "absent"), theirs.get(name, "absent")) for name in DECISIVE_PACKAGES]
    values = [(name, ours.get(name, "unset"), theirs.get(name, "unset")) for name in DECISIVE_VARIABLES]
    differing = [each for each in versions if _compared_version(*each[:2]) != _compared_version(each[0], each[2])]
    return differing + [(name, here, there) for name, here, there in values if here != there]


def table(driver: DriverFacts, nodes: list[Node]) -> Table:
    """Table of the facts, one per row; nodes with equal facts share a column; the last column marks differences."""
    alike: dict[str, list[Node]] = {}
    for node in nodes:
        alike.setdefault(repr([value for _, value in _facts(driver, node)]), []).append(node)
    groups = list(alike.values())
    rows = Table(box=None, header_style="bold", pad_edge=False, title="preflight", title_justify="left")
    rows.add_column("")
    for group in groups:
        more = f" and {len(group) - 3} more" if len(group) > 3 else ""
        rows.add_column(", ".join(node.host for node in group[:3]) + more, overflow="fold")
    rows.add_column("")
    refused = {name for node in nodes for name, _, _ in _differences(driver.versions, node.versions)}
    refused |= {name for name, (_, ours) in driver.data.items() if any(node.data.get(name) != ours for node in nodes)}
    for cells in zip(*(_facts(driver, group[0]) for group in groups), strict=True):
        label = cells[0][0]
        values = [value for _, value in cells]
        stops = label in refused or (label == "storage" and any(node.storage or node.problem for node in nodes))
        stops |= label == "GPUs" and driver.gpus and any(node.gpu_problem for node in nodes)
        stops |= label == "variables" and any(_differences(driver.variables, node.variables) for node in nodes)
        verdict = "refused" if stops else "differs" if len(set(values)) > 1 else ""
        rows.add_row(label, *values, verdict, style="bold" if verdict else None)
    rows.add_row("free memory", *(_memory_range(group) for group in groups), "")
    return rows


def _facts(driver: DriverFacts, node: Node) -> list[tuple[str, str]]:
    """Label and value of each row of the table, for one node."""
    if node.problem:
        return [(label, "?") for label, _ in _facts(driver, Node("", "", data=dict.fromkeys(driver.data, "")))]
    facts = [(name, node.versions.get(name, "absent")) for name in driver.versions]
    facts.append(("variables", ", ".join(f"{name}={value}" for name, value in node.variables.items()) or "none"))
    facts.append(("machine", node.machine))
    names = [gpu.rpartition(",")[0] for gpu in node.gpus]
    gpus = [f"{names.count(name)} × {name}" for name in dict.fromkeys(names)] + [node.gpu_problem] * bool(
        node.gpu_problem
    )
    facts.append(("GPUs", ", ".join(gpus) or "none"))
    facts.append(("torch for", node.torch_for))
    facts += [(name, node.data[name]) for name in driver.data]
    return [*facts, ("storage", node.storage or "written and read")]


def _memory_range(group: list[Node]) -> str:
    """Least and most free memory of these nodes, and of their GPUs."""
    known = [node.memory / 2**30 for node in group if node.memory is not None]
    host = [f"{min(known):.1f} to {max(known):.1f} GiB" if len(known) > 1 else f"{known[0]:.1f} GiB"] if known else []
    gpus = sorted({gpu.rpartition(",")[2].strip() for node in group for gpu in node.gpus})
    return ", ".join(host + ([f"GPU {gpus[0]} to {gpus[-1]}" if len(gpus) > 1 else f"GPU {gpus[0]}"] if gpus else []))


def decisive() -> dict[str, str]:
    """Versions and variables of this process that would alter results if they were others."""
    return {name: version for name, version in versions().items() if name in DECISIVE_PACKAGES} | variables()


@cache
def _decisive_here() -> Mapping[str, str]:
    return decisive()


def check_here(driver: Mapping[str, str]) -> None:
    """Check this node from within a trial, as it may have joined after the preflight.

    driver: what `decisive` returned on the driver; empty checks nothing. Raises NodeRefused if a difference would alter
    results.
    """
    for name, ours, theirs in _differences(driver, _decisive_here()) if driver else ():
        remedy = "set it alike before Ray starts there" if name in DECISIVE_VARIABLES else "install that"
        raise NodeRefused(
            f"node {platform.node()}, which joined during the sweep, has {name} {theirs}, the sweep's is {ours}: "
            f"take it out of the cluster, or {remedy}"
        )
