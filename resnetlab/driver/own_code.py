"""A study's own code in its results folder: kept there by version, compared before a sweep goes on, and tried out.

`code/<hash>/` holds the files of one version with the description of its parts; `code/accepted.json` the changes that
were accepted while results existed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from resnetlab.errors import BadRequest, FolderRefused
from resnetlab.experiment.source import Source, changed
from resnetlab.storage.layout import CODE
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import Study, differences
from resnetlab.study.parts import OwnCode
from resnetlab.study.records import ModelFacts
from resnetlab.study.trial_config import TrialConfig

SECONDS = 120.0  # that all networks of a study may take to be built and tried, together
ACCEPTED = "accepted.json"


def source(study: Study) -> Source | None:
    """The code that the study was loaded with; None where it brings none."""
    return Source(study.code, study.own.folder) if study.own.parts else None


def version(study: Study) -> str:
    """The name of the code's version, below `code/`; empty where the study brings none."""
    return study.own.source[:12]


def _place(folder: ResultsFolder, source_hash: str) -> ResultsFolder:
    return folder.sub(CODE).sub(source_hash[:12])


def kept(folder: ResultsFolder, source_hash: str) -> tuple[OwnCode, Source]:
    """A version of the code that is in the folder. FolderRefused where it is absent or was edited."""
    place = _place(folder, source_hash)
    found, own = Source.read(place), place.read_json("own.json")
    if found is None or own is None:
        raise FolderRefused(f"{place.url}: the study's own code is not in the results folder")
    return OwnCode(**own), found


def accept(study: Study, folder: ResultsFolder, accepted: bool) -> list[str]:
    """What has changed in the code since the folder's results were begun, as lines; none where nothing has.

    Raises FolderRefused where something has that was not accepted, or that no results of before could stand beside.
    """
    held = (folder.read_json("study.json") or {}).get("own")
    before = OwnCode(**held) if held else OwnCode()
    settings = differences(_settings(before), _settings(study.own), words="{} then, {} now")
    if not before.parts or (before.source == study.own.source and not settings):
        return []
    now = Source(study.code, study.own.folder)
    lines = [str(change) for change in changed(kept(folder, before.source)[1], now)]
    said = "\n  ".join([f"{folder.url}: the study's own code has changed since its results were begun:", *lines])
    if settings:
        raise FolderRefused("\n  ".join([said, *settings]) + "\nits settings are others: use another --name, or undo")
    if not accepted:
        raise FolderRefused(f"{said}\nundo this, use another --name, or accept it with --accept-changed-code")
    return lines


def _settings(own: OwnCode) -> dict[str, Any]:
    return {
        part.text: {name: setting.model_dump(exclude={"description"}) for name, setting in part.settings.items()}
        | ({"stages": ", ".join(part.stages)} if part.stages else {})
        for part in own.parts
    }


def keep(folder: ResultsFolder, study: Study, changes: list[str]) -> None:
    """Write the code into the folder. changes: that were accepted, which the report shows."""
    if not study.own.parts:
        return
    place = _place(folder, study.own.source)
    if place.read_json("own.json") is None:
        Source(study.code, study.own.folder).write(place)
        place.write_json("own.json", study.own.model_dump(mode="json"))
    if changes:
        earlier = (folder.sub(CODE).read_json(ACCEPTED) or {}).get("changes", [])
        content = [*earlier, {"to": study.own.source, "changes": changes}]
        folder.sub(CODE).write_json(ACCEPTED, {"changes": content})


Sized = tuple[TrialConfig, tuple[int, int, int], int]  # with the shape (H, W, C) of its images, and classes


def tried(
    study: Study, configs: Iterable[Sized], cache: Path | None = None, others: Iterable[Sized] = ()
) -> list[ModelFacts]:
    """The sizes of the networks of `configs`.

    cache: of datasets that are prepared; then one batch is trained too, and a checkpoint made. others: networks that
    are built, and of which the smallest and the largest are tried so. All of it happens in a process of its own under a
    time limit. BadRequest, in the words of the user's code, for what is wrong.
    """
    found = source(study)
    assert found is not None
    items, more = (
        [{"config": config.model_dump(mode="json"), "shape": shape, "classes": n} for config, shape, n in each]
        for each in (configs, others)
    )
    job = {
        "own": study.own.model_dump(mode="json"),
        "code": dict(found.files),
        "items": items,
        "others": more,
        "cache": None if cache is None else str(cache),
    }
    answer = _asked(job)
    if "problem" in answer:
        raise BadRequest(f"{study.name}: {answer['problem']}")
    return [ModelFacts(**facts) for facts in answer["facts"]]


def _asked(job: Mapping[str, Any]) -> dict[str, Any]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.Popen(
        [sys.executable, "-m", "resnetlab.vision.rehearsal"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        start_new_session=True,
    )
    try:
        out, said = child.communicate(json.dumps(job).encode(), SECONDS)
    except subprocess.TimeoutExpired:
        return {"problem": f"its own code took more than {SECONDS:g} s to build its networks and train one batch"}
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    lines = out.decode("utf-8", "replace").splitlines()
    if not lines:
        last = "\n".join(said.decode("utf-8", "replace").splitlines()[-5:])
        return {"problem": f"Python ended ({child.returncode}) when its own code was tried\n{last}".rstrip()}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
