"""Where a result comes from: the code, the versions, the machine, the command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "ray", "optuna", "numpy", "pandas", "pyarrow")


def versions() -> dict[str, str]:
    """Python, resnetlab and the packages that can change a result; absent ones are left out."""
    from resnetlab import __version__

    found = {"python": platform.python_version(), "resnetlab": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """The revision of this code, with `+changes` where tracked files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        revision = _git(here, "rev-parse", "--short=12", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("+changes" if changed else "")


def _git(where: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(where), *words], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def provenance() -> dict[str, Any]:
    """Everything a reader of the results may ask about how they were made. No secret: options that name one are cut."""
    return {
        "command": command_line(),
        "git_revision": git_revision(),
        "versions": versions(),
        "host": platform.node(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
    }


def command_line() -> str:
    """The command that this process runs, as one would type it."""
    script = os.path.relpath(sys.argv[0]) if sys.argv[0] else ""
    return shlex.join(_without_secrets(["python", script, *sys.argv[1:]]))


def _without_secrets(words: list[str]) -> list[str]:
    """`s3://key:secret@bucket` becomes `s3://…@bucket`."""
    return [
        word if "://" not in word or "@" not in word else word.split("://")[0] + "://…@" + word.rpartition("@")[2]
        for word in words
    ]
