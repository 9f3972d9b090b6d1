"""The live view of a running sweep, or plain lines if there is no terminal. Output of Ray goes to a log file."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from rich.live import Live
from rich.table import Table
from rich.text import Text

from resnetlab import console
from resnetlab.analysis.sweep_status import SweepStatus, time_left
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study.records import Status
from resnetlab.sweep.state_machine import Sweep

PLAIN_EVERY = 15.0  # seconds between plain lines


class LiveView:
    """Shows a Sweep while it runs; `update` may be called at any rate."""

    def __init__(self, sweep: Sweep):
        self._sweep = sweep
        self._began = time.monotonic()
        self._shown = -PLAIN_EVERY
        self._stage = ""
        self._live: Live | None = None
        self._error, self._terminal = 2, 1
        self._console = console.screen()
        self._started_with = sum(n for status, n in sweep.counts().items() if Status(status).ended)

    @contextmanager
    def screen(self, folder: ResultsFolder) -> Iterator[None]:
        """Show the view inside a `with` block; everything else that this process prints goes to `logs/ray.log`.

        A notebook gets plain lines.
        """
        notebook = sys.stdout if console.in_notebook() else None
        sys.stdout.flush()
        sys.stderr.flush()
        terminal, error = os.dup(1), os.dup(2)
        self._error, self._terminal = error, terminal
        log = os.open(_log_path(folder), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        with console.writer(terminal) as out, ExitStack() as redirected:
            try:
                os.dup2(log, 1)
                os.dup2(log, 2)
                if notebook is not None:
                    chatter = redirected.enter_context(console.writer(1))
                    redirected.enter_context(redirect_stdout(chatter))
                    redirected.enter_context(redirect_stderr(chatter))
                self._console = console.screen(notebook or out)
                self._console.print(f"[bold]{self._sweep.study.name}[/bold]: starting Ray …", highlight=False)
                if self._console.is_terminal and not self._console.is_dumb_terminal:
                    look = Live(
                        console=self._console,
                        refresh_per_second=4,
                        transient=True,
                        redirect_stdout=False,
                        redirect_stderr=False,
                    )
                    with look as self._live:
                        yield
                else:
                    yield
                self._print(self._standing().line())
            finally:
                self._live = None
                redirected.close()
                self._console = console.screen()
                with suppress(OSError):  # a full disk takes no more chatter
                    sys.stdout.flush()
                    sys.stderr.flush()
                os.dup2(terminal, 1)
                os.dup2(error, 2)
                for handle in (terminal, error, log):
                    os.close(handle)

    def say(self, what: str | Table) -> None:
        """Show a line or a table, before the sweep runs."""
        if isinstance(what, str):
            self._print(what)
        else:
            self._console.print(what)

    def _fit(self) -> None:
        """Take the width of the terminal. Rich would ask the standard streams, two of which are the log now."""
        if self._console.is_terminal:
            with suppress(OSError):
                self._console.width = os.get_terminal_size(self._terminal).columns or self._console.width

    def _print(self, line: str) -> None:
        """Print a line, wrapped between words on a terminal only."""
        self._fit()
        self._console.print(Text(line), soft_wrap=not self._console.is_terminal)

    def last_words(self, text: str) -> None:
        """Write `text` to the user's stderr, from any thread, just before the process is ended."""
        shown = "\x1b[?25h\n" if self._live is not None else ""  # the live view hides the cursor
        with suppress(OSError):
            os.write(self._error, console.encoded(f"{shown}{text}\n"))

    def update(self) -> None:
        """Show new notes, and the progress if it is due."""
        while self._sweep.notes:
            self._print(self._sweep.notes.popleft())
        now = time.monotonic()
        if self._live is not None:
            if now - self._shown > 0.25:
                self._shown = now
                self._fit()
                self._live.update(self._standing().table(self._console.width))
        elif (now - self._shown > PLAIN_EVERY and not self._sweep.paused) or self._stage != self._phase():
            self._shown, self._stage = now, self._phase()
            self._print(self._standing().line())

    def _phase(self) -> str:
        return "explore" if self._sweep.plan is None else "confirm"

    def _standing(self) -> SweepStatus:
        sweep = self._sweep
        counts, progress, elapsed = sweep.counts(), sweep.progress, time.monotonic() - self._began
        ended = sum(n for status, n in counts.items() if Status(status).ended)
        return SweepStatus(
            study=sweep.study.name,
            phase=self._phase(),
            planned=progress.planned,
            counts=counts,
            working=len(sweep.working),
            starting=len(sweep.running) - len(sweep.working) - len(sweep.waiting),
            waiting=sweep.queued,
            waits_for=sweep.waits_for,
            epochs=progress.epochs,
            images_per_second=progress.images_per_second,
            searched=progress.searched,
            best=progress.best,
            best_trial=progress.best_trial,
            elapsed=elapsed,
            left=time_left(elapsed, ended - self._started_with, progress.planned - ended),
            looks=sweep.standing_of_looks,
            budget=sweep.time.line,
            then_confirming=sweep.plan is None and sweep.study.confirm.design != "none",
            asked=sweep.asked,
            paused=sweep.paused,
            shared=sweep.shared,
        )


def _log_path(folder: ResultsFolder) -> str:
    if folder.path is None:
        return tempfile.mkstemp(prefix="resnetlab-ray-", suffix=".log")[1]
    path = Path(folder.path) / "logs" / "ray.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return str(path)
