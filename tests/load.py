"""Run the suite beside busy processes that do nothing but compute (`make test-load`).

    python tests/load.py                        # the whole suite, beside two
    python tests/load.py --times 3              # stops at the first run that fails
    python tests/load.py --busy 4 -- tests/test_reaper.py tests/test_store.py
    python tests/load.py --beside 'python sweeps/ablation.py'    # beside real work instead

Ends with pytest's exit code.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def compute(parent: int) -> None:
    """Until the process that started this one is gone."""
    while os.getppid() == parent:
        sum(range(100_000))


@contextmanager
def busy(number: int) -> Iterator[None]:
    """So many processes compute while this is open."""
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=compute, args=(os.getpid(),), daemon=True) for _ in range(number)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


@contextmanager
def running(command: str, log: Path) -> Iterator[None]:
    """A shell command runs while this is open, then gets SIGTERM.

    Raises:
        RuntimeError: The command ended before this closed, so nothing ran beside the last part.
    """
    with log.open("a") as out:
        process = subprocess.Popen(command, shell=True, cwd=ROOT, stdout=out, stderr=out, start_new_session=True)
        try:
            yield
            if process.poll() is not None:
                raise RuntimeError(f"{command}: ended with code {process.returncode} while the tests ran; see {log}")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=2, help="processes that compute (2)")
    parser.add_argument("--beside", metavar="COMMAND", help="a shell command that runs beside it, instead of those")
    parser.add_argument("--times", type=int, default=1, help="runs of the suite, one after another (1)")
    parser.add_argument("pytest", nargs="*", help="after --: what pytest is given instead of `-n 2`")
    chosen = parser.parse_args()
    code = 0
    log = ROOT / "build/beside.log"
    log.parent.mkdir(exist_ok=True)
    what = f"`{chosen.beside}`" if chosen.beside else f"{chosen.busy} busy processes"
    with running(chosen.beside, log) if chosen.beside else busy(chosen.busy):
        for number in range(1, chosen.times + 1):
            suite = [sys.executable, "-m", "pytest", *(chosen.pytest or ["-n", "2"])]
            code = subprocess.run(suite, cwd=ROOT).returncode
            print(f"run {number} of {chosen.times} beside {what}: code {code}, load average {os.getloadavg()[0]:.1f}")
            if code:
                break
    sys.exit(code)


if __name__ == "__main__":
    main()
