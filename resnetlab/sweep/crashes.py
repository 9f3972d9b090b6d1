"""What is known of a trial that failed: how its process ended, what its log says, its settings, and what to try.

A signal that the process can still react to is written into its log by Python's faulthandler, which Ray switches on.
SIGKILL leaves no word: it is told by the silence of the log, and by the kernel's count of processes that it has ended
for want of memory. The log lies on the machine of the process, so it is read by a task that runs there.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from resnetlab.storage.layout import ERRORS
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study.records import Status
from resnetlab.study.trial_config import RunConfig
from resnetlab.wording import level_text

RETRIES = {  # deaths of a trial's process, without a new epoch between them, before it is called failed
    Status.FAILED: 3,  # a node is lost, or leaves
    Status.OUT_OF_MEMORY: 1,  # Ray ended it because the node ran out of memory: it may have been another trial's doing
    "crash": 1,  # a signal ended it
}
PATIENCE = 30.0  # seconds that reading a log on another process's behalf may take
TAIL = 64 << 10  # bytes of a log that are read
KEPT = 80  # lines of a log that are kept
MOST = 4  # lines of a log in a message
WORDS = {
    "SIGSEGV": "segmentation fault",
    "SIGABRT": "aborted",
    "SIGBUS": "bus error",
    "SIGFPE": "floating-point exception",
    "SIGILL": "illegal instruction",
    "SIGKILL": "it left no word; most often this is the kernel's OOM killer",
}
FATAL = {  # faulthandler's words
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating point exception": "SIGFPE",
    "Floating-point exception": "SIGFPE",
    "Illegal instruction": "SIGILL",
}
LEAVES = "SIGTERM: this machine is leaving"
BEGINS = re.compile(r"trial ([0-9a-f]{12}) begins; processes ended by the kernel's OOM killer so far: (\d+|unknown)")
NOISE = re.compile(r":(job_id|actor_name|task_name):|\[\S+ \S+ E \d+ \d+\] |PC: @|\s+@ |Extension modules:|Current")


@dataclass(frozen=True)
class Crash:
    """The end of a process by a signal. log: the last lines that it wrote; place: where they stand."""

    signal: str
    oom: bool = False
    log: tuple[str, ...] = ()
    place: str = ""

    @property
    def cause(self) -> str:
        """`killed by SIGSEGV (segmentation fault)`"""
        if self.oom:
            return "killed by SIGKILL from the kernel's OOM killer: the machine ran out of memory"
        words = WORDS.get(self.signal, "")
        return f"killed by {self.signal}" + (f" ({words})" if words else "")

    def advice(self, levels: Sequence[str]) -> str:
        """What to try. levels: settings in which the trial differs from the baseline."""
        if self.signal == "SIGKILL":
            return (
                "try a smaller batch, fewer trials at a time (larger resources.cpus or resources.gpus), less data "
                "(dataset.limit), or a machine with more memory"
            )
        other = f"another level of {' or '.join(levels)}" if levels else "other settings"
        more = {
            "SIGBUS": ", room on the disk and in /dev/shm",
            "SIGILL": ", packages that are built for this processor",
        }
        also = more.get(self.signal, "")
        return f"compiled code failed at these settings: try {other}, or other versions of torch{also}"

    def told(self, config: RunConfig, baseline: RunConfig, epochs: int) -> str:
        """What people must know of a trial that ends so with `epochs` epochs recorded."""
        where = f"in epoch {epochs + 1}" if epochs < config.epochs else "after its last epoch"
        log = f"its log ends: {self.said}" if self.said else "its log says nothing"
        parts = [f"{self.cause} {where}", f"settings: {settings(config, baseline)}", log]
        return "; ".join([*parts, self.advice(differing(config, baseline))])

    @property
    def said(self) -> str:
        """The lines of the log that say most, in one."""
        return " | ".join(excerpt(self.log))


class Deaths:
    """Counts the deaths of trials' processes, by kind (a key of RETRIES), since each trial's last new epoch."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def too_many(self, trial_id: str, kind: str) -> str:
        """Count one; in words how often it died, where that is too often."""
        counts = self._counts.setdefault(trial_id, Counter())
        counts[kind] += 1
        if counts[kind] <= RETRIES[kind]:
            return ""
        return f"its process died {counts[kind]} times" + " at the same place" * (kind == "crash")

    def forget(self, trial_id: str) -> None:
        """The trial has a new epoch."""
        self._counts.pop(trial_id, None)


