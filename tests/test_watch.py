"""The live view of a simulated sweep on a real pseudo-terminal: wide, narrow, without colour, dumb; and in a log."""

import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pytest
from rich.console import Console
from test_looks_sweep import ARMS, drive, start
from test_looks_sweep import study as looking

from resnetlab.driver.live_view import LiveView

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import sys, time
from resnetlab.calibration import simulator as simulate
from resnetlab.study import build_study
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import one_dataset
from resnetlab.driver.live_view import LiveView

study = build_study({"name": "seen", "dataset": {"name": "glyphs"}, "baseline": {},
    "factors": {"kernel": {"levels": [3, 5]}}, "search": {"trials": 4, "epochs": 4, "grace_period": 1,
    "reduction_factor": 2},
    "confirm": {"seeds": 2}}, "seen")
folder = ResultsFolder.at(sys.argv[1])
sweep = Sweep(study, Store(folder, study.columns), {"git_revision": "g", "versions": "{}"},
              one_dataset(study, "simulated", [str(k) for k in range(10)]))
watch, report = LiveView(sweep), sweep.report

def seen(*words):
    going = report(*words)
    print("chatter of Ray's")
    watch._shown = -100.0  # as if a while had passed
    watch.update()
    return going

sweep.report = seen
watch.say("a word before")
with watch.screen(folder):
    sweep.notes.append("trial abc: " + "a long note " * 12)
    simulate.drive(sweep, simulate.Truth(), slots=2)
    watch.update()
"""


def lines_of(place: Path, columns: int | None = None, **more: str) -> list[str]:
    """What the program shows, line by line: on a pseudo-terminal with so many columns, or in a pipe."""
    words = [sys.executable, "-c", PROGRAM, str(place)]
    base = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    env = base | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)} | more
    if columns is None:
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
        assert done.stderr == ""
        return done.stdout.splitlines()
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        text += part
    os.close(ours)
    assert process.wait() == 0, text.decode()
    return re.split(r"\r?\n|\r", text.decode())


def bare(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)


@pytest.mark.parametrize("columns", [50, 80, 100])
def test_the_live_view_fits(tmp_path, columns):
    lines = [bare(line).rstrip() for line in lines_of(tmp_path, columns)]
    assert max(len(line) for line in lines) <= columns
    text = "\n".join(lines)
    for word in ("phase", "trials", "best", "speed", "epochs", "complete", "confirm (fresh seeds)", "a word before"):
        assert word in text
    bars = [line for line in lines if "━" in line]
    assert bars and {line.count("━") + line.count("╸") + line.count("╺") for line in bars} == {min(50, columns - 9)}
    ended = " ".join(text[text.rindex("confirm: ") :].split())
    assert ended.startswith("confirm: 6 of 6 trials ended") and "chatter" not in text
    assert "chatter" in (tmp_path / "logs" / "ray.log").read_text()


def test_no_color_is_heeded(tmp_path):
    colours = re.compile(r"\x1b\[[0-9;]*\b(3[0-7]|38|9[0-7])\b")
    assert colours.search("\n".join(lines_of(tmp_path / "with", 80)))
    assert not colours.search("\n".join(lines_of(tmp_path / "without", 80, NO_COLOR="1")))


def test_a_dumb_terminal_and_a_log_get_plain_lines(tmp_path):
    dumb = lines_of(tmp_path / "dumb", 80, TERM="dumb")
    assert "\x1b" not in "".join(dumb) and max(map(len, dumb)) <= 80
    log = lines_of(tmp_path / "log")
    assert "\x1b" not in "".join(log) and log[:2] == ["a word before", "seen: starting Ray …"]
    assert log[-1].startswith("confirm: 6 of 6 trials ended · ") and any(line.startswith("explore: ") for line in log)
    assert "trial abc: " + "a long note " * 11 + "a long note" in map(
        str.rstrip, log
    )  # a line is a line, whatever its length


@pytest.mark.parametrize("width", [60, 120])
def test_the_live_view_says_what_looks_have_settled_and_what_goes_on(tmp_path, width):
    arms = ARMS | {"deep": {"blocks": 4}}
    sweep = start(tmp_path, looking(arms=arms, confirm={"delta": 0.1}))
    view = LiveView(sweep)
    before = shown(view, width)
    drive(sweep, slots=1, steps=3 * 2 + 2 * 3 + 1)
    sweep.store.close()
    text = " ".join(shown(view, width).split())
    assert "settled" not in before and "looks" in text
    assert "settled: arm: wide - plain (an effect)" in text and "open: arm: deep - plain" in text
    assert "goes on: plain, deep" in text
    assert sweep.standing_of_looks in text


def shown(view, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(view._standing().table(width))
    return console.file.getvalue()


def test_a_plan_without_looks_has_no_such_line(tmp_path):
    sweep = start(tmp_path, looking({"looks": "none", "seeds": 3}, arms=ARMS))
    drive(sweep, slots=1, steps=4)
    sweep.store.close()
    assert sweep.standing_of_looks == "" and "looks" not in shown(LiveView(sweep), 100)
