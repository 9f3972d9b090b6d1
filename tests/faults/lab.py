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
from typing import Any

import pyarrow.parquet as pq

from resnetlab.storage.content_hash import content_hash
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table

ROOT = Path(__file__).resolve().parents[2]
PLANT = Path(__file__).resolve().parent / "plant"
SLACK = float(os.environ.get("FAULTS_SLACK", "1"))  # more than 1 on a busy machine: multiplies every time limit
STUDY = """
dataset: {name: glyphs, variants: 2, limit: 600}
baseline: {blocks: 1, width: 8, downsample: 1, batch_size: 8, lr: 0.02}
arms:
  kernel-1: {kernel: 1}
  kernel-3: {kernel: 3}
  plain: {shortcut: false}
search: {epochs: 6}
confirm: {design: arms, seeds: 2}
"""
ROWS = 3 * 2 * 6
SLOWLY = [{"when": {}, "epoch": epoch, "do": "pause", "seconds": 0.4, "once": False} for epoch in range(1, 7)]  # plant
FIRST_ROW = 30.0  # seconds from a driver's start to its first new row


@dataclass
class Ended:
    code: int
    out: str
    err: str
    seconds: float

    def told(self, code: int, *words: str) -> Ended:
        """It ended with this exit code and one line of cause that has all `words`."""
        assert self.code == code, self
        line = one_line(self.err)
        assert all(word in line for word in words), line
        return self


class Driver:
    """A running `sweeps/ablation.py`. alone: with a Ray of its own. before: words before its command line."""

    def __init__(
        self, lab: Lab, name: str, *options: str, alone: bool = False, before: tuple[str, ...] = (), **more: str
    ):
        self.lab, self.name = lab, name
        self._had = len(lab.look(name))
        self.first_row = 0.0  # seconds from its start until it had acknowledged one
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [*before, *lab.command(name, *options, alone=alone)],
            env=lab.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def rows(self, more: int = 1, limit: float = 90.0) -> Driver:
        """Wait until `more` epochs are acknowledged beyond those that were there when it was started."""
        self.lab.wait(lambda: self.new_rows() >= more or self.process.poll() is not None, limit, 0.05)
        if self.process.poll() is not None:
            raise AssertionError(f"ended before its rows came: {self.finish()}")
        return self

    def new_rows(self) -> int:
        """How many epochs were acknowledged since it was started."""
        more = len(self.lab.look(self.name)) - self._had
        if more and not self.first_row:
            self.first_row = time.monotonic() - self.began
            assert self.first_row < FIRST_ROW * SLACK, f"the first new row came after {self.first_row:.0f} s"
        return more

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
        self._seen: dict[str, set[tuple[str, int]]] = {}  # acknowledged epochs of each sweep
        (place / "study.yaml").write_text(study)
        self.plant()

    def environment(self, **more: str) -> dict[str, str]:
        return os.environ | {
            "RESNETLAB_CACHE": str(self.place / "cache"),
            "RESNETLAB_PLANT": str(self.place / "plant.json"),
            "RESNETLAB_TRAINED": str(self.place / "trained.log"),
            "RESNETLAB_FAULTS": self.mark,
            "PYTHONPATH": f"{PLANT}:{ROOT}",
            "RAY_AUTH_MODE": "disabled",
            "RAY_worker_niceness": "0",  # beside other work, trials at Ray's 15 would starve
            "COLUMNS": "200",
            **more,
        }

    def command(self, name: str, *options: str, alone: bool = False) -> list[str]:
        words = [sys.executable, str(ROOT / "sweeps/ablation.py"), "--study", str(self.place / "study.yaml")]
        words += ["--storage", str(self.place / name), "--name", "faults"]  # one name: the seeds depend on it
        return [*words, *(["--address", self.address] if self.address and not alone else []), *options]

    def start(self, name: str, *options: str, **more: Any) -> Driver:
        return Driver(self, name, *options, **more)

    def run(self, name: str, *options: str, **more: Any) -> Ended:
        return self.start(name, *options, **more).finish()

    def plant(self, *faults: dict) -> None:
        """What workers shall do wrong from now on: see plant/sitecustomize.py."""
        for done in self.place.glob("plant.*.done"):
            done.unlink()
        (self.place / "plant.json").write_text(json.dumps(faults))
        (self.place / "trained.log").write_text("")

    # -- what is there -----------------------------------------------------------------------------------------------

    def folder(self, name: str) -> ResultsFolder:
        return ResultsFolder.at(self.place / name / "faults")

    def table(self, name: str, table: str) -> list[dict]:
        found = read_table(self.folder(name), table)
        return [] if found is None else found.to_pylist()

    def epochs(self, name: str) -> list[tuple[str, int]]:
        found = read_table(self.folder(name), "epochs")
        if found is None:
            return []
        return list(zip(found["trial_id"].to_pylist(), found["epoch"].to_pylist(), strict=True))

    def look(self, name: str) -> set[tuple[str, int]]:
        """The acknowledged epochs, among which all must be that were ever seen, each once."""
        epochs, seen = self.epochs(name), self._seen.setdefault(name, set())
        assert len(epochs) == len(set(epochs)) and seen <= set(epochs), f"lost: {sorted(seen - set(epochs))}"
        seen.update(epochs)
        return seen

    def same(self, name: str, whole: str, rows: int = ROWS) -> None:
        """Nothing that was acknowledged is lost, nothing is there twice, and all is as in the unfaulted sweep."""
        file = pq.read_table(self.place / name / "faults/epochs.parquet", columns=["trial_id", "epoch"]).to_pylist()
        keys = [(row["trial_id"], row["epoch"]) for row in file]
        assert len(keys) == len(set(keys)) == rows and self.look(name) == set(keys)
        assert self.hash(name) == whole

    def again(self) -> list[tuple[int, int]]:
        """For each time that a trial was taken up by another process since `plant`: how many of its epochs had been
        begun before and were begun again, and how many of those had been trained to their end."""
        found, last = [], {}
        for line in (self.place / "trained.log").read_text().splitlines():
            trial, pid, what, number = line.split()
            epoch, (before, begun, ended) = int(number), last.get(trial, (pid, 0, 0))
            if pid != before:
                found.append((max(0, begun - epoch + 1), max(0, ended - epoch + 1)))
                begun, ended = 0, 0
            last[trial] = pid, max(begun, epoch), max(ended, epoch if what == "ended" else 0)
        return found

    def in_epoch(self, number: int) -> list[int]:
        """Processes whose trial is in this epoch now."""
        last = {}
        for line in (self.place / "trained.log").read_text().splitlines():
            _, pid, what, epoch = line.split()
            last[int(pid)] = what, int(epoch)
        return [pid for pid, now in last.items() if now == ("begun", number)]

    def trials(self, name: str) -> list[dict]:
        return self.table(name, "trials")

    def hash(self, name: str) -> str:
        return content_hash(self.folder(name))

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
        return self.ours("ray::ResourceTrainable", "ray::TrialWorker")  # the first is Tune's name for one

    def end(self, *kinds: str) -> None:
        """Of what failed tests have left nothing runs on: see `ours`."""
        for pid in self.ours(*kinds):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def no_orphans(self, cluster: Cluster | None = None) -> None:
        """Ten seconds after a driver's end nothing of it is left, but for the cluster that it had joined."""

        def left() -> list[int]:
            trials, nodes = self.workers(), cluster.sessions() if cluster else set()
            return [pid for pid in self.ours() if pid in trials or session_of(pid) not in nodes]

        try:
            self.wait(lambda: not left(), 10, 0.1)
        except AssertionError:
            lines = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200] for pid in left()]
            assert not lines, f"10 s after its end are left: {lines}"


