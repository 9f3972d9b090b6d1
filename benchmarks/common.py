"""Shared code of the benchmarks: description of the machine, interleaved measurements, medians with spread, output.

A benchmark is made of parts. Each part is written to benchmarks/results/<name>.json as soon as it is done, so that one
that was interrupted goes on where it was. Parts of other code or of another machine are done again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results"
Row = dict[str, Any]


def options(about: str, **more: str) -> argparse.Namespace:
    """The options of a benchmark. more: help of its own ones by name, which take a text."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes: shows that it works")
    parser.add_argument("--again", action="store_true", help="do parts again that are done")
    for name, words in more.items():
        parser.add_argument(f"--{name}", help=words)
    return parser.parse_args()


class Book:
    """The results of one benchmark. A row: `what`, `unit`, `median`, `low`, `high` (quartiles), `n`."""

    def __init__(self, name: str, quick: bool, again: bool = False, place: Path | None = None):
        self.name, self.quick = name, quick
        self._path = (place or RESULTS / ("quick" if quick else "")) / f"{name}.json"
        self._fixed = {"name": name, "quick": quick, "code": code_hash(name), "machine": machine()}
        held = {} if again else self._read()
        same = all(held.get(key) == self._fixed[key] for key in ("code", "machine"))
        self._parts: dict[str, Any] = held.get("parts", {}) if same else {}
        self.failed: dict[str, str] = {}
        self._targets: list[Row] = []
        self._notes: list[Row] = []

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}

    def part(self, key: str, make: Callable[[], list[Row]]) -> list[Row]:
        """The rows of a part: measured now, or read from the results of an earlier run."""
        if key not in self._parts:
            print(f"{self.name}: {key} …", file=sys.stderr, flush=True)
            beside = busy_cores()
            began = time.perf_counter()
            rows = make()
            seconds = round(time.perf_counter() - began, 1)
            ended = datetime.now(UTC).isoformat(timespec="seconds")
            self._parts[key] = {"seconds": seconds, "ended": ended, "beside": beside, "rows": rows}
            self._write()
        return self._parts[key]["rows"]

    def tried(self, key: str, make: Callable[[], list[Row]]) -> list[Row]:
        """As `part`; a part that raises an error is noted in `failed`, made again by the next run, and has no rows."""
        try:
            return self.part(key, make)
        except Exception as error:
            traceback.print_exc()
            self.failed[key] = f"{type(error).__name__}: {error}"[:2000]
            self._write()
            return []

    @property
    def met(self) -> bool:
        """True if no part failed and every target was reached."""
        return not self.failed and all(target["met"] for target in self._targets)

    def summary(self, rows: list[Row]) -> None:
        """Add rows that are computed from those of several parts."""
        self._parts["summary"] = {"seconds": 0.0, "rows": rows}

    def target(self, text: str, row: Row | None, limit: float, at_most: bool = True) -> None:
        """Add a target, and whether the median of `row` reaches it (None: not measured)."""
        met = None if row is None else (row["median"] <= limit if at_most else row["median"] >= limit)
        self._targets.append({"target": text, "limit": limit, "at_most": at_most, "row": row, "met": met})

    def note(self, row: Row) -> None:
        """Add a number that has no target."""
        self._notes.append(row)

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = self._fixed | {"parts": self._parts, "targets": self._targets, "notes": self._notes}
        content |= {"failed": self.failed} if self.failed else {}
        aside = self._path.with_suffix(".tmp")
        aside.write_text(json.dumps(content, indent=1))
        aside.replace(self._path)

    def finish(self) -> None:
        """Write the results, and print them as a table."""
        self._write()
        found = self._fixed["machine"]
        print(f"\n{self.name} on {found['cpu']}, {found['cores']} cores" + (f", {found['gpu']}" * bool(found["gpu"])))
        parts = [self._parts["summary"]] if "summary" in self._parts else self._parts.values()
        rows = [row for part in parts for row in part["rows"]]
        width = max([len(row["what"]) for row in rows], default=0)
        for row in rows:
            print(f"  {row['what']:{width}}  {shown(row)}")
        for target in self._targets:
            word = {True: "met", False: "NOT MET", None: "not measured"}[target["met"]]
            print(f"  {word}: {target['target']}" + (f" ({shown(target['row'])})" if target["row"] else ""))


def spread(what: str, unit: str, values: Sequence[float], **more: Any) -> Row:
    """A row with median and quartiles."""
    ordered = sorted(values)
    low, high = (ordered[0], ordered[-1]) if len(ordered) < 4 else _quartiles(ordered)
    return {"what": what, "unit": unit, "median": statistics.median(ordered), "low": low, "high": high,
            "n": len(ordered), **more}  # fmt: skip


def _quartiles(ordered: Sequence[float]) -> tuple[float, float]:
    first, _, third = statistics.quantiles(ordered, n=4, method="inclusive")
    return first, third


def shown(row: Mapping[str, Any]) -> str:
    """`1.02 × (1.01 to 1.03, n=15)`; with the range if n < 4, else the quartiles."""
    if row["n"] == 1:
        return f"{number(row['median'])} {row['unit']} (n=1)"
    return f"{number(row['median'])} {row['unit']} ({number(row['low'])} to {number(row['high'])}, n={row['n']})"


def number(value: float) -> str:
    """A number with three significant digits, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def interleaved(arms: Mapping[str, Callable[[], float]], n: int) -> dict[str, list[float]]:
    """Call the arms in turn, A B A B …, so that disturbances of the machine affect all alike; returns their values.

    The first round warms up and is not counted.
    """
    found: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(n + 1):
        for name, arm in arms.items():
            value = arm()
            if turn:
                found[name].append(value)
    return found


def ratios(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """The ratio of two arms, turn by turn."""
    return [a / b for a, b in zip(one, other, strict=True)]


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of this process, all threads: other processes affect them little."""
    began = time.process_time()
    work()
    return time.process_time() - began


def busy_cores(seconds: float = 0.4) -> float | None:
    """Number of cores that other processes keep busy, measured while this one sleeps; None without /proc."""
    try:
        before = _ticks()
        time.sleep(seconds)
        return round((_ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds, 2)
    except OSError:
        return None


def _ticks() -> int:
    """Busy time of all cores since boot, without idling and waiting for disks."""
    counts = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return sum(counts[:8]) - counts[3] - counts[4]


def machine() -> dict[str, Any]:
    """Hardware and versions that speed depends on."""
    from resnetlab.provenance import versions

    return {"cpu": _cpu(), "cores": os.cpu_count(), "gpu": _gpu(), "versions": versions()}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _gpu() -> str:
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return ""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def code_hash(name: str) -> str:
    """Hash of the package and of the benchmark `name`."""
    state = hashlib.sha256()
    mine = [HERE / f"{module}.py" for module in ("common", "processes", "workloads", name)]
    mine += sorted(HERE.glob(f"{name}_*.py"))
    for path in sorted([*(ROOT / "resnetlab").rglob("*.py"), *mine]):
        state.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return state.hexdigest()[:16]