def excerpt(log: Sequence[str]) -> list[str]:
    """The few lines of a log that say most: those before the fatal error, the error, and where it happened."""
    lines = [line.strip() for line in log if line.strip() and not NOISE.match(line) and not BEGINS.search(line)]
    lines = [line for line in lines if not line.startswith(("***", "Stack (most", "Thread 0x"))]
    fatal = next((i for i, line in enumerate(lines) if line.startswith(("Fatal Python error", "Timeout ("))), None)
    if fatal is None:
        return [line[:200] for line in lines[-MOST:]]
    frames = [line for line in lines[fatal + 1 :] if line.startswith("File ")]
    return [line[:200] for line in [*lines[max(0, fatal - 2) : fatal + 1], *frames[: MOST - 2]]]


def late(limit: float, crash: Crash | None) -> str:
    """What people must know of a trial whose process ended itself after `limit` seconds of one epoch."""
    where = f"; where it was: {crash.said}" if crash and crash.said else ""
    advice = "try a larger resources.epoch_timeout_s, or less data"
    return f"an epoch took longer than {limit:g} s (resources.epoch_timeout_s){where}; {advice}"


def begins(trial_id: str) -> str:
    """The line that a worker writes into its log where a trial begins."""
    killed = oom_kills()
    return (
        f"trial {trial_id} begins; processes ended by the kernel's OOM killer so far: "
        f"{'unknown' if killed is None else killed}"
    )


def begun(log: str) -> str | None:
    """The trial that began last in a worker's log."""
    found = BEGINS.findall(log)
    return found[-1][0] if found else None


def oom_kills() -> int | None:
    """How many processes of this machine the kernel has ended for want of memory since it was started; None where it
    does not say."""
    try:
        counters = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        return int(counters["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None


def tail(pid: int) -> tuple[str, str, int | None]:
    """In a Ray worker: the end of what the worker `pid` of this node wrote to stderr, where that stands, and
    `oom_kills`. Empty where there is nothing."""
    try:
        logs = Path("/proc/self/fd/2").readlink().parent
        (place,) = logs.glob(f"worker-*-{pid}.err")
        with place.open("rb") as file:
            file.seek(max(0, place.stat().st_size - TAIL))
            return file.read().decode(errors="replace"), str(place), oom_kills()
    except (OSError, ValueError):
        return "", "", None


def judged(text: str, place: str, killed: int | None) -> Crash | None:
    """What the end of a log says of the end of its process; None where that was no crash, or nothing is known."""
    if not text:
        return None
    lines = text.splitlines()
    begun = max((i for i, line in enumerate(lines) if BEGINS.search(line)), default=0)
    found = BEGINS.search(lines[begun])
    lines = lines[begun:]
    if any(LEAVES in line for line in lines):
        return None
    kept = tuple(lines[-KEPT:])
    for line in lines:
        if line.startswith("Fatal Python error: ") and (name := FATAL.get(line.partition(": ")[2].strip())):
            return Crash(name, False, kept, place)
        if caught := re.match(r"\*\*\* (SIG[A-Z]+) received", line):
            return Crash(caught[1], False, kept, place)
    before = int(found[2]) if found and found[2] != "unknown" else None
    oom = before is not None and killed is not None and killed > before
    return Crash(signal.SIGKILL.name, oom, kept, place)


def differing(config: RunConfig, baseline: RunConfig) -> list[str]:
    """The settings in which a trial differs from the baseline."""
    names = [name for name in type(config).model_fields if name in config.factor_fields()]
    return [name for name in names if getattr(config, name) != getattr(baseline, name)]


def settings(config: RunConfig, baseline: RunConfig) -> str:
    """`model resnet, batch_size 32, width 4 (baseline 8)`"""
    names = differing(config, baseline)
    always: list[str] = [name for name in ("model", "batch_size") if name in config.base.model_fields]
    always += config.own.read(config.__dict__)
    said = [f"{name} {level_text(getattr(config, name))}" for name in always if name not in names]
    said += [
        f"{name} {level_text(getattr(config, name))} (baseline {level_text(getattr(baseline, name))})" for name in names
    ]
    return ", ".join(said)


def keep(folder: ResultsFolder, config: RunConfig, baseline: RunConfig, reason: str, detail: str) -> None:
    """Add a failure to errors/<trial_id>.txt, below those that stand there already."""
    trial_id, about = config.trial_id, settings(config, baseline)
    name = f"{ERRORS}/{trial_id}.txt"
    before = (folder.read(name) or b"").decode(errors="replace")
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    text = f"{when}: trial {trial_id}: {reason}\nsettings: {about}\n\n{detail.strip() or 'nothing more is known'}\n"
    folder.write(name, (f"{before}\n{text}" if before else text).encode())
