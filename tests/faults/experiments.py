"""The experiments of the fault campaign, and the table of their outcomes.

python tests/faults/experiments.py            prints the table of results/reference/faults.json, and what kills.py found
python tests/faults/experiments.py --adopt    takes into it those experiments of results/faults.json that ran
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "results" / "faults.json"
REFERENCE = ROOT / "results" / "reference" / "faults.json"
KILLS, PAUSING = REFERENCE.with_name("kills.json"), REFERENCE.with_name("kills-pausing.json")
EXTENDING = REFERENCE.with_name("kills-extending.json")

EXPERIMENTS = {  # number: (what is done, what must come of it)
    1: ("driver killed three times at random moments, then continued", "same tables"),
    2: ("a trial's process killed", "same tables"),
    3: ("a worker node lost", "same tables"),
    4: ("the node under the driver lost", "exit 75 within 60 s, then same tables"),
    5: ("the cluster's control service killed", "exit 75 within 60 s, then same tables"),
    6: ("results on a small disk that fills", "exit 4, then same tables"),
    7: ("a trial that takes too much memory", "that trial `out_of_memory`, the others complete"),
    8: ("SIGINT, SIGTERM, SIGHUP; SIGTERM while Ray starts", "exit 130, then same tables"),
    9: ("a second driver", "exit 4, naming the first"),
    10: ("each file truncated, emptied, deleted, bit-flipped", "refused by name, or same tables"),
    11: ("checkpoints damaged or deleted", "the one before, or begun again and said"),
    12: ("SIGKILLs of the row writer at random moments", "no row lost, none twice"),
    13: ("power cut before and after every fsync, rename, link", "no row lost, none twice"),
    14: ("a loss that is not a number", "`diverged`, a row, never the best"),
    15: ("every trial fails", "exit 1 and why"),
    16: ("clock set back between runs", "same tables, no trial ends before it starts"),
    17: ("data cache cut or altered while it is used", "made again, same tables"),
    18: ("a trial that hangs", "ended at its time limit, and said; the others complete"),
    # With stand-ins for GPUs.
    19: ("a trial that takes too much memory of a GPU", "that trial `out_of_memory`, the others complete"),
    20: (
        "a GPU that fails under a trial, or that `nvidia-smi` reports as lost",
        "run again elsewhere, or refused by name",
    ),
    21: ("a driver too old for torch", "exit 2 and torch's words, then the sweep goes on"),
    22: ("`CUDA_VISIBLE_DEVICES` empty", "exit 2, naming the variable"),
    23: ("nodes with GPUs of different kinds", "exit 2, naming the nodes"),
    # With looks at the confirm runs.
    24: ("driver killed before and after it writes a look", "same looks, runs and verdicts"),
    # With a page of `resnetlab serve` open in Chromium.
    25: ("a page open while its folder is deleted, damaged and put back", "the page says why, then goes on"),
    26: ("*Pause* pressed on a page while the disk is full", "that it was not asked, and why; then it is asked"),
    27: ("a wrong token, or none; markup as name and title of a study", "403 and nothing else; shown as text"),
}


def write(outcomes: dict[int, dict[str, Any]]) -> None:
    """The JSON and the table of one campaign."""
    content = {
        "about": "fault campaign: what came of each experiment; seconds are of the tests alone",
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "experiments": {str(number): found for number, found in outcomes.items()},
    }
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(content, indent=1))
    OUT.with_suffix(".md").write_text(table(content))


def table(content: dict[str, Any]) -> str:
    lines = ["| | experiment | must end with | outcome | s | seen |", "|---|---|---|---|---|---|"]
    for number, (what, wanted) in EXPERIMENTS.items():
        found = content["experiments"][str(number)]
        facts = ", ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in found["facts"].items())
        lines.append(f"| {number} | {what} | {wanted} | {found['outcome']} | {found['seconds']:.0f} | {facts} |")
    return "\n".join(lines) + "\n"


def kills(found: dict[str, Any]) -> str:
    """What one run of kills.py found, as a sentence or two."""
    number, first = found["kills"], found["seconds_to_the_first_row"]
    total = number.get("pausing") or number.get("extending") or sum(number.values())
    if "pausing" in number:
        which = f"all of drivers that had been asked to pause up to 12 s before, {number['paused_when_killed']} paused"
    elif "extending" in number:
        early = number["before_a_new_row"]
        which = f"all of drivers that extended a finished study or went on with that, {early} before a new row"
    else:
        which = f"{number['driver']} of drivers, {number['worker']} of workers, {number['node']} of nodes"
    sweeps = f"{found['sweeps']} sweep{'s' * (found['sweeps'] != 1)} continued to the end"
    rows = f"{found['rows']:,} rows {found['lost']} lost, {found['doubled']} doubled, {found['wrong']} wrong"
    return (
        f"`{found['command']}`: {total} SIGKILLs at random moments ({which}), in "
        f"{sweeps}, on {found['machine']['cores']} cores: of {rows}. "
        f"{found['interrupted_trials']} times a trial went on in another process, and at most "
        f"{found['most_epochs_begun_again_of_one']} of its epochs was begun again. The first new row came "
        f"{first['median']:.0f} s after a start (median of {found['starts']}; at most {first['most']:.0f} s)"
        f"{', beside other work' * (found['slack'] > 1)}.\n"
    )


def shown(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def adopt() -> None:
    """Take those experiments that ran in the last campaign into the reference."""
    content, fresh = json.loads(REFERENCE.read_text()), json.loads(OUT.read_text())["experiments"]
    content["experiments"] |= {number: found for number, found in fresh.items() if found["outcome"] != "not run"}
    REFERENCE.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    if sys.argv[1:] == ["--adopt"]:
        adopt()
        sys.exit()
    text = table(json.loads(REFERENCE.read_text()))
    for file in (KILLS, PAUSING, EXTENDING):
        if file.exists():
            text += "\n" + kills(json.loads(file.read_text()))
    print(text, end="")
