"""`resnetlab serve`: the studies of a folder in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from resnetlab.cli.exit_codes import report_errors

EXAMPLE = "results"


def main(
    place: Annotated[
        str, typer.Argument(metavar="RESULTS", help="folder of results folders, or one of them; or a URL")
    ] = "results",
    port: Annotated[int, typer.Option(help="port on 127.0.0.1; 0 for any that is free")] = 8642,
    read_only: Annotated[bool, typer.Option("--read-only", help="no page can pause or stop a sweep")] = False,
) -> None:
    """Show the studies of a folder in a browser, and follow those that run. Prints the URL; Ctrl-C ends it.

    Works on any machine that can read the folder. Needs neither torch nor Ray.
    """
    with report_errors():
        from resnetlab.web.server import serve

        serve(place, port, read_only)
