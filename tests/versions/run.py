"""Run the suite with the oldest promised versions and with the newest, in fresh environments (`make test-versions`).

    python tests/versions/run.py                      # what has no result yet; continues what was stopped
    python tests/versions/run.py --only newest --python 3.13
    python tests/versions/run.py --again              # everything anew
    python tests/versions/run.py --busy 2             # beside two processes that do nothing but compute
    python tests/versions/run.py --beside COMMAND     # beside real work, such as a sweep

Oldest: on the oldest Python, every `>=X` of pyproject.toml as `==X`. Newest: on each Python that is found as python3.N,
what the index serves. An environment takes up to 8 GB in build/versions/ and is deleted after its run (`--keep`). Each
result is written when it is there: docs/versions.json, and its table docs/versions.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from load import busy, running  # noqa: E402

BUILD, JSON, PAGE = ROOT / "build/versions", ROOT / "docs/versions.json", ROOT / "docs/versions.md"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
COMBINATIONS = (("oldest", PYTHONS[0]), *(("newest", python) for python in PYTHONS))
SHOWN = ("torch", "torchvision", "ray", "optuna", "numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "matplotlib")
TOOLS = (
    "docs",
    "dev",
)  # extras that no test needs
ABOUT = "import sys, ssl, sqlite3, ctypes; print('%d.%d.%d' % sys.version_info[:3])"
VERSIONS = (
    "import json, importlib.metadata as m; print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
)


def constraints(pyproject: dict[str, Any]) -> list[str]:
    """The oldest promised version of everything that is asked for, as pip reads it."""
    project = pyproject["project"]
    extras = [asked for name, asked in project["optional-dependencies"].items() if name not in TOOLS]
    found = []
    for asked in (one for group in (project["dependencies"], *extras) for one in group):
        name, lowest = re.fullmatch(r"([\w.-]+)(?:\[[^\]]*\])?(?:>=([\d.]+))?", asked).groups()
        if lowest:
            found.append(f"{name}=={lowest}")
        elif name != project["name"]:
            raise SystemExit(f"pyproject.toml: {asked}: need `{name}>=` and the oldest version that is promised")
    return found


def interpreter(python: str) -> tuple[str, str] | None:
    """(path, full version) of a Python that runs and has what we need of the standard library; None: there is none."""
    for name in dict.fromkeys([sys.executable, f"python{python}"]):
        path = shutil.which(name)
        done = subprocess.run([path, "-c", ABOUT], capture_output=True, text=True) if path else None
        if done and done.returncode == 0 and done.stdout.startswith(f"{python}."):
            return path, done.stdout.strip()
    return None


@contextmanager
def load_sampled() -> Iterator[list[float]]:
    """The load average of one minute, each half minute while this is open."""
    seen: list[float] = []
    closed = threading.Event()

    def sample() -> None:
        while not closed.wait(30):
            seen.append(os.getloadavg()[0])

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        closed.set()
        thread.join()


def run(name: str, path: str, oldest: bool, number: int, command: str | None) -> dict[str, Any]:
    """Install, and run the suite beside so many busy processes, or a command; its row, less what it ran on."""
    place = BUILD / name
    python, log = place / "bin/python", BUILD / f"{name}.log"
    place.parent.mkdir(parents=True, exist_ok=True)
    pins = constraints(tomllib.loads((ROOT / "pyproject.toml").read_text())) if oldest else []
    listed = BUILD / f"{name}.txt"
    listed.write_text("\n".join([*pins, ""]))
    moto = [str(place / "moto/bin/python"), "-m", "pip", "install", "--quiet", "--requirement", "tests/moto.txt"]
    steps = [
        [path, "-m", "venv", "--clear", str(place)],
        [str(python), "-m", "pip", "install", "--quiet", "--upgrade", "pip"],
        [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(listed), "--editable", ".[test]"],
        [str(python), "-m", "venv", str(place / "moto")],
        moto,
    ]
    with log.open("w") as out:
        for step in steps:
            if subprocess.run(step, cwd=ROOT, stdout=out, stderr=out).returncode:
                return {"error": f"not installed: {' '.join(step[1:5])} … failed", "log": tail(log)}
        found = json.loads(subprocess.run([python, "-c", VERSIONS], capture_output=True, check=True).stdout)
        versions = {name: found[name] for name in SHOWN}
        junit, began = place / "junit.xml", time.monotonic()
        suite = [python, "-m", "pytest", "-n", "2", "-rfEs", f"--junitxml={junit}"]
        with running(command, BUILD / "beside.log") if command else busy(number), load_sampled() as load:
            code = subprocess.run(suite, cwd=ROOT, stdout=out, stderr=out).returncode
    if not junit.exists():
        return {"error": f"pytest ended with code {code}", "log": tail(log), "versions": versions}
    seconds = round(time.monotonic() - began)
    beside = {"busy": number, "beside": command, "load": round(statistics.mean(load), 1) if load else None}
    return {"versions": versions, **beside, "exit_code": code, "seconds": seconds, **counted(junit)}


def tail(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-12:]


def counted(junit: Path) -> dict[str, Any]:
    """How many tests passed, failed (in setup or teardown too) and were skipped, and the names of those that failed."""
    worst: dict[str, str] = {}
    for case in ElementTree.parse(junit).iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name')}".removeprefix("tests.")
        kinds = {part.tag for part in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        if worst.get(name) != "failed":
            worst[name] = outcome
    counts = {outcome: sum(one == outcome for one in worst.values()) for outcome in ("passed", "failed", "skipped")}
    return counts | {"names": sorted(name for name, outcome in worst.items() if outcome == "failed")}


def here() -> dict[str, str]:
    """What the results are valid for."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*: (.*)", info)
    about = f"{name[1]}, {os.cpu_count()} cores, {'with' if 'avx512f' in info else 'without'} AVX-512"
    machine = about if name else platform.machine()
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {"machine": machine, "system": platform.platform(), "code": git.stdout.strip()}


