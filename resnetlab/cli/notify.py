"""`--notify COMMAND`: a command of the user's is run when a sweep ends, fails or waits, with JSON of what happened on
its standard input.

Events: `finished`, `failed`, `interrupted`, and `waiting` once for each time that trials wait and none has had a worker
for `PATIENCE` seconds. What the command does, or that it fails, changes nothing about the sweep.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from resnetlab.errors import BadRequest, Interrupted, ResnetlabError
from resnetlab.provenance import without_secrets

if TYPE_CHECKING:
    from resnetlab.driver.live_view import LiveView
    from resnetlab.report.terminal import Told
    from resnetlab.sweep.state_machine import Sweep

PATIENCE = 60.0  # seconds without a worker before that is told
LIMIT = 60.0  # seconds that the command may take


@dataclass
class Notifier:
    """Tells `command`, a line for the shell, of one study's run; tells nobody where it is empty.

    study, place: names and folder, as every event has them. say: hears of a command that fails.
    """

    command: str
    study: str
    place: str
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)

    @classmethod
    def of(cls, command: str | None, study: str, place: str) -> Notifier:
        """BadRequest where the command is empty."""
        if command is not None and not command.strip():
            raise BadRequest("--notify: is empty (allowed: a command, e.g. 'cat >> events.jsonl')")
        return cls(command or "", study, without_secrets(place))

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Tell what ends the block otherwise than by itself."""
        try:
            yield
        except BaseException as error:
            self.failed(error)
            raise

    def finished(self, said: Told) -> None:
        """The sweep has ended and has its report."""
        self.tell("finished", f"{said.lead} {said.best}", summary=said.as_json())

    def failed(self, error: BaseException) -> None:
        """It ended otherwise: with an error of ours, or one that nobody foresaw."""
        if isinstance(error, Interrupted | KeyboardInterrupt):
            self.tell("interrupted", str(error) or "interrupted", code=Interrupted.exit_code)
            return
        code = error.exit_code if isinstance(error, ResnetlabError) else 1
        self.tell("failed", str(error) or type(error).__name__, code=code, error=type(error).__name__)

    def waiting(self, wanted: str, trials: int) -> None:
        """Trials have no worker. Returns at once; the command runs beside the sweep."""
        more = {"for": wanted, "trials": trials}
        threading.Thread(target=self.tell, args=("waiting", f"waits for {wanted}"), kwargs=more, daemon=True).start()

    def tell(self, event: str, message: str, **more: Any) -> None:
        """Run the command and wait for it, `LIMIT` seconds at most."""
        if not self.command:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        content: Mapping[str, Any] = {
            "event": event, "study": self.study, "folder": self.place, "time": now,
            "message": without_secrets(message), **more,
        }  # fmt: skip
        env = os.environ | {"RESNETLAB_EVENT": event, "RESNETLAB_STUDY": self.study}
        try:
            done = subprocess.run(
                self.command, shell=True, input=json.dumps(content) + "\n", text=True, env=env, timeout=LIMIT,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            self.say(f"note: --notify: the command for {event!r} took more than {LIMIT:.0f} s and was ended")
            return
        except OSError as error:
            self.say(f"note: --notify: the command for {event!r} could not be run: {error.strerror or error}")
            return
        if done.returncode:
            last = (done.stdout.strip().splitlines() or ["it printed nothing"])[-1]
            self.say(f"note: --notify: the command for {event!r} ended with code {done.returncode}: {last}")


def view(notifier: Notifier) -> Callable[[Sweep], LiveView]:
    """The live view of a sweep, which tells the notifier when trials wait and none has had a worker for long."""
    from resnetlab.driver.live_view import LiveView

    class Watching(LiveView):
        def __init__(self, sweep: Sweep):
            super().__init__(sweep)
            self._since: float | None = None
            self._told = False

        def update(self) -> None:
            super().update()
            sweep, now = self._sweep, time.monotonic()
            wanted = sweep.waits_for if len(sweep.running) == len(sweep.waiting) else ""  # Tune queues one ahead
            if not wanted:
                self._since, self._told = None, False
                return
            self._since = now if self._since is None else self._since
            if not self._told and now - self._since >= PATIENCE:
                self._told = True
                notifier.waiting(wanted, sweep.queued)

    return Watching if notifier.command else LiveView
