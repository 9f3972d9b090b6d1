"""Machines made of namespaces, each with an address, a host name and a /tmp of its own. Needs CAP_NET_ADMIN."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

SUBNET = "10.77.0"
HOST = f"{SUBNET}.1"  # this machine, as the others see it
SERVICE = f"{SUBNET}.2"  # again, for what a node may be kept from


class Nodes:
    """`names` on one bridge. A context manager: whatever runs on the nodes is ended with them."""

    def __init__(self, names: list[str], log: Path):
        self.names, self._log = names, log
        self._id = f"rl{os.getpid()}"
        self._bridge = f"{self._id}b"
        self._processes: list[subprocess.Popen] = []
        self.address = {name: f"{SUBNET}.{11 + index}" for index, name in enumerate(names)}

    @staticmethod
    def why_not() -> str | None:
        """What forbids namespaces here, None where they work."""
        if os.geteuid() or not shutil.which("ip") or not shutil.which("unshare"):
            return "network namespaces need root, ip and unshare"
        name = f"rl{os.getpid()}t"
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
        if made.returncode:
            return f"network namespaces are not permitted: {made.stderr.strip()}"
        subprocess.run(["ip", "netns", "del", name], check=True)
        return None

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self.__exit__()  # a bridge that is left would take the packets of the next one
            raise
        return self

    def _make(self) -> None:
        self._log.mkdir(parents=True, exist_ok=True)
        _ip(f"link add {self._bridge} type bridge")
        for address in (HOST, SERVICE):
            _ip(f"addr add {address}/24 dev {self._bridge}")
        _ip(f"link set {self._bridge} up")
        hosts = "".join(f"{address} {name}\n" for name, address in self.address.items())
        for index, name in enumerate(self.names):
            space, end = self._space(name), f"{self._id}v{index}"
            _ip(f"netns add {space}")
            _ip(f"link add {end} type veth peer name eth0 netns {space}")
            _ip(f"link set {end} master {self._bridge} up")
            _ip(f"-n {space} addr add {self.address[name]}/24 dev eth0")
            _ip(f"-n {space} link set eth0 up")
            _ip(f"-n {space} link set lo up")
            _ip(f"-n {space} route add default via {HOST}")
        (self._log / "hosts").write_text(f"127.0.0.1 localhost\n{HOST} {os.uname().nodename}\n{hosts}")

    def __exit__(self, *error: Any) -> None:
        for name in self.names:
            self.kill(name)
        for process in self._processes:
            process.wait(20)
        for name in self.names:
            # Without this the kernel takes its time, and the next nodes find the name taken.
            subprocess.run(["ip", "-n", self._space(name), "link", "del", "eth0"], capture_output=True)
            subprocess.run(["ip", "netns", "del", self._space(name)], capture_output=True)
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True)

    def _space(self, name: str) -> str:
        return f"{self._id}-{name}"

    def command(self, name: str, words: list[str]) -> list[str]:
        """`words` as a command that runs on the node."""
        hosts = shlex.quote(str(self._log / "hosts"))
        own = f"hostname {name} && mount --bind {hosts} /etc/hosts && mount -t tmpfs none /tmp"
        enter = ["nsenter", f"--net=/run/netns/{self._space(name)}", "unshare", "--uts", "--mount"]
        return [*enter, "sh", "-c", f"{own} && exec {shlex.join(words)}"]

    def start(self, name: str, words: list[str], env: dict[str, str] | None = None) -> subprocess.Popen:
        """Start a process on the node; what it says goes to `<log>/<node>.log`."""
        with (self._log / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                self.command(name, words),
                env=env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def run(self, name: str, words: list[str], env: dict[str, str] | None = None, timeout: float = 300) -> Any:
        """Run a command on the node to its end; its output is captured."""
        return subprocess.run(self.command(name, words), env=env, capture_output=True, text=True, timeout=timeout)

    def cut(self, name: str) -> None:
        """Pull the node's cable."""
        _ip(f"-n {self._space(name)} link set eth0 down")

    def mend(self, name: str) -> None:
        """Put it back."""
        _ip(f"-n {self._space(name)} link set eth0 up")
        _ip(f"-n {self._space(name)} route replace default via {HOST}")

    def processes(self, name: str) -> dict[int, str]:
        """Command lines of what runs on the node, by process id."""
        listed = subprocess.run(["ip", "netns", "pids", self._space(name)], capture_output=True, text=True)
        found = {}
        for pid in map(int, listed.stdout.split()):
            try:
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found

    def kill(self, name: str) -> None:
        """Turn the node off: every process in its network namespace dies."""
        for pid in self.processes(name):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True)
