"""`resnetlab new`: write a commented study file for a folder of images, or for a network or other code of your own."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from resnetlab.cli.exit_codes import report_errors
from resnetlab.commands import command, short
from resnetlab.errors import BadRequest
from resnetlab.paths import user_path, writable_folder

EXAMPLE = "photographs --output study.yaml"
REFERENCE = re.compile(r"(?:[^:]+\.py|[A-Za-z_]\w*(?:\.\w+)*):[A-Za-z_]\w*")  # `file.py:name`, `package.module:name`


def main(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="folder of images, train/<class>/<image>; own code, file.py:name; or a name that a package registers",
        ),
    ],
    output: Annotated[Path, typer.Option(help="file to write the study to")] = Path("study.yaml"),
) -> None:
    """Look at a folder of images, or at code of your own, and write a commented study of it that runs as it is."""
    with report_errors():
        new_study(source, output)


def new_study(source: str, output: Path) -> None:
    """Write a study for `source` to the file `output`, and print what to do with it.

    Args:
        source: path of a folder of images; or a network, loss, augmentation, optimizer, schedule, dataset, metric,
            task, sampler or stopping rule, as `file.py:name` or `package.module:name`, or by the short name that an
            installed package registers.
        output: file to write, which must not exist yet.

    Raises:
        BadRequest: `source` cannot be studied, or `output` exists or cannot be written.
        BadData: the folder is not `train/<class>/<image>`, or an image in it cannot be read.
    """
    file = user_path(output, "--output")
    if file.suffix not in (".yaml", ".yml"):
        raise BadRequest(f"--output {output}: need a name that ends in .yaml or .yml")
    if file.exists():
        raise BadRequest(f"--output {output}: exists already (allowed: a file that does not)")
    text = _text_for(source, file.parent)
    writable_folder(file.parent, "--output")
    file.write_text(text, encoding="utf-8")
    shown = short(str(file))
    print(f"{shown}: see what it would do: {command('sweep', '--study', shown, '--dry-run')}")
    print(f"{' ' * len(shown)}  run it:               {command('sweep', '--study', shown)}")


def _text_for(source: str, place: Path) -> str:
    """The text of a study of `source`, to be written into the folder `place`."""
    folder = user_path(source, "SOURCE")
    from resnetlab.experiment import recognise

    if not folder.is_dir() and (REFERENCE.fullmatch(source) or source.endswith(".py") or recognise.registered(source)):
        from resnetlab.vision import reference_template

        return reference_template.study_text(recognise.recognise(_seen_from(place, source), place))
    from resnetlab.vision import study_template

    return study_template.study_text(study_template.look(folder))


def _seen_from(place: Path, source: str) -> str:
    """A reference to a file, relative to the folder `place`."""
    file, colon, name = (source, "", "") if source.endswith(".py") else source.rpartition(":")
    return os.path.relpath(Path(file).absolute(), place) + colon + name if file.endswith(".py") else source
