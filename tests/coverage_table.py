"""Print the share of each room's lines that tests ran, and the files with the most lines that no test ran.

`make coverage` calls it:

    python tests/coverage_table.py build/coverage/coverage.json

Coverage says what was never run, not what was checked.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

PACKAGE = "resnetlab/"
SHOWN = 15  # files


def room(file: str) -> str:
    """`storage/` for `resnetlab/storage/store.py`, the package itself for the modules beside the rooms."""
    first, slash, _ = file.removeprefix(PACKAGE).partition("/")
    return f"{first}/" if slash else PACKAGE


def runs(lines: list[int]) -> str:
    """`3, 7-9` for [3, 7, 8, 9]."""
    found: list[list[int]] = []
    for line in lines:
        if found and line == found[-1][1] + 1:
            found[-1][1] = line
        else:
            found.append([line, line])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in found)


def table(files: dict[str, dict]) -> list[str]:
    """The lines of a Markdown page, from the `files` of coverage.py's JSON report."""
    lines, run = Counter(), Counter()
    for file, found in files.items():
        for name in (room(file), "all"):
            lines[name] += found["summary"]["num_statements"]
            run[name] += found["summary"]["covered_lines"]
    rows = [
        f"| `{name}` | {lines[name]:,} | {run[name] / lines[name]:.1%} |" for name in sorted(lines) if name != "all"
    ]
    rows.append(f"| all | {lines['all']:,} | {run['all'] / lines['all']:.1%} |")
    missing = sorted(((file, found["missing_lines"]) for file, found in files.items()), key=lambda one: -len(one[1]))
    gaps = [f"| `{file}` | {len(gone)} | {runs(gone)} |" for file, gone in missing[:SHOWN] if gone]
    head = ["| file | not run | lines |", "|---|---:|---|"]
    return ["| room | statements | run by tests |", "|---|---:|---:|", *rows, *(["", *head, *gaps] if gaps else [])]


if __name__ == "__main__":
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print("\n".join(table(report["files"])))
