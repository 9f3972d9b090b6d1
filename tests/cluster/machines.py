"""Hosts that are reached over ssh, with cluster/local.sh on them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from nodes import Nodes

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = "--num-cpus=1 --object-store-memory=100000000"
SSHD = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")


class Machines(Nodes):
    """`names`, each with an ssh server. What they share lies in `place`; each has a home and a /tmp of its own."""

    def __init__(self, names: list[str], place: Path, **environment: str):
        super().__init__(names, place / "log")
        self.place, self._key = place, place / "key"
        self.ssh = f"ssh -i {self._key} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        self._environment = {
            "HOME": str(place / "home"),
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "RAY": str(Path(sys.executable).with_name("ray")),
            "RAY_AUTH_TOKEN_PATH": "/tmp/token",  # each has its own
            "RESNETLAB_CACHE": "/tmp/cache",
            "SSH": self.ssh,
        } | environment

    @staticmethod
    def why_not() -> str | None:
        if SSHD is None or not shutil.which("ssh"):
            return "not installed: ssh, sshd (tests/cluster/debian.sh installs them)"
        return Nodes.why_not()

    def _make(self) -> None:
        super()._make()
        (self.place / "home").mkdir()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._key)], check=True)
        Path("/run/sshd").mkdir(exist_ok=True)
        settings = " ".join(f'"{name}={value}"' for name, value in self._environment.items())
        config = self.place / "sshd_config"
        config.write_text(
            f"HostKey {self._key}\nAuthorizedKeysFile {self._key}.pub\nStrictModes no\nPidFile none\n"
            f"UsePAM no\nPermitRootLogin yes\nMaxStartups 100\nSetEnv {settings}\n"
        )
        for name in self.names:
            self.start(name, [SSHD, "-D", "-e", "-f", str(config)])
        deadline = time.monotonic() + 30
        while any(self.on(name, "true").returncode for name in self.names):
            if time.monotonic() > deadline:
                raise RuntimeError(f"no ssh: {self.on(self.names[0], 'true').stderr}")
            time.sleep(0.2)

    def on(self, name: str, command: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a line of shell on the node to its end."""
        return subprocess.run(self._words(name, command), capture_output=True, text=True, timeout=timeout)

    def spawn(self, name: str, command: str, log: Path) -> subprocess.Popen:
        """Start a line of shell on the node; what it prints goes to `log`."""
        with log.open("w") as out:
            process = subprocess.Popen(self._words(name, command), stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        self._processes.append(process)
        return process

    def _words(self, name: str, command: str) -> list[str]:
        return [*self.ssh.split(), self.address[name], f"cd {ROOT} && {command}"]

    def sweep(self, storage: str, *more: str) -> str:
        """The command line of a sweep of the part's study; its name is always `same`, on which its seeds depend."""
        words = ["--study", str(self.place / "study.yaml"), "--storage", storage, "--name", "same", *more]
        return "RAY_AUTH_MODE=token python sweeps/ablation.py --address auto " + shlex.join(words)

    def rays(self) -> str:
        """Processes of Ray that live on the nodes."""
        found = (line for name in self.names for line in self.processes(name).values())
        return "\n".join(line for line in found if "raylet" in line or "gcs_server" in line)


def up(machines: Machines, transcript: Any, *others: str) -> None:
    """`local.sh head` on the first machine, with workers on `others` over ssh."""
    first = machines.names[0]
    done = machines.on(first, f"cluster/local.sh head {' '.join(others)} {OPTIONS}")
    transcript.say(f"{first}$ cluster/local.sh head {' '.join(others)}")
    transcript.check(f"Ray runs on {', '.join([first, *others])}", done.returncode == 0, done.stdout + done.stderr)


def down(machines: Machines, transcript: Any) -> None:
    """`local.sh stop` on the first machine, which ends the others too."""
    first = machines.names[0]
    done = machines.on(first, "cluster/local.sh stop")
    transcript.say(f"{first}$ cluster/local.sh stop")
    deadline = time.monotonic() + 20
    while machines.rays() and time.monotonic() < deadline:
        time.sleep(0.5)
    transcript.check("no Ray is left on the nodes", not machines.rays(), machines.rays() + done.stderr)
