"""Turn errors into one message and an exit code, for every command. `resnetlab.errors` defines the codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from resnetlab import console
from resnetlab.errors import BadRequest, Interrupted, ResnetlabError
from resnetlab.provenance import without_secrets

EXIT_CODES = (
    "Exit codes: 0 done, 1 trials failed (no result, or a planned comparison is missing), 2 bad request, 3 bad data, "
    "4 results folder refused, 75 cluster or storage lost (try again), 130 interrupted."
)


def run_app(app: Callable[[], Any]) -> None:
    """Run the Typer app of a command, on standard streams whose failure stops no work (`resnetlab.console`)."""
    with console.streams():
        app()


@contextmanager
def report_errors() -> Iterator[None]:
    """Wrap the whole body of a command: print a ResnetlabError to stderr, without secrets, and exit with its code.

    Raises:
        SystemExit: with the error's exit code; with 130 for Ctrl-C.
    """
    try:
        _check_current_folder()
        yield
    except Interrupted as error:
        _exit(f"\n{error}", error.exit_code)
    except ResnetlabError as error:
        _exit(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _exit("\ninterrupted", Interrupted.exit_code)


def _check_current_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise BadRequest("the current folder has been deleted: change to one that exists") from None


def _exit(message: str, code: int) -> NoReturn:
    print(without_secrets(message), file=sys.stderr)
    sys.exit(code)
