"""Print the tables of docs/benchmarks.md, from the JSON that the benchmarks wrote: python benchmarks/table.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common import RESULTS, number, shown

ORDER = (
    "training",
    "sweep",
    "search",
    "turnover",
    "tables",
    "augmentation",
    "residency",
    "frozen",
    "own_code",
    "dry_run",
    "gpu",
)
COLUMNS = {  # of the table of sweeps: rows' words, heads
    "wall time": ("wall time", "s"),
    "CPU time": ("CPU time", "s"),
    "memory at most": ("memory at most", "MiB"),
    "trials": ("trials", "/min"),
    "epochs": ("epochs run", ""),
    "accuracy after the first epoch, mean of all trials": ("accuracy after one epoch", "%"),
    "accuracy at the full budget less ours of the same trials": ("at the full budget less ours", "points"),
}
WORDS = {True: "yes", False: "**no**", None: "not measured"}


def table() -> str:
    """Markdown table of targets in the order of the benchmarks, then numbers without a target, and the machines."""
    found = [content for name in ORDER if (content := read(RESULTS / f"{name}.json"))]
    if not found:
        return "Not measured yet: `make bench`."
    lines = ["| target | measured | met |", "|---|---|---|"]
    for content in found:
        for target in content["targets"]:
            row = target["row"]
            lines.append(f"| {target['target']} | {shown(row) if row else '–'} | {WORDS[target['met']]} |")
    lines += [line for content in found if content["name"] == "sweep" for line in _side_by_side(content)]
    lines += ["", "| without a target | measured |", "|---|---|"]
    lines += [f"| {row['what']} | {shown(row)} |" for content in found for row in content["notes"]]
    return "\n".join([*lines, "", _foot(found)])


def _side_by_side(content: dict[str, Any]) -> list[str]:
    """Markdown table with a row for each way to run the same sweep."""
    rows = {row["what"]: row for row in content["parts"].get("summary", {"rows": []})["rows"]}
    arms = list(dict.fromkeys(what.partition(": ")[0] for what in rows if ": " in what))
    heads = [words + f" ({unit})" * bool(unit) for words, unit in COLUMNS.values()]
    lines = ["", f"| the same 24 trials | {' | '.join(heads)} | n |", f"|---|{'---|' * (len(heads) + 1)}"]
    for arm in arms:
        found = [rows.get(f"{arm}: {column}") for column in COLUMNS]
        n = next(row["n"] for row in found if row)
        lines.append(f"| {arm} | {' | '.join(number(row['median']) if row else '–' for row in found)} | {n} |")
    return lines


def _foot(found: list[dict[str, Any]]) -> str:
    machines = sorted({f"{c['machine']['cpu']}, {c['machine']['cores']} cores" for c in found})
    torch = sorted({c["machine"]["versions"].get("torch", "?") for c in found})
    gpu = sorted({c["machine"]["gpu"] for c in found if c["name"] == "gpu" and c["machine"]["gpu"]})
    parts = [part for content in found for part in content["parts"].values() if "ended" in part]
    days = sorted({part["ended"][:10] for part in parts})
    minutes = sum(part["seconds"] for part in parts) / 60
    text = (
        f"Medians; in parentheses quartiles (the range where n < 4). {' and '.join(machines)}; torch "
        f"{' and '.join(torch)}; {' to '.join(days[:1] + days[1:][-1:])}. `make bench` measures all of it again in "
        f"about {minutes:.0f} minutes on such a machine; all rows are in `benchmarks/results/`."
    )
    beside, cores = max((part.get("beside") or 0.0 for part in parts), default=0.0), found[0]["machine"]["cores"]
    load = max((part.get("load", 0.0) for part in parts), default=0.0)  # of parts from before `beside` was measured
    if beside > 0.25 or load > 1.5 * cores:
        seen = f"up to {beside:.1f} cores" if beside > 0.25 else f"load average up to {load:.0f}"
        text += f" Other work ran beside it ({seen}): seconds are upper bounds, ratios less precise."
    return text + (f" GPU: {' and '.join(gpu)}." if gpu else " Not measured on a GPU.")


def read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None


if __name__ == "__main__":
    print(table())
