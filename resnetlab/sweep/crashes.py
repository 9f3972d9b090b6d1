"""Explain a failed trial: how its process ended, the end of its log, its settings, and what to try.

If a process can still react to a signal, Python's faulthandler (which Ray switches on) writes it to the log. SIGKILL
leaves no trace there; the kernel's count of processes killed for lack of memory tells whether it came from the OOM
killer. The log is on the machine where the process ran, so a Ray task on that machine reads it.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resnetlab.study.records import Status
from resnetlab.study.trial_config import RunConfig
from resnetlab.wording import level_text

RETRIES = {  # deaths of a trial's process that are retried, if no new epoch comes between them
    Status.FAILED: 3,  # a node is lost, or leaves
    Status.OUT_OF_MEMORY: 1,  # Ray killed it because the node ran out of memory, perhaps because of another trial
    "crash": 1,  # a signal ended it
}
LOG_TIMEOUT = 30.0  # seconds that reading a log on another machine may take
TAIL_BYTES = 64 << 10  # of a log, that are read
STORED_LINES = 80  # of a log, that are stored
MESSAGE_LINES = 4  # of a log, that a message shows
MEANINGS = {
    "SIGSEGV": "segmentation fault",
    "SIGABRT": "aborted",
    "SIGBUS": "bus error",
    "SIGFPE": "floating-point exception",
    "SIGILL": "illegal instruction",
    "SIGKILL": "it left no word; most often this is the kernel's OOM killer",
}
FATAL = {  # how faulthandler names signals
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
    """The end of a process by a signal. oom: by the kernel's OOM killer. log: its last lines; place: the log file."""

    signal: str
    oom: bool = False
    log: tuple[str, ...] = ()
    place: str = ""

    @property
    def cause(self) -> str:
        """`killed by SIGSEGV (segmentation fault)`"""
        if self.oom:
            return "killed by SIGKILL from the kernel's OOM killer: the machine ran out of memory"
        meaning = MEANINGS.get(self.signal, "")
        return f"killed by {self.signal}" + (f" ({meaning})" if meaning else "")

    def advice(self, levels: Sequence[str]) -> str:
        """What to try. levels: names of the settings in which the trial differs from the baseline."""
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

    def message(self, config: RunConfig, baseline: RunConfig, epochs: int) -> str:
        """Describe the failure of a trial of which `epochs` epochs are recorded: cause, settings, log, advice."""
        where = f"in epoch {epochs + 1}" if epochs < config.epochs else "after its last epoch"
        log = f"its log ends: {self.excerpt}" if self.excerpt else "its log says nothing"
        parts = [f"{self.cause} {where}", f"settings: {settings(config, baseline)}", log]
        return "; ".join([*parts, self.advice(differing(config, baseline))])

    @property
    def excerpt(self) -> str:
        """The most informative lines of the log, in one line."""
        return " | ".join(excerpt(self.log))


