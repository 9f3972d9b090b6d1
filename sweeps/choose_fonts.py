"""Link one face of each of COUNT font families into FOLDER, for font-transfer on as many fonts as a study can learn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnetlab import cli
from resnetlab.errors import BadRequest
from resnetlab.paths import user_path, writable_folder
from resnetlab.vision.data.fonts import choose, font_files, usable

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    count: Annotated[int, typer.Argument(help="fonts in all, with those that matplotlib ships", min=1)],
    folder: Annotated[Path, typer.Argument(help="a folder that is empty or not there yet")],
    fonts: Annotated[Path, typer.Option(help="where fonts are looked for")] = Path("/usr/share/fonts"),
) -> None:
    with cli.endings():
        folder, fonts = user_path(folder, "FOLDER"), user_path(fonts, "--fonts")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BadRequest(f"{folder}: need a folder that is empty or not there yet")
        shipped = usable(font_files(None)).paths
        chosen, families = choose(usable(font_files(fonts)).paths, shipped, count)
        writable_folder(folder, "FOLDER")
        for name, path in chosen.items():
            (folder / f"{name}{path.suffix}").symlink_to(path.resolve())
        print(f"{len(chosen)} of {families} families in {fonts}, and matplotlib's {len(shipped)} fonts: {folder}")


if __name__ == "__main__":
    cli.start(app)
