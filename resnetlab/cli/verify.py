"""`resnetlab verify`: an archive of `resnetlab export --archive` checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnetlab import console
from resnetlab.cli import options
from resnetlab.cli.exit_codes import report_errors
from resnetlab.paths import user_path

EXAMPLE = "default.zip"


def main(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="zip file of resnetlab export --archive")],
    json: options.Json = False,
) -> None:
    """Check an archive: its hashes, that the plan came before its runs, and that tables and report say the same.

    An archive in which a single byte was altered is refused, and the file is named. Needs neither torch nor Ray.
    """
    with report_errors():
        from resnetlab.writeup.archive import verify

        found = verify(user_path(archive, "ARCHIVE"))
        if json:
            console.print_json(
                {"study": found.study, "plan": found.plan, "sha256": found.sha256, "checked": list(found.lines)}
            )
            return
        print(f"{found.study}: all checks passed, plan {found.plan}\nsha256: {found.sha256}")
        for line in found.lines:
            print(f"  {line}")
