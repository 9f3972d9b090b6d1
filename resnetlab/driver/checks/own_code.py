"""Store a study's own code in its results folder, and compare it when a sweep continues.

`code/<hash>/` holds the files of one version and the description of its parts; `code/accepted.json` the changes that
were accepted after results existed.
"""

from __future__ import annotations

from typing import Any

from resnetlab.errors import FolderRefused
from resnetlab.experiment.source import Source, changed
from resnetlab.storage.layout import CODE
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import Study, differences
from resnetlab.study.parts import OwnCode

ACCEPTED = "accepted.json"


def source(study: Study) -> Source | None:
    """The code that the study was loaded with; None if it has none of its own."""
    return Source(study.code, study.own.folder) if study.own.parts else None


def version(study: Study) -> str:
    """The version of the code, which names its folder below `code/`; empty if the study has no own code."""
    return study.own.source[:12]


def _place(folder: ResultsFolder, source_hash: str) -> ResultsFolder:
    return folder.sub(CODE).sub(source_hash[:12])


def read(folder: ResultsFolder, source_hash: str) -> tuple[OwnCode, Source]:
    """Read one version of the code from the results folder. FolderRefused if it is absent or was edited."""
    place = _place(folder, source_hash)
    code, own = Source.read(place), place.read_json("own.json")
    if code is None or own is None:
        raise FolderRefused(f"{place.url}: the study's own code is not in the results folder")
    return OwnCode(**own), code


def accept(study: Study, folder: ResultsFolder, accepted: bool) -> list[str]:
    """Compare the study's code with that of the folder's results; returns the changes as lines.

    accepted: whether the user accepts changed code. Raises FolderRefused for changes that are not accepted, and for
    changed settings, with which old and new results would not compare.
    """
    recorded = (folder.read_json("study.json") or {}).get("own")
    before = OwnCode(**recorded) if recorded else OwnCode()
    settings = differences(_settings(before), _settings(study.own), words="{} then, {} now")
    if not before.parts or (before.source == study.own.source and not settings):
        return []
    now = Source(study.code, study.own.folder)
    lines = [str(change) for change in changed(read(folder, before.source)[1], now)]
    message = "\n  ".join([f"{folder.url}: the study's own code has changed since its results were begun:", *lines])
    if settings:
        advice = "\nits settings are others: use another --name, or undo"
        raise FolderRefused("\n  ".join([message, *settings]) + advice)
    if not accepted:
        raise FolderRefused(f"{message}\nundo this, use another --name, or accept it with --accept-changed-code")
    return lines


def _settings(own: OwnCode) -> dict[str, Any]:
    return {
        part.text: {name: setting.model_dump(exclude={"description"}) for name, setting in part.settings.items()}
        | ({"stages": ", ".join(part.stages)} if part.stages else {})
        for part in own.parts
    }


def holds(folder: ResultsFolder, study: Study) -> bool:
    """Whether the folder has results of this very code."""
    return _place(folder, study.own.source).read_json("own.json") is not None


def keep(folder: ResultsFolder, study: Study, changes: list[str]) -> None:
    """Write the study's code into the folder. changes: the accepted ones, for the report."""
    if not study.own.parts:
        return
    place = _place(folder, study.own.source)
    if not holds(folder, study):
        Source(study.code, study.own.folder).write(place)
        place.write_json("own.json", study.own.model_dump(mode="json"))
    if changes:
        earlier = (folder.sub(CODE).read_json(ACCEPTED) or {}).get("changes", [])
        content = [*earlier, {"to": study.own.source, "changes": changes}]
        folder.sub(CODE).write_json(ACCEPTED, {"changes": content})
