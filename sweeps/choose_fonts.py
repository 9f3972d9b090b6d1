"""Link one font from each of many families into FOLDER, for a study of glyphs such as font-transfer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnetlab.cli.exit_codes import report_errors, run_app
from resnetlab.cli.fonts import link_fonts

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__, epilog="Example: python sweeps/choose_fonts.py 153 fonts")
def main(
    count: Annotated[
        int, typer.Argument(metavar="COUNT", help="number of fonts, including those that matplotlib ships", min=1)
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="output folder: empty, or not existing yet")],
    fonts: Annotated[Path, typer.Option(help="folder to search for fonts")] = Path("/usr/share/fonts"),
) -> None:
    with report_errors():
        link_fonts(count, folder, fonts)


if __name__ == "__main__":
    run_app(app)
