"""A Slurm of two nodes on this machine: munged, slurmctld and a slurmd in each node's namespaces."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from nodes import HOST, Nodes

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "scontrol", "squeue", "scancel")
PORT = 26817

CONFIG = """
ClusterName=resnetlab
SlurmctldHost={controller}({host})
SlurmctldPort={port}
SlurmdPort=26818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool-%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd-%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
SlurmdTimeout=15
KillWait=10
JobRequeue=1
ReturnToService=2
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


class Slurm:
    """Slurm over `nodes`, each with `cpus` CPUs. A context manager."""

    def __init__(self, nodes: Nodes, place: Path, cpus: int = 1):
        self.nodes, self.place, self.cpus = nodes, place, cpus
        self._processes: list[subprocess.Popen] = []
        self.env = os.environ | {"SLURM_CONF": str(place / "slurm.conf")}

    @staticmethod
    def why_not() -> str | None:
        missing = [name for name in PROGRAMS if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")]
        return f"not installed: {', '.join(missing)} (tests/cluster/debian.sh installs them)" if missing else None

    def __enter__(self) -> Slurm:
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start_all(self) -> None:
        for name in ("state", *(f"spool-{node}" for node in self.nodes.names)):
            (self.place / name).mkdir(parents=True)
        lines = [
            f"NodeName={name} NodeAddr={self.nodes.address[name]} CPUs={self.cpus} RealMemory=4000 State=UNKNOWN"
            for name in self.nodes.names
        ]
        (self.place / "slurm.conf").write_text(
            CONFIG.format(
                controller=os.uname().nodename.split(".")[0],
                host=HOST,
                port=PORT,
                place=self.place,
                nodes="\n".join(lines),
            )
        )
        key = self.place / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        self.place.chmod(0o755)
        own = [f"--{name}-file={self.place}/munge.{name}" for name in ("pid", "log", "seed", "key")]
        socket = f"--socket={self.place}/munge.socket"
        self._start(["munged", "--foreground", "--force", socket, *own])
        _until(lambda: (self.place / "munge.socket").exists(), "munged does not come up")
        self._start(["slurmctld", "-D", "-f", str(self.place / "slurm.conf")])
        for name in self.nodes.names:
            self.nodes.start(name, ["slurmd", "-D", "-N", name, "-f", str(self.place / "slurm.conf")], env=self.env)
        self.wait_for_all()

    def wait_for_all(self) -> None:
        """Until every node is idle."""
        _until(lambda: self.call("sinfo", "-h", "-t", "idle", "-o", "%D") == str(len(self.nodes.names)), self.state)

    def __exit__(self, *error: Any) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait(20)

    def _start(self, words: list[str]) -> None:
        with (self.place / "daemons.log").open("a") as log:
            path = os.environ["PATH"] + ":/usr/sbin"
            words = [shutil.which(words[0], path=path) or words[0], *words[1:]]
            self._processes.append(subprocess.Popen(words, env=self.env, stdout=log, stderr=log))

    def call(self, *words: str) -> str:
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=60)
        return done.stdout.strip() or done.stderr.strip()

    def state(self) -> str:
        return self.call("sinfo", "-N", "-l")

    def job(self, number: str) -> dict[str, str]:
        """What `scontrol show job` says, as a dict."""
        return dict(word.split("=", 1) for word in self.call("scontrol", "show", "job", number).split() if "=" in word)

    def submit(self, *words: str, cwd: Path, env: dict[str, str]) -> str:
        """The number of the job that sbatch made of `words`."""
        done = subprocess.run(
            ["sbatch", "--parsable", *words], cwd=cwd, env=self.env | env, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"sbatch: {done.stderr}")
        return done.stdout.strip().split(";")[0]

    def wait(self, number: str, states: tuple[str, ...], seconds: float = 1800) -> str:
        """Wait until the job is in one of `states`; RuntimeError where it is not in time."""
        _until(lambda: self.job(number).get("JobState") in states, lambda: str(self.job(number)), seconds)
        return self.job(number)["JobState"]


def _until(true: Any, say: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:g} s: {say() if callable(say) else say}")
        time.sleep(0.3)
