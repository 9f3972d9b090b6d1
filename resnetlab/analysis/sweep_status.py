"""Where a sweep stands, as a terminal shows it: the same words while it runs, from elsewhere, and in a log file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from resnetlab.study.metrics import METRICS, Metric
from resnetlab.study.records import Status
from resnetlab.wording import duration

BAR = 50  # columns of the bar, where there is room
STAGES = {"explore": "explore (a sampler proposes, weak trials are stopped)", "confirm": "confirm (fresh seeds)"}
COLOURS = {Status.COMPLETE: "green", Status.STOPPED: "yellow"}


def time_left(elapsed: float | None, done: int, to_go: int) -> float | None:
    """Seconds that `to_go` trials take at the pace of the `done` so far; None where there is none to tell."""
    return elapsed / done * to_go if elapsed and done and to_go > 0 else None


@dataclass(frozen=True)
class SweepStatus:
    """phase: `explore` or `confirm`. planned: trials, confirm runs only once there is a plan. counts: trials by status.
    working, starting, waiting: trials that have reported, that have not, and that have no worker, because of
    `waits_for`. images_per_second: of all trials together. best: the best value of `searched` of an explore trial at
    the full budget. elapsed, left: seconds."""

    study: str
    phase: str
    planned: int
    counts: Mapping[str, int]
    working: int
    starting: int
    waiting: int
    epochs: int
    images_per_second: float = 0.0
    searched: Metric = METRICS["val_accuracy"]
    best: float | None = None
    best_trial: str = ""
    waits_for: str = ""
    elapsed: float | None = None
    left: float | None = None
    looks: str = ""  # what is settled and what still runs, where the plan looks at its runs
    then_confirming: bool = False  # what is left is of exploration alone
    asked: str = ""  # of the driver: `pause` or `stop`
    paused: bool = False  # it was, and no trial trains any more
    shared: str = ""  # other sweeps that run on the cluster

    @property
    def ended(self) -> int:
        return sum(number for status, number in self.counts.items() if Status(status).ended)

    def line(self) -> str:
        """In one line, for a log."""
        count = self.counts.get
        failed = sum(count(status, 0) for status in (Status.DIVERGED, Status.OUT_OF_MEMORY, Status.FAILED))
        parts = [
            f"{self.phase}: {self.ended} of {self.planned} trials ended",
            *self._under_way(),
            f"{count(Status.COMPLETE, 0)} complete",
            f"{count(Status.STOPPED, 0)} stopped",
            *([f"{failed} failed"] if failed else []),
            f"{self.epochs} epochs",
            *([self._speed()] if self.images_per_second else []),
            *([f"best {self.searched.show(self.best)}"] if self.best is not None else []),
            *([self._left()] if self.left is not None else []),
        ]
        return " · ".join([*parts, *self._also_shared()])

    def table(self, width: int) -> RenderableType:
        """For a terminal of `width` columns."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        told = f"{self.ended} of {self.planned}"
        bar = max(5, min(BAR, width - len(told) - 3))
        grid.add_row(told, ProgressBar(total=max(self.planned, 1), completed=self.ended, width=bar))
        grid.add_row("phase", STAGES[self.phase])
        grid.add_row("trials", self._trials())
        for line in self._also_shared():
            grid.add_row("cluster", line)
        if self.looks:
            grid.add_row("looks", self.looks)
        best = f"{self.searched.show(self.best)} validation" + f" {self.searched.short}".removesuffix(" accuracy")
        grid.add_row("best", f"{best}, trial {self.best_trial}" if self.best is not None else "–")
        grid.add_row("speed", f"{self.epochs} epochs, {self._speed() if self.images_per_second else '–'}")
        times = [duration(self.elapsed)] if self.elapsed is not None else []
        grid.add_row("time", ", ".join(times + ([self._left()] if self.left is not None else [])) or "–")
        return Group(grid)

    def _under_way(self) -> list[str]:
        if self.paused:
            return [f"paused, {self.waiting} waiting" if self.waiting else "paused"]
        over = self.ended >= self.planned and not self.starting
        found = [] if over and not self.working else [f"{self.working} running"]
        found += [f"{self.starting} starting"] if self.starting else []
        if self.asked:
            return [f"{self.asked}s after this epoch", *found]
        if self.waiting == 1 and self.working + self.starting:  # Tune queues one ahead
            return [*found, "1 queued"]
        return found + ([f"{self.waiting} waiting for {self.waits_for or 'a worker'}"] if self.waiting else [])

    def _also_shared(self) -> list[str]:
        """Who else runs on the cluster, unless what the trials wait for says so."""
        told = any(self.shared in part for part in self._under_way())
        return [self.shared] if self.shared and not told else []

    def _speed(self) -> str:
        return f"{self.images_per_second:,.0f} images/s"

    def _left(self) -> str:
        return f"about {duration(self.left or 0.0)} left{', then confirming' if self.then_confirming else ''}"

    def _trials(self) -> Text:
        text = Text("  ".join(self._under_way()), style="bold")
        for status, number in sorted(self.counts.items()):
            if status not in (Status.WAITING, Status.RUNNING):
                text.append(f"  {number} {status.replace('_', ' ')}", style=COLOURS.get(Status(status), "red"))
        return text