def page(rows: dict[str, dict[str, Any]]) -> str:
    """docs/versions.md."""
    lines = [
        "# Versions",
        "",
        "Made by `make test-versions`: the whole test suite in a fresh environment, with the oldest versions that",
        "`pyproject.toml` promises and with the newest that the package index served on that day. Beside it ran",
        "nothing, so many processes that do nothing but compute, or other work; load: the mean of the load average.",
        "",
        f"| | Python | {' | '.join(SHOWN)} | beside | load | passed | failed | skipped | minutes | run |",
        f"|---|---|{'---|' * len(SHOWN)}---|---:|---:|---:|---:|---:|---|",
    ]
    notes = []
    for kind, python in COMBINATIONS:
        row = rows.get(key(kind, python), {})
        versions = [row.get("versions", {}).get(name, "–") for name in SHOWN]
        if "passed" in row:
            beside = "other work" if row.get("beside") else f"{row['busy']} busy" if row["busy"] else "nothing"
            counts = [f"{row[name]:,}" for name in ("passed", "failed", "skipped")]
            counts, when = (
                [beside, str(row.get("load") or "–"), *counts, f"{row['seconds'] / 60:.0f}"],
                row["ended"][:10],
            )
        else:
            counts, when = (
                ["–"] * 6,
                row.get("error", "not run") + (f", {row['ended'][:10]}" if row.get("ended") else ""),
            )
        lines.append(f"| {' | '.join([kind, row.get('python', python), *versions, *counts, when])} |")
        if row.get("names"):
            notes += [f"- {kind}, Python {row['python']}: {', '.join(f'`{name}`' for name in row['names'][:20])}"]
    if notes:
        lines += ["", "Failed:", "", *notes]
    places = {f"{row['machine']}, {row['system']}; code {row['code']}" for row in rows.values() if "machine" in row}
    lines += ["", *(f"Run on: {place}." for place in sorted(places))]
    return "\n".join(lines).rstrip() + "\n"


def key(kind: str, python: str) -> str:
    return f"{kind}-{python}"


def save(rows: dict[str, dict[str, Any]]) -> None:
    JSON.write_text(json.dumps(rows, indent=1) + "\n")
    PAGE.write_text(page(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("oldest", "newest"), help="one of the two")
    parser.add_argument("--python", choices=PYTHONS, help="on one Python")
    parser.add_argument("--again", action="store_true", help="also what has a result")
    parser.add_argument("--busy", type=int, default=0, help="processes that compute beside it (0)")
    parser.add_argument("--beside", metavar="COMMAND", help="a shell command that runs beside it, instead of those")
    parser.add_argument("--keep", action="store_true", help="leave the environments in build/versions/")
    chosen = parser.parse_args()
    rows: dict[str, dict[str, Any]] = json.loads(JSON.read_text()) if JSON.exists() else {}
    asked = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()[:12]
    wanted = [
        (kind, python)
        for kind, python in COMBINATIONS
        if chosen.only in (None, kind) and chosen.python in (None, python)
    ]
    if chosen.again:
        rows = {name: row for name, row in rows.items() if name not in {key(*one) for one in wanted}}
    for kind, python in wanted:
        name, found = key(kind, python), interpreter(python)
        if rows.get(name, {}).get("asked") == asked and rows[name].get("ended"):
            print(f"{name}: has a result (--again runs it again)", flush=True)
            continue
        if found is None:
            print(f"{name}: not run: no python{python} on PATH", flush=True)
            rows.setdefault(name, {"error": f"not run: no python{python} here", "ended": ""})
            save(rows)
            continue
        print(f"{name}: installing, and running the suite; {BUILD / name}.log …", flush=True)
        row = run(name, found[0], kind == "oldest", chosen.busy, chosen.beside)
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        rows[name] = {"python": found[1], "asked": asked, "ended": ended, **here(), **row}
        save(rows)
        if not chosen.keep:
            shutil.rmtree(BUILD / name, ignore_errors=True)
        print(f"{name}: " + (row.get("error") or ", ".join(f"{row[n]} {n}" for n in ("passed", "failed", "skipped"))))
    sys.exit(any(row.get("failed") or row.get("exit_code") or "log" in row for row in rows.values()))


if __name__ == "__main__":
    main()
