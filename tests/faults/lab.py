"""What the fault campaign is made of: a study whose tables do not depend on who ran it when, a Ray head of its own,
drivers that can be watched and killed, and what must hold of every ending."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from resnetlab.tables.content import content_hash
from resnetlab.tables.folder import Folder
from resnetlab.tables.store import read_table

ROOT = Path(__file__).resolve().parents[2]
PLANT = Path(__file__).resolve().parent / "plant"
SLACK = float(os.environ.get("FAULTS_SLACK", "1"))  # more than 1 on a busy machine: multiplies every time limit
STUDY = """
dataset: {name: glyphs, variants: 2, limit: 600}
baseline: {blocks: 1, width: 8, downsample: 1, batch: 32, lr: 0.1}
arms:
  kernel-1: {kernel: 1}
  kernel-3: {kernel: 3}
  plain: {shortcut: false}
search: {epochs: 6}
confirm: {design: arms, seeds: 2}
"""
ROWS = 3 * 2 * 6


@dataclass
class Ended:
    code: int
    out: str
    err: str
    seconds: float


class Driver:
    """A running `sweeps/ablation.py`."""

    def __init__(self, lab: Lab, name: str, *options: str, before: tuple[str, ...] = (), **more: str):
        self.lab, self.name, self.began = lab, name, time.monotonic()
        self.process = subprocess.Popen(
            [*before, *lab.command(name, *options)],
            env=lab.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def rows(self, more: int = 1, limit: float = 90.0) -> Driver:
        """Wait until `more` epochs are acknowledged beyond those that were there when first asked."""
        before = len(self.lab.epochs(self.name))
        self.lab.wait(
            lambda: len(self.lab.epochs(self.name)) >= before + more or self.process.poll() is not None, limit
        )
        if self.process.poll() is not None:
            raise AssertionError(f"ended before its rows came: {self.finish()}")
        return self

    def signal(self, number: int) -> Driver:
        os.kill(self.process.pid, number)
        return self

    def kill(self) -> None:
        self.signal(signal.SIGKILL).finish(10)

    def finish(self, limit: float = 240.0) -> Ended:
        try:
            out, err = self.process.communicate(timeout=limit * SLACK)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            out, err = self.process.communicate()
            raise AssertionError(f"did not end within {limit * SLACK:.0f} s:\n{out}\n{err}") from None
        return Ended(self.process.returncode, out, err, time.monotonic() - self.began)


class Lab:
    """A place with the study and a data cache. address: of the cluster that drivers join; None: each starts its own."""

    def __init__(self, place: Path, study: str = STUDY):
        self.place, self.address = place, None
        self.mark = f"{os.getpid()}-{place.name}"
        (place / "study.yaml").write_text(study)
        (place / "plant.json").write_text("[]")

    def environment(self, **more: str) -> dict[str, str]:
        return os.environ | {
            "RESNETLAB_CACHE": str(self.place / "cache"),
            "RESNETLAB_PLANT": str(self.place / "plant.json"),
            "RESNETLAB_FAULTS": self.mark,
            "PYTHONPATH": f"{PLANT}:{ROOT}",
            "RAY_AUTH_MODE": "disabled",
            "COLUMNS": "200",
            **more,
        }

    def command(self, name: str, *options: str) -> list[str]:
        words = [sys.executable, str(ROOT / "sweeps/ablation.py"), "--study", str(self.place / "study.yaml")]
        words += ["--storage", str(self.place / name), "--name", "faults"]  # one name: the seeds depend on it
        return [*words, *(["--address", self.address] if self.address else []), *options]

    def start(self, name: str, *options: str, **more: str) -> Driver:
        return Driver(self, name, *options, **more)

    def run(self, name: str, *options: str, **more: str) -> Ended:
        return self.start(name, *options, **more).finish()

    def plant(self, *faults: dict) -> None:
        """What workers shall do wrong from now on: see plant/sitecustomize.py."""
        (self.place / "plant.json").write_text(json.dumps(faults))

    # -- what is there -----------------------------------------------------------------------------------------------

    def folder(self, name: str) -> Folder:
        return Folder.at(self.place / name / "faults")

    def table(self, name: str, table: str) -> list[dict]:
        found = read_table(self.folder(name), table)
        return [] if found is None else found.to_pylist()

    def epochs(self, name: str) -> list[tuple[str, int]]:
        found = read_table(self.folder(name), "epochs")
        if found is None:
            return []
        return list(zip(found["trial_id"].to_pylist(), found["epoch"].to_pylist(), strict=True))

    def trials(self, name: str) -> list[dict]:
        return self.table(name, "trials")

    def hash(self, name: str) -> str:
        return content_hash(self.folder(name))

    def checkpointed(self, name: str) -> dict[str, int]:
        """Epochs that each trial's newest readable checkpoint has."""
        from resnetlab.tuning.checkpoints import Checkpoints

        folder = self.folder(name)
        trials = {file.split(".")[0] for file in folder.names("checkpoints")}
        states = {trial: Checkpoints(folder, trial).states for trial in trials}
        return {trial: len(found[0]["history"]) if found else 0 for trial, found in states.items()}

    def wait(self, happens, limit: float, every: float = 0.02) -> None:
        deadline = time.monotonic() + limit * SLACK
        while not happens():
            if time.monotonic() > deadline:
                raise AssertionError(f"did not happen within {limit * SLACK:.0f} s")
            time.sleep(every)

    def ours(self, *kinds: str) -> list[int]:
        """Processes of this campaign whose command line names one of `kinds` (any, where none is given)."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                marked = f"RESNETLAB_FAULTS={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            except OSError:
                continue
            if marked and alive and (not kinds or any(kind in line for kind in kinds)):
                found.append(int(entry.name))
        return found

    def workers(self) -> list[int]:
        """Processes that hold a trial."""
        return self.ours("ray::TrialWorker", "ray::ResourceTrainable", ".train()", "ray::ImplicitFunc")

    def no_orphans(self, cluster: Cluster | None = None) -> None:
        """Ten seconds after a driver's end nothing of it is left, but for the cluster that it had joined."""
        keep = set(cluster.pids()) if cluster else set()

        def gone() -> bool:
            left = self.workers() if cluster else self.ours()
            return not [pid for pid in left if pid not in keep]

        self.wait(gone, 10, 0.1)