class Deaths:
    """Counts the deaths of trials' processes, by kind (a key of RETRIES), since each trial's last new epoch."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}

    def too_many(self, trial_id: str, kind: str) -> str:
        """Count a death; returns the reason to give up, or an empty string if the trial may be retried."""
        counts = self._counts.setdefault(trial_id, Counter())
        counts[kind] += 1
        if counts[kind] <= RETRIES[kind]:
            return ""
        return f"its process died {counts[kind]} times" + " at the same place" * (kind == "crash")

    def forget(self, trial_id: str) -> None:
        """Start counting anew, because the trial has a new epoch."""
        self._counts.pop(trial_id, None)


def excerpt(log: Sequence[str]) -> list[str]:
    """The most informative lines of a log: two before the fatal error, the error, and where it happened."""
    lines = [line.strip() for line in log if line.strip() and not NOISE.match(line) and not BEGINS.search(line)]
    lines = [line for line in lines if not line.startswith(("***", "Stack (most", "Thread 0x"))]
    fatal = next((i for i, line in enumerate(lines) if line.startswith(("Fatal Python error", "Timeout ("))), None)
    if fatal is None:
        return [line[:200] for line in lines[-MESSAGE_LINES:]]
    frames = [line for line in lines[fatal + 1 :] if line.startswith("File ")]
    return [line[:200] for line in [*lines[max(0, fatal - 2) : fatal + 1], *frames[: MESSAGE_LINES - 2]]]


def late(limit: float, crash: Crash | None) -> str:
    """Describe the failure of a trial whose process ended itself because an epoch took longer than `limit` seconds."""
    where = f"; where it was: {crash.excerpt}" if crash and crash.excerpt else ""
    advice = "try a larger resources.epoch_timeout_s, or less data"
    return f"an epoch took longer than {limit:g} s (resources.epoch_timeout_s){where}; {advice}"


def begins(trial_id: str) -> str:
    """The line that a worker writes to its log at the start of a trial."""
    killed = oom_kills()
    return (
        f"trial {trial_id} begins; processes ended by the kernel's OOM killer so far: "
        f"{'unknown' if killed is None else killed}"
    )


def last_trial(log: str) -> str | None:
    """The id of the trial that began last in a worker's log."""
    starts = BEGINS.findall(log)
    return starts[-1][0] if starts else None


def oom_kills() -> int | None:
    """How many processes the kernel of this machine has killed for lack of memory since it booted; None if unknown."""
    try:
        counters = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        return int(counters["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None


def tail(pid: int) -> tuple[str, str, int | None]:
    """Run in a Ray worker: read the end of what worker `pid` of the same node wrote to stderr.

    Returns the text, its file, and `oom_kills`; empty strings and None if there is no such file.
    """
    try:
        logs = Path("/proc/self/fd/2").readlink().parent
        (place,) = logs.glob(f"worker-*-{pid}.err")
        with place.open("rb") as file:
            file.seek(max(0, place.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace"), str(place), oom_kills()
    except (OSError, ValueError):
        return "", "", None


def diagnose(text: str, place: str, killed: int | None) -> Crash | None:
    """How a process ended, by the end of its log as `tail` returns it; None if it did not crash, or if unknown."""
    if not text:
        return None
    lines = text.splitlines()
    start = max((i for i, line in enumerate(lines) if BEGINS.search(line)), default=0)
    lines = lines[start:]
    begins = BEGINS.search(lines[0])
    if any(LEAVES in line for line in lines):
        return None
    stored = tuple(lines[-STORED_LINES:])
    for line in lines:
        if line.startswith("Fatal Python error: ") and (name := FATAL.get(line.partition(": ")[2].strip())):
            return Crash(name, False, stored, place)
        if caught := re.match(r"\*\*\* (SIG[A-Z]+) received", line):
            return Crash(caught[1], False, stored, place)
    before = int(begins[2]) if begins and begins[2] != "unknown" else None
    oom = before is not None and killed is not None and killed > before
    return Crash(signal.SIGKILL.name, oom, stored, place)


def differing(config: RunConfig, baseline: RunConfig) -> list[str]:
    """Names of the settings in which a trial differs from the baseline."""
    names = [name for name in type(config).model_fields if name in config.factor_fields()]
    return [name for name in names if getattr(config, name) != getattr(baseline, name)]


def settings(config: RunConfig, baseline: RunConfig) -> str:
    """The main settings of a trial and those that differ from the baseline: `model resnet, width 4 (baseline 8)`."""
    names = differing(config, baseline)
    always: list[str] = [name for name in ("model", "batch_size") if name in config.base.model_fields]
    always += config.own.read(config.__dict__)
    texts = [f"{name} {level_text(getattr(config, name))}" for name in always if name not in names]
    texts += [
        f"{name} {level_text(getattr(config, name))} (baseline {level_text(getattr(baseline, name))})" for name in names
    ]
    return ", ".join(texts)
