"""The process in which a study's own code is tried: ended by its time limit, and nothing of it is left.

It takes seconds to import torch before it can answer. `start` lets it do so while the study is still being read; `ask`
hands over the job.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

IMAGES, TASK = "resnetlab.vision.rehearsal", "resnetlab.driver.checks.rehearsal_process"  # modules that can be asked

_waiting: dict[str, subprocess.Popen[bytes]] = {}  # by module: started, and not asked yet


def start(keys: Collection[str]) -> None:
    """Start the process that will be asked first, for a study whose own parts have these keys."""
    module = TASK if "experiment" in keys else IMAGES
    if not _waiting:
        _waiting[module] = _started(module)
        atexit.register(_end_waiting)  # without it, the process ends once it has imported torch and sees no job


def _end_waiting() -> None:
    for child in _waiting.values():
        _end(child)


@dataclass(frozen=True)
class Answers:
    """What a process said, line by line. in_time: it ended by itself. code: its exit code. how: it ended, in words."""

    lines: list[dict[str, Any]]
    in_time: bool
    code: int
    how: str

    def said(self, key: str) -> list[Any]:
        """What all lines say under this key."""
        return [line[key] for line in self.lines if key in line]

    @property
    def left(self) -> list[str]:
        """What was still to be tried at the end."""
        return self.said("left")[-1] if self.said("left") else []


def ask(module: str, job: Mapping[str, Any], seconds: float) -> Answers:
    """Run a module of ours in a process of its own for so long at most. job: its standard input."""
    if sys.stderr.isatty():
        print("trying the study's own code …", file=sys.stderr)
    child = _waiting.pop(module, None) or _started(module)
    in_time = True
    try:
        out, errors = child.communicate(json.dumps(job).encode(), seconds)
    except subprocess.TimeoutExpired:
        in_time = False
    finally:
        _end(child)
    if not in_time:
        out, errors = child.communicate()  # what it had said by then
    last = "\n".join(errors.decode("utf-8", "replace").splitlines()[-5:])
    lines = [json.loads(line) for line in out.decode("utf-8", "replace").splitlines()]
    how = f"Python ended ({child.returncode}) when its own code was tried\n{last}".rstrip()
    return Answers(lines, in_time, child.returncode, how)


def _started(module: str) -> subprocess.Popen[bytes]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        start_new_session=True,
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