def one_line(text: str) -> str:
    """The one line that says why a driver ended."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    assert len(lines) == 1, text
    return lines[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """A Ray head, and nodes joined to it, each a `ray start --block` of our own on ports of our own."""

    def __init__(self, lab: Lab, cpus: int = 2, **environment: str):
        self._lab, self._environment = lab, environment
        self._nodes: list[subprocess.Popen] = []
        self._ports = random.Random(lab.mark + str(free_port())).randrange(21000, 29000, 300)
        self._temp = Path("/tmp") / f"rlf{os.getpid()}-{free_port()}"
        self.address = f"127.0.0.1:{free_port()}"
        words = ["--head", f"--port={self.address.split(':')[1]}", "--node-ip-address=127.0.0.1"]
        self._start([*words, "--include-dashboard=false", f"--temp-dir={self._temp}"], cpus)

    def join(self, cpus: int = 1) -> None:
        ip = f"127.0.0.{len(self._nodes) + 1}"
        self._start([f"--address={self.address}", f"--node-ip-address={ip}"], cpus)

    def _start(self, words: list[str], cpus: int) -> None:
        first = self._ports + 100 * len(self._nodes)
        ports = [f"--min-worker-port={first}", f"--max-worker-port={first + 99}"]
        ray = str(Path(sys.executable).with_name("ray"))
        common = [f"--num-cpus={cpus}", "--block", "--disable-usage-stats", "--object-store-memory=100000000"]
        log = self._lab.place / f"ray-{first}.log"
        with log.open("w") as out:
            node = subprocess.Popen(
                [ray, "start", *words, *ports, *common],
                env=self._lab.environment(**self._environment),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._nodes.append(node)
        self._lab.wait(lambda: "Ray runtime started" in log.read_text() or node.poll() is not None, 60)
        assert node.poll() is None, log.read_text()

    def pids(self) -> list[int]:
        """Everything but the workers of jobs."""
        workers = set(self._lab.workers())
        return [pid for pid in self._lab.ours() if pid not in workers]

    def kill_node(self, number: int) -> None:
        """As if its machine were gone: every process of node `number` (0 is the head)."""
        os.killpg(self._nodes[number].pid, signal.SIGKILL)
        self._nodes[number].wait(20)

    def kill_part(self, name: str, number: int = 0) -> None:
        """SIGKILL `gcs_server` or `raylet` of node `number`."""
        group = os.getpgid(self._nodes[number].pid)
        (pid, *_) = [pid for pid in self._lab.ours(f"{name}/{name}") if os.getpgid(pid) == group]
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        for node in reversed(self._nodes):
            with suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)
            node.wait(20)
        shutil.rmtree(self._temp, ignore_errors=True)
