"""The command `resnetlab`, and each of its subcommands as a script of `sweeps/`.

A subcommand is a module of `resnetlab.cli` with a function `main`, whose arguments are its options, and an `EXAMPLE`.
It is imported when it is called, so that none waits for what another needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from resnetlab.cli.exit_codes import EXIT_CODES, run_app

COMMANDS = (
    "sweep",
    "status",
    "serve",
    "pause",
    "resume",
    "stop",
    "report",
    "trial",
    "export",
    "verify",
    "compare",
    "analyse",
    "reproduce",
    "calibrate",
    "new",
    "fonts",
)


def app_of(name: str, called: str) -> typer.Typer:
    """The Typer app of one subcommand; `called` is how its example spells it."""
    module = import_module(f"resnetlab.cli.{name}")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name, epilog=f"Example: {called} {module.EXAMPLE}\n\n{EXIT_CODES}")(module.main)
    return app


def script(name: str, file: str) -> typer.Typer:
    """The app of the script `file` in `sweeps/`, with the options of `resnetlab NAME`."""
    return app_of(name, f"python sweeps/{file}")


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        return typer.main.get_command(app_of(cmd_name, f"{ctx.command_path} {cmd_name}"))


app = typer.Typer(cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def resnetlab() -> None:
    """Ablation studies with conclusions you can check: explore with Optuna and ASHA, confirm on fresh seeds, report."""


def main() -> None:
    """Run the command that the command line names."""
    run_app(app)
