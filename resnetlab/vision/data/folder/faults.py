"""All images of a set that cannot be used, said at once: one in a sentence, several in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnetlab.errors import BadData
from resnetlab.vision.data.folder.listing import below

NAMED = 3  # files of one kind that a table names
KINDS = 12  # rows of a table


@dataclass(frozen=True)
class Fault:
    """A file that cannot be used. kind: what is wrong, the same for all files of which it is; said: the whole sentence;
    setting: what could be set to use it as it is."""

    path: str
    kind: str
    said: str
    setting: str = ""


class Faulty(BadData):
    """Images that cannot be used. of: images that were looked at, 0 where that is not all; allowed: `dataset.skip`."""

    def __init__(self, faults: Sequence[Fault], of: int, root: Path | None = None, allowed: int = 0) -> None:
        self.faults, self.of, self.root = list(faults), of, root
        super().__init__(self._text(allowed))

    def kinds(self) -> dict[str, list[Fault]]:
        """The faults by kind, the most frequent first."""
        found: dict[str, list[Fault]] = {}
        for fault in self.faults:
            found.setdefault(fault.kind, []).append(fault)
        return dict(sorted(found.items(), key=lambda one: (-len(one[1]), one[0])))

    def as_notes(self) -> dict[str, Any]:
        """For the record: how many, of which kinds, and which files."""
        kinds = {kind: len(faults) for kind, faults in self.kinds().items()}
        files = [self._name(fault) for fault in self.faults]
        return {"count": len(files), "of": self.of, "kinds": kinds, "files": files}

    def _name(self, fault: Fault) -> str:
        return below(self.root, fault.path) if self.root else fault.path

    def _text(self, allowed: int) -> str:
        count = len(self.faults)
        if count == 1 and not allowed:
            return self.faults[0].said
        kinds = self.kinds()
        width = max(len("what is wrong"), *(len(kind) for kind in list(kinds)[:KINDS]))
        rows = [f"{'images':>8}  {'what is wrong':<{width}}  first"]
        for kind, faults in list(kinds.items())[:KINDS]:
            names = ", ".join(self._name(fault) for fault in faults[:NAMED]) + ", …" * (len(faults) > NAMED)
            rows.append(f"{len(faults):>8,}  {kind:<{width}}  {names}")
        if len(kinds) > KINDS:
            rest = sum(len(faults) for faults in list(kinds.values())[KINDS:])
            rows.append(f"{rest:>8,}  of {len(kinds) - KINDS:,} other kinds")
        of = f" of {self.of:,}" if self.of else ""
        more = f", and dataset.skip allows {allowed:,}" if allowed else ""
        settings = list(dict.fromkeys(fault.setting for fault in self.faults if fault.setting))
        advice = [*settings, "repair or remove them", f"or go on without them: dataset.skip: {count}"]
        place = f"{self.root}: " if self.root else ""
        return "\n".join([f"{place}{count:,}{of} images cannot be used{more}:", *rows, "; ".join(advice)])
