"""`resnetlab fonts`: link one font from each of many families into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resnetlab.cli.exit_codes import report_errors
from resnetlab.errors import BadRequest
from resnetlab.paths import user_path, writable_folder
from resnetlab.vision.data.fonts import choose, font_files, usable

EXAMPLE = "153 fonts"


def main(
    count: Annotated[
        int, typer.Argument(metavar="COUNT", help="number of fonts, including those that matplotlib ships", min=1)
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="output folder: empty, or not existing yet")],
    fonts: Annotated[Path, typer.Option(help="folder to search for fonts")] = Path("/usr/share/fonts"),
) -> None:
    """Link one font from each of many families into FOLDER, for a study of glyphs such as font-transfer."""
    with report_errors():
        link_fonts(count, folder, fonts)


def link_fonts(count: int, folder: Path, fonts: Path) -> None:
    """Link one font per family from `fonts` into `folder`, `count` in all with those that matplotlib ships.

    Raises BadRequest if `folder` is not empty or `fonts` has too few families.
    """
    folder, fonts = user_path(folder, "FOLDER"), user_path(fonts, "--fonts")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadRequest(f"FOLDER {folder}: need an empty folder, or one that does not exist yet")
    shipped = usable(font_files(None)).paths
    chosen, families = choose(usable(font_files(fonts)).paths, shipped, count)
    writable_folder(folder, "FOLDER")
    for name, path in chosen.items():
        (folder / f"{name}{path.suffix}").symlink_to(path.resolve())
    print(f"{folder}: {len(chosen)} fonts from {families} families in {fonts}; matplotlib adds {len(shipped)}")
