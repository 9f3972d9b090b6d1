"""The versions of a study that was extended: study.json is the newest, `versions/1.json` the one that ran first."""

from __future__ import annotations

from typing import Any

from resnetlab.storage.layout import VERSIONS
from resnetlab.storage.results_folder import ResultsFolder

NUMBER = f"{VERSIONS}/number.json"


def number(folder: ResultsFolder) -> int:
    """The version of study.json, from 1."""
    content = folder.read_json(NUMBER) or {}
    return int(content.get("number", 1))


def earlier(folder: ResultsFolder) -> list[dict[str, Any]]:
    """The studies that ran before the one in study.json, oldest first, as study.json had them."""
    found = (folder.read_json(_kept(version)) for version in range(1, number(folder)))
    return [content for content in found if content is not None]


def keep(folder: ResultsFolder) -> None:
    """Keep study.json as it is now: call this before a newer one is written, and `settle` after it."""
    if (held := folder.read("study.json")) is not None:
        folder.write(_kept(number(folder)), held)


def settle(folder: ResultsFolder) -> None:
    """Count the version that was written after `keep`, also where its process was killed before it could; none, if it
    was killed before it wrote study.json."""
    now = number(folder)
    kept = folder.read(_kept(now))
    if kept is not None and kept != folder.read("study.json"):
        folder.write_json(NUMBER, {"number": now + 1})


def _kept(version: int) -> str:
    return f"{VERSIONS}/{version}.json"
