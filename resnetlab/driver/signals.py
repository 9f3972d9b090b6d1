"""Signals that end a sweep in order."""

from __future__ import annotations

import signal
import threading
from typing import Any

from resnetlab.errors import Interrupted
from resnetlab.provenance import command_line


class Signals:
    """SIGINT, SIGTERM and SIGHUP end the sweep in order: what ran is kept and goes on when the sweep is continued.

    While Tune's loop runs, a signal is kept until the next round: an exception in the midst of Ray's compiled code
    comes out as something else. A second signal does not wait.

    When Ray starts it takes SIGTERM for itself: with a Python handler that ends the process, and a compiled one
    under it that has it killed three seconds later by an alarm. So `listen` is called again once Ray runs.

    Python lets only the main thread handle signals: a sweep in another leaves them to whoever runs it.
    """

    NAMES = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.wait = False
        self._caught: signal.Signals | None = None

    def __enter__(self) -> Signals:
        handlers = {name: signal.getsignal(name) for name in self.NAMES}
        taken = threading.current_thread() is threading.main_thread()
        self._before = {
            name: handler
            for name, handler in handlers.items()
            if taken and handler is not signal.SIG_IGN  # nohup
        }
        self.listen()
        return self

    def listen(self) -> None:
        """From now on, a signal comes here first."""
        for name in self._before:
            signal.signal(name, self._catch)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        signal.alarm(0)
        for name, handler in self._before.items():
            signal.signal(name, handler)
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:  # while Ray started
            self._caught = signal.SIGTERM
            self.check()

    def _catch(self, number: int, frame: Any) -> None:
        signal.alarm(0)
        again = self._caught is not None
        self._caught = signal.Signals(number)
        if again or not self.wait:
            self.check()

    def check(self) -> None:
        """Raise Interrupted where a signal has come."""
        if self._caught is not None:
            raise Interrupted(f"interrupted by {self._caught.name}; {continue_hint()}")


def continue_hint() -> str:
    command = command_line().replace(" --retry-failed", "")
    return f"continue with: {command}" if command else "run the same study again to continue it"
