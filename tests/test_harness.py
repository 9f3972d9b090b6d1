"""The suite's own configuration, on a small suite in a process of its own: what dies or hangs fails by name and the run
ends; a deprecation at our own lines fails the test."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

DEADLY = """
import ctypes, os, signal, subprocess, time
import pytest

@pytest.fixture(scope="module")
def kept():
    return 1

def test_before(kept): pass

def test_segfaults(): os.kill(os.getpid(), signal.SIGSEGV)

def test_between(kept): pass

def test_hangs_in_c_with_the_interpreter_locked(): ctypes.PyDLL(None).sleep(1000)

def test_hangs_with_all_signals_blocked():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    time.sleep(1000)

def test_after(kept): pass
"""

HANGS_IN_A_FIXTURE = """
import os, subprocess
import pytest

@pytest.fixture
def never(): subprocess.run(["sleep", "90"])

def test_waits_for_a_child(never): pass

def test_exits(): os._exit(0)

def test_last(): pass
"""

WARNS = """
import warnings
import pytest

KINDS = [DeprecationWarning, PendingDeprecationWarning, FutureWarning]

@pytest.mark.parametrize("kind", KINDS)
def test_own_line(kind): warnings.warn("to go", kind)

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", ["resnetlab", "resnetlab.vision.models.blocks", "made_results", "faults.lab"])
def test_ours(module, kind): warnings.warn_explicit("to go", kind, "x.py", 1, module=module)

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", ["ray.tune", "numpy", "made_results_of_others"])
def test_theirs(module, kind): warnings.warn_explicit("to go", kind, "x.py", 1, module=module)
"""


def suite(place, files, *options):
    """Run a suite of `files` with the configuration of pyproject.toml; the exit code, and the outcome of each test."""
    for name, text in files.items():
        (place / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(place), "-rA"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *options, str(place)],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=400,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
    )
    found = re.findall(r"^(PASSED|FAILED|ERROR) \S*?(test_\w+\.py::\S+)", done.stdout, re.MULTILINE)
    outcomes = {name: outcome for outcome, name in found}
    assert len(outcomes) == len(found), done.stdout
    return done, outcomes


def test_what_dies_or_hangs_fails_by_name_and_the_run_ends(tmp_path):
    files = {"test_a.py": DEADLY, "test_b.py": DEADLY, "test_c.py": HANGS_IN_A_FIXTURE}
    done, outcomes = suite(tmp_path, files, "-n", "2", "-o", "faulthandler_timeout=5")
    words = re.findall(r"def (test_\w+)", DEADLY + HANGS_IN_A_FIXTURE)
    bad = {word for word in words if word.split("_")[1] in ("segfaults", "hangs", "waits", "exits")}
    expected = {
        f"{name}::{word}": "FAILED" if word in bad else "PASSED"
        for name, text in files.items()
        for word in re.findall(r"def (test_\w+)", text)
    }
    assert done.returncode == 1 and outcomes == expected, done.stdout + done.stderr
    shown = done.stdout + done.stderr
    assert "Fatal Python error: Segmentation fault" in shown and "Timeout (0:00:05)!" in shown
    for word in bad - {"test_exits", "test_waits_for_a_child"}:
        assert f"in {word}\n" in shown  # the stack of the process that died
    assert "in never\n" in shown


def test_a_deprecation_at_our_own_lines_fails_the_test(tmp_path):
    done, outcomes = suite(tmp_path, {"test_warns.py": WARNS})
    wrong = {name: outcome for name, outcome in outcomes.items() if (outcome == "PASSED") != ("::test_theirs[" in name)}
    assert len(outcomes) == 3 + 4 * 3 + 3 * 3 and not wrong, done.stdout


def test_the_time_limit_of_a_test_is_minutes_and_longer_than_that_of_what_it_starts():
    """Or the limit of a subprocess would never be reached, and its output not be shown."""
    config = (ROOT / "pyproject.toml").read_text()
    (limit,) = re.findall(r"^faulthandler_timeout = (\d+)$", config, re.MULTILINE)
    limits = [
        int(n) for file in Path(__file__).parent.glob("*.py") for n in re.findall(r"timeout=(\d+)", file.read_text())
    ]
    assert max(limits) < int(limit) <= 900
