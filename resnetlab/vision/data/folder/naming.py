"""What the path of an image says: a folder above it, or what a regular expression finds in it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

from resnetlab.errors import BadData
from resnetlab.vision.data.folder.listing import listed, read_utf8

FIRST = 5  # examples that a message gives


class Rule:
    """Reads one text from a path: the name of a folder, or the groups of a regular expression.

    rule: a level (1: the first folder below the split's, -1: the one that the image lies in), or an expression that is
    searched for in the path from the root on; key: the setting, for messages. BadData where there is no such rule.
    """

    def __init__(self, rule: str, key: str) -> None:
        self.key = f"dataset.{key}"
        self.rule: int | str = int(rule) if re.fullmatch(r"-?[0-9]+", rule) else rule
        self._pattern: re.Pattern[str] | None = None
        if isinstance(self.rule, int):
            if not self.rule:
                raise BadData(
                    f"{self.key}: 0 is no level of folders (allowed: 1, 2, … from above, -1, -2, … from below)"
                )
            return
        try:
            self._pattern = re.compile(rule)
        except re.error as error:
            raise BadData(f"{self.key}: {rule!r} is no regular expression: {error}") from None
        if not self._pattern.groups:
            raise BadData(
                f"{self.key}: {rule!r} has no group: put what is to be read in parentheses, e.g. '([a-z]+)_\\d+'"
            )

    def all_of(self, paths: Sequence[str], tops: Sequence[str], whole: bool = False) -> list[str]:
        """The text of each path. BadData that counts the paths that have none, with the first of them.

        paths: from the root on; tops: of each, the part of it that is the split's folder. whole: of a folder, all
        names down to it, so that folders of one name in two places are two.
        """
        found, without = [], []
        for path, top in zip(paths, tops, strict=True):
            text = self._of(path, top, whole)
            found.append(text or "")
            if not text:
                without.append(path)
        if without:
            what = "are not that deep" if isinstance(self.rule, int) else "do not match, or match with an empty group"
            raise BadData(
                f"{self.key}: {self.rule!r}: {len(without):,} of {len(paths):,} images {what}: {listed(without, FIRST)}"
            )
        return found

    def _of(self, path: str, top: str, whole: bool) -> str | None:
        if self._pattern is not None:
            match = self._pattern.search(path)
            return "/".join(part for part in match.groups() if part) if match else None
        folders = path[len(top) :].strip("/").split("/")[:-1]
        level = int(self.rule)
        at = level - 1 if level > 0 else len(folders) + level
        if not 0 <= at < len(folders):
            return None
        return "/".join(folders[: at + 1]) if whole else folders[at]


def readable(file: Path, classes: Sequence[str]) -> tuple[str, ...]:
    """The name that `file` gives to each class. BadData where one has none, or two have the same.

    file: JSON, `{class: name}`; else lines of class and name, with a tab or a comma between.
    """
    where = f"dataset.class_names: {file}"
    text = read_utf8(file, where)
    names: dict[str, str] = {}
    if file.suffix.lower() == ".json":
        try:
            content = json.loads(text)
        except ValueError as error:
            raise BadData(f"{where}: not JSON ({error})") from None
        if not isinstance(content, dict):
            raise BadData(f"{where}: is a {type(content).__name__} (need an object, class: name)")
        names = {str(key): str(value) for key, value in content.items()}
    else:
        lines = text.splitlines()
        between = "\t" if any("\t" in line for line in lines[:10]) else ","
        for row in csv.reader(lines, delimiter=between):
            if len(row) > 1:
                names.setdefault(row[0].strip(), row[1].strip())
    if missing := [name for name in classes if not names.get(name)]:
        raise BadData(f"{where}: no name for {len(missing):,} of {len(classes):,} classes: {listed(missing, FIRST)}")
    found = tuple(names[name] for name in classes)
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise BadData(f"{where}: several classes are called {listed(twice, FIRST)}")
    return found
