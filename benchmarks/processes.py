"""Measure wall time, CPU time and memory of a command and all processes that it starts. They are recognised by an
environment variable, which children inherit, so that daemons count too."""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
import threading
import time
from pathlib import Path

MARK = "RESNETLAB_BENCHMARK"
TICK = os.sysconf("SC_CLK_TCK")


class Watched:
    """Runs a command and measures `wall` (s), `cpu` (s, of all processes, sampled, so the end of each is missed) and
    `memory` (MiB, the highest sum of proportional set sizes). Raises RuntimeError if the command fails."""

    def __init__(self, command: list[str], env: dict[str, str], cwd: Path):
        mark = secrets.token_hex(8)
        self._mark = f"{MARK}={mark}".encode()
        self._cpu: dict[tuple[int, str], float] = {}
        self.memory = 0.0
        self._over = threading.Event()
        with tempfile.TemporaryFile() as log:
            began = time.perf_counter()
            process = subprocess.Popen(command, env=env | {MARK: mark}, cwd=cwd, stdout=log, stderr=log)
            watcher = threading.Thread(target=self._watch, args=(process.pid,))
            watcher.start()
            code = process.wait()
            self.wall = time.perf_counter() - began
            self._over.set()
            watcher.join()
            self.cpu = sum(self._cpu.values())
            log.seek(0)
            self.output = log.read().decode(errors="replace")
        if code:
            raise RuntimeError(f"{' '.join(command)} ended with {code}:\n{self.output[-2000:]}")

    def _watch(self, root: int) -> None:
        turn = 0
        while not self._over.wait(0.2):
            found = [pid for pid in _pids() if pid == root or self._ours(pid)]
            for pid in found:
                self._look(pid)
            if turn % 10 == 0:
                self.memory = max(self.memory, sum(map(_proportional, found)) / 1024)
            turn += 1

    def _ours(self, pid: int) -> bool:
        try:
            return self._mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False

    def _look(self, pid: int) -> None:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return
        self._cpu[pid, fields[19]] = (int(fields[11]) + int(fields[12])) / TICK


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _proportional(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