def session_of(pid: int) -> int | None:
    """The process that opened its session: a driver, or `ray start` (workers have groups of their own)."""
    with suppress(ProcessLookupError):
        return os.getsid(pid)
    return None


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
        self._nodes: dict[int, subprocess.Popen] = {}
        self._ports = random.Random(lab.mark + str(free_port())).randrange(21000, 29000, 300)
        self._temp = Path("/tmp") / f"rlf{os.getpid()}-{free_port()}"
        self.address = f"127.0.0.1:{free_port()}"
        words = ["--head", f"--port={self.address.split(':')[1]}", "--node-ip-address=127.0.0.1"]
        self._start(0, [*words, "--include-dashboard=false", f"--temp-dir={self._temp}"], cpus)

    def join(self, number: int = 1, cpus: int = 1) -> None:
        """Node `number` (1 or 2), also where it was killed before."""
        self._start(number, [f"--address={self.address}", f"--node-ip-address=127.0.0.{number + 1}"], cpus)

    def _start(self, number: int, words: list[str], cpus: int) -> None:
        first = self._ports + 100 * number
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
        self._nodes[number] = node
        self._lab.wait(lambda: "Ray runtime started" in log.read_text() or node.poll() is not None, 60)
        assert node.poll() is None, log.read_text()

    def sessions(self) -> set[int]:
        """Of its nodes."""
        return {node.pid for node in self._nodes.values()}

    def processes(self, number: int) -> list[int]:
        """Of node `number` (0 is the head), with those of its trials."""
        return [pid for pid in self._lab.ours() if session_of(pid) == self._nodes[number].pid]

    def kill_node(self, number: int) -> None:
        """As if its machine were gone: every process of it at once."""
        processes = self.processes(number)
        node = self._nodes.pop(number)
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait(20)

    def kill_part(self, name: str) -> None:
        """SIGKILL `gcs_server` or `raylet` of the head."""
        (pid,) = [pid for pid in self._lab.ours(f"/{name} ") if pid in self.processes(0)]
        os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        for number in sorted(self._nodes, reverse=True):
            self.kill_node(number)
        shutil.rmtree(self._temp, ignore_errors=True)
