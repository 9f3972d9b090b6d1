"""The studies that come with the package: files in `resnetlab/studies`, those of published texts in `published`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from resnetlab.errors import BadRequest
from resnetlab.paths import user_path

STUDIES = Path(str(resources.files("resnetlab") / "studies"))
PUBLISHED = STUDIES / "published"


def study_names() -> list[str]:
    """Names of the included studies, those of published texts left out, in alphabetical order."""
    return sorted(file.stem for file in STUDIES.glob("*.yaml"))


def study_file(name: str, option: str) -> Path:
    """The file that `name` means: the path of a .yaml or .yml file, or the name of an included study.

    Raises:
        BadRequest: no such file, or no such study; the message begins with `option`.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        user_path(name, option)
        if not path.is_file():
            raise BadRequest(f"{option} {name}: no such file")
        return path
    path = STUDIES / f"{name}.yaml"
    if "/" in name or not path.is_file():
        known = ", ".join(study_names()) or "none"
        raise BadRequest(f"{option} {name}: no such study in {STUDIES.name}/ (allowed: {known}, or a .yaml file)")
    return path
