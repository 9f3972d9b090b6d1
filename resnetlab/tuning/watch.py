"""The live view of a running sweep; plain lines where there is no terminal. Ray's own chatter goes to a log file."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from resnetlab.metrics import METRICS
from resnetlab.records import Status
from resnetlab.tables.folder import Folder
from resnetlab.tuning.sweep import Sweep

PLAIN_EVERY = 15.0  # seconds between plain lines


class Watch:
    """Shows a Sweep while it runs. `update` may be called as often as anyone likes."""

    def __init__(self, sweep: Sweep):
        self._sweep = sweep
        self._began = time.monotonic()
        self._shown = -PLAIN_EVERY
        self._stage = ""
        self._live: Live | None = None
        self._error = 2
        self._console = Console()
        self._started_with = sum(n for status, n in sweep.counts().items() if Status(status).ended)

    @contextmanager
    def screen(self, folder: Folder) -> Iterator[None]:
        """Take the terminal; everything else that this process prints goes to `logs/ray.log` meanwhile."""
        sys.stdout.flush()
        sys.stderr.flush()
        terminal, error = os.dup(1), os.dup(2)
        self._error = error
        log = os.open(_log_path(folder), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        with os.fdopen(os.dup(terminal), "w") as out:
            try:
                os.dup2(log, 1)
                os.dup2(log, 2)
                self._console = Console(file=out)
                self._console.print(f"[bold]{self._sweep.study.name}[/bold]: starting Ray …", highlight=False)
                if self._console.is_terminal:
                    with Live(console=self._console, refresh_per_second=4, transient=True) as self._live:
                        yield
                else:
                    yield
                self._console.print(Text(self._line()), soft_wrap=True)
            finally:
                self._live = None
                with suppress(OSError):  # a full disk takes no more chatter
                    sys.stdout.flush()
                    sys.stderr.flush()
                os.dup2(terminal, 1)
                os.dup2(error, 2)
                for handle in (terminal, error, log):
                    os.close(handle)

    def say(self, line: str) -> None:
        """What a person must know before anything runs."""
        self._console.print(Text(line), soft_wrap=True)

    def last_words(self, text: str) -> None:
        """Say `text` where a person sees it, from any thread, when nothing will be shown any more."""
        shown = "\x1b[?25h\n" if self._live is not None else ""  # the live view hides the cursor
        with suppress(OSError):
            os.write(self._error, f"{shown}{text}\n".encode())

    def update(self) -> None:
        """Show where the sweep stands, if that is due. Who looked on and has gone is no reason to stop."""
        try:
            self._update()
        except OSError:
            self._live, self._console = None, Console(file=io.StringIO())

    def _update(self) -> None:
        while self._sweep.notes:
            self._console.print(Text(self._sweep.notes.popleft()), soft_wrap=True)
        now = time.monotonic()
        if self._live is not None:
            if now - self._shown > 0.25:
                self._shown = now
                self._live.update(self._table())
        elif now - self._shown > PLAIN_EVERY or self._stage != self._phase():
            self._shown, self._stage = now, self._phase()
            self._console.print(Text(self._line()), soft_wrap=True)

    def _phase(self) -> str:
        return "explore" if self._sweep.plan is None else "confirm"

    def _numbers(self) -> tuple[dict[str, int], int, int]:
        """Counts by status, trials ended, trials planned (confirm runs are not known before the plan)."""
        counts = self._sweep.counts()
        progress = self._sweep.progress
        ended = sum(n for status, n in counts.items() if Status(status).ended)
        return counts, ended, progress.planned

    def _left(self, ended: int, planned: int) -> str:
        done = ended - self._started_with
        if not done or planned <= ended:
            return ""
        seconds = (time.monotonic() - self._began) / done * (planned - ended)
        more = "" if self._sweep.plan is not None or self._sweep.study.confirm.design == "none" else ", then confirming"
        return f"about {duration(seconds)} left{more}"

    def _under_way(self) -> list[str]:
        working, waiting = len(self._sweep.working), self._sweep.queued
        starting = len(self._sweep.running) - working - len(self._sweep.waiting)
        words = [f"{working} running"] + ([f"{starting} starting"] if starting else [])
        return words + ([f"{waiting} waiting for {self._sweep.waits_for or 'a worker'}"] if waiting else [])

    def _line(self) -> str:
        counts, ended, planned = self._numbers()
        progress = self._sweep.progress
        failed = sum(counts.get(status, 0) for status in (Status.DIVERGED, Status.OUT_OF_MEMORY, Status.FAILED))
        parts = [
            f"{self._phase()}: {ended} of {planned} trials ended",
            *self._under_way(),
            f"{counts.get(Status.COMPLETE, 0)} complete",
            f"{counts.get(Status.STOPPED, 0)} stopped",
            *([f"{failed} failed"] if failed else []),
            f"{progress.epochs} epochs",
            *([f"{progress.images_per_second:,.0f} images/s"] if progress.images_per_second else []),
            *([f"best {METRICS['val_accuracy'].show(progress.best)}"] if progress.best is not None else []),
        ]
        left = self._left(ended, planned)
        return " · ".join(parts + ([left] if left else []))

    def _table(self) -> Table:
        counts, ended, planned = self._numbers()
        progress = self._sweep.progress
        elapsed = time.monotonic() - self._began
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim")
        grid.add_column()
        stage = "explore (Optuna proposes, ASHA stops)" if self._phase() == "explore" else "confirm (fresh seeds)"
        grid.add_row(f"{ended} of {planned}", ProgressBar(total=max(planned, 1), completed=ended, width=50))
        grid.add_row("phase", stage)
        grid.add_row("trials", self._status_text(counts))
        best = METRICS["val_accuracy"].show(progress.best)
        grid.add_row("best", f"{best} validation, trial {progress.best_trial}" if progress.best is not None else "–")
        speed = f"{progress.images_per_second:,.0f} images/s" if progress.images_per_second else "–"
        grid.add_row("speed", f"{progress.epochs} epochs, {speed}")
        left = self._left(ended, planned)
        grid.add_row("time", f"{duration(elapsed)}" + (f", {left}" if left else ""))
        return grid

    def _status_text(self, counts: dict[str, int]) -> Text:
        text = Text("  ".join(self._under_way()), style="bold")
        styles = {Status.COMPLETE: "green", Status.STOPPED: "yellow"}
        for status, number in sorted(counts.items()):
            if status not in (Status.WAITING, Status.RUNNING):
                text.append(f"  {number} {status.replace('_', ' ')}", style=styles.get(Status(status), "red"))
        return text


def _log_path(folder: Folder) -> str:
    if folder.path is None:
        return tempfile.mkstemp(prefix="resnetlab-ray-", suffix=".log")[1]
    path = Path(folder.path) / "logs" / "ray.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return str(path)


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
