"""Run the scripts of sweeps/ as a user would, many times, without paying for the imports each time.

A `Door` is a process that has imported what one script imports when it starts, and nothing more. For each call it
forks: the child runs the script as `__main__` to its end, with an exit code, files and threads of its own, and imports
for itself whatever the script imports later. `Ended.seconds` is what such a call costs a person: the start of the
interpreter with those imports, measured once, and the child's own wall time, both less the time in which they waited
for a core that other work held (Linux's run delay; where it is not told, the wall time counts whole).
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 300  # seconds after which a call is killed


@dataclass(frozen=True)
class Ended:
    """code: as a shell has it. alone: False where processes of the call outlived it."""

    code: int
    out: str
    err: str
    seconds: float
    alone: bool


class Door:
    """One script of sweeps/. A context manager."""

    def __init__(self, script: str):
        self.script = script

    def __enter__(self) -> Door:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(ROOT / "sweeps" / f"{self.script}.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        )
        began = time.monotonic()
        delay = self._ask()["delay"]
        self.startup = time.monotonic() - began - delay
        return self

    def __exit__(self, *error: Any) -> None:
        self._process.stdin.close()
        self._process.wait(120)
        self._process.stdout.close()

    def _ask(self, call: dict[str, Any] | None = None) -> dict[str, Any]:
        if call is not None:
            self._process.stdin.write(json.dumps(call) + "\n")
            self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def call(self, place: Path, *arguments: str, **variables: str) -> Ended:
        """Run the script in the folder `place`, with its home and its temporary files there too."""
        for name in ("home", "tmp"):
            (place / name).mkdir(exist_ok=True)
        own = {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), "COLUMNS": "200"}
        files = [place.with_suffix(end) for end in (".out", ".err")]
        call = {"words": [str(word) for word in arguments], "cwd": str(place), "env": own | variables}
        found = self._ask(call | {"files": [str(file) for file in files]})
        out, err = (file.read_text(errors="replace") for file in files)
        for file in files:
            file.unlink()
        return Ended(found["code"], out, err, self.startup + found["seconds"], found["alone"])


def tree(place: Path) -> dict[str, bytes | str]:
    """Everything under `place`: the content of files, the targets of links."""
    found: dict[str, bytes | str] = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        found[name] = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
    return found


def _serve(script: str) -> None:
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="preload")
    answers = os.fdopen(os.dup(1), "w")
    print(json.dumps({"delay": _delay("self")}), file=answers, flush=True)
    for line in sys.stdin:
        call = json.loads(line)
        began = time.monotonic()
        child = os.fork()
        if not child:
            _run(script, call)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        seconds = time.monotonic() - began - _delay(str(child))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"code": code, "seconds": seconds, "alone": _ended(child)}), file=answers, flush=True)


def _run(script: str, call: dict[str, Any]) -> None:
    os.setsid()
    signal.alarm(PATIENCE)
    for number, name in enumerate(["/dev/null", *call["files"]]):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.chdir(call["cwd"])
    os.environ.update(call["env"])
    sys.argv = [script, *call["words"]]
    runpy.run_path(script, run_name="__main__")
    sys.exit(0)


def _ended(group: int) -> bool:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return True
    return False


def _delay(process: str) -> float:
    """Seconds in which the process was ready and had no core."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


if __name__ == "__main__":
    _serve(sys.argv[1])
