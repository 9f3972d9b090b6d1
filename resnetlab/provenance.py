"""Record where a result comes from: code, package versions, machine and command."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from resnetlab.commands import program

PACKAGES = ("torch", "torchvision", "ray", "optuna", "numpy", "pandas", "pyarrow")


def versions() -> dict[str, str]:
    """Python, resnetlab and the packages that can change a result; absent ones are left out."""
    from resnetlab import __version__

    versions = {"python": platform.python_version(), "resnetlab": __version__}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def git_revision() -> str | None:
    """The git revision of this code, with `+changes` if tracked files differ from it; None outside a checkout of
    resnetlab."""
    here = Path(__file__).resolve().parent
    try:
        _git(here, "ls-files", "--error-unmatch", "--", Path(__file__).name)
        revision = _git(here, "rev-parse", "--short=12", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+changes" if changed else "")


def code_hash() -> str:
    """16 hexadecimal digits over this package's Python files, by name. It tells local changes apart."""
    here, state = Path(__file__).resolve().parent, blake2b(digest_size=8)
    for file in sorted(here.rglob("*.py")):
        content = file.read_bytes()
        state.update(f"{file.relative_to(here).as_posix()} {len(content)}\n".encode() + content)
    return state.hexdigest()


def code_version() -> str:
    """The revision and the hash of this code, as a plan names them."""
    return f"{git_revision() or 'unknown'}, files {code_hash()}"


def _git(where: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(where), *words], capture_output=True, encoding="utf-8", timeout=10, check=True
    )
    return done.stdout.strip()


def provenance() -> dict[str, Any]:
    """Facts on how results were made, for sweep.json. Secrets in the command are removed."""
    return {
        "command": command_line(),
        "git_revision": git_revision(),
        "versions": versions(),
        "host": platform.node(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
    }


def process_began() -> float:
    """When this process began, by `time.monotonic`."""
    import psutil

    created: float = psutil.Process().create_time()
    return time.monotonic() - max(0.0, time.time() - created)


def command_line() -> str:
    """The command line of this process, as one would type it; empty in a notebook."""
    called = program()
    return shlex.join(map(without_secrets, [*called, *_without_notify(sys.argv[1:])])) if called else ""


def _without_notify(words: Sequence[str]) -> list[str]:
    """What tells somebody of the end of a sweep is no part of how its results were made, and often holds a secret: the
    address of a webhook is one."""
    kept = [word for word in words if not word.startswith("--notify=")]
    return [word for i, word in enumerate(kept) if word != "--notify" and (i == 0 or kept[i - 1] != "--notify")]


_PASSWORD = re.compile(r"(?<=://)[^\s/@]*:\S*@")  # greedy: a password may have / and @ in it
_KEY = re.compile(r"(?<=[?&])([\w.-]*(?:key|token|secret|passw|sig|credential)[\w.-]*)=(?!…)[^\s&]+", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Remove secrets from URLs in `text`: `s3://key:secret@bucket?token=x` becomes `s3://…@bucket?token=…`."""
    return _KEY.sub(r"\1=…", _PASSWORD.sub("…@", text))
