"""The README's table of speed, from the JSON that the benchmarks left: python benchmarks/table.py [--write]"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT, shown

ORDER = ("training", "sweep", "search", "turnover", "tables", "augmentation", "residency", "frozen", "gpu")
BEGIN, END = "<!-- speed: from benchmarks/table.py -->", "<!-- end of speed -->"
WORDS = {True: "yes", False: "**no**", None: "not measured"}


def table() -> str:
    """Targets in the order of the benchmarks, as Markdown, with what they were measured on."""
    found = [content for name in ORDER if (content := read(RESULTS / f"{name}.json"))]
    lines = ["| target | measured | met |", "|---|---|---|"]
    for content in found:
        for target in content["targets"]:
            row = target["row"]
            lines.append(f"| {target['target']} | {shown(row) if row else '–'} | {WORDS[target['met']]} |")
    return "\n".join([*lines, "", _foot(found)])


def _foot(found: list[dict[str, Any]]) -> str:
    machines = sorted({f"{c['machine']['cpu']}, {c['machine']['cores']} cores" for c in found})
    torch = sorted({c["machine"]["versions"].get("torch", "?") for c in found})
    gpu = sorted({c["machine"]["gpu"] for c in found if c["name"] == "gpu" and c["machine"]["gpu"]})
    text = (
        f"Medians; in parentheses quartiles (the range where n < 4). {' and '.join(machines)}; torch "
        f"{' and '.join(torch)}. `make bench` measures again; all rows are in `benchmarks/results/`."
    )
    return text + ("" if gpu else " Not measured on a GPU.")


def read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None


def written(readme: str) -> str:
    """The README with the table between its marks."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        path = ROOT / "README.md"
        path.write_text(written(path.read_text()))
    else:
        print(table())
