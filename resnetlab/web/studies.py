"""The studies in a folder, read again as they change.

A `Watched` study is read by whoever shows its page; `Studies` reads all of them, one after another in a thread of its
own, for the list of studies. Nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Any

from resnetlab.analysis.results import Results
from resnetlab.analysis.sweep_status import SweepStatus
from resnetlab.commands import short
from resnetlab.errors import FolderRefused, ResnetlabError
from resnetlab.report.answer import answer
from resnetlab.report.findings import Findings
from resnetlab.report.terminal import Told, told
from resnetlab.storage.layout import CODE, ERRORS, PLANS, PRINTED, VERSIONS
from resnetlab.storage.results_folder import ResultsFolder

DEPTH = 2  # folders below the given one that a study may lie in: results/reference/default
PACE = {True: 1.0, False: 5.0}  # seconds between two looks at a folder: on a disk, behind a URL
SHARE = 0.05  # of the time, at most, that reading one study's tables may take
KEPT = 60.0  # seconds that the tables of a study stay in memory once no page shows them
LOG_BYTES = 64_000  # of a trial's log that its page shows: the last ones
LOGS = (ERRORS, PRINTED)
SUBS = ("segments", "lease", *LOGS)  # subfolders that change while a sweep runs
STILL = (VERSIONS, PLANS, CODE)  # further subfolders of which a report reads the files


@dataclass(frozen=True)
class Log:
    """text: the last `LOG_BYTES` of a file. size: of all of it, in bytes."""

    text: str
    size: int

    @property
    def cut(self) -> bool:
        return self.size > LOG_BYTES


@dataclass(frozen=True)
class Summary:
    """A study in the list. words: its first conclusion. problem: why it cannot be read, `` where it can; the rest is
    empty then."""

    title: str = ""
    state: str = ""
    standing: SweepStatus | None = None
    words: str = ""
    failed: int = 0  # trials
    driven: bool = False  # by a driver that is alive
    problem: str = ""


class Watched:
    """One study of the folder `root`. Several threads may ask it."""

    def __init__(self, name: str, folder: ResultsFolder, root: ResultsFolder):
        self.name, self.folder, self._root = name, folder, root
        self.changed = 0  # when any of its files was last written, in nanoseconds since 1970
        self.summary: Summary | None = None  # None until it was read
        self._lock = Lock()
        self._findings: Findings | None = None
        self._said: Told | None = None
        self._stamp: Any = None
        self._next = self._shown = 0.0  # when it may be read again, and when a page last showed it (monotonic)

    @property
    def pace(self) -> float:
        """Seconds between two looks."""
        return PACE[self.folder.path is not None]

    def look(self) -> Told:
        """What there is to say now, for a page that shows it.

        Raises BadRequest where the folder is gone, FolderRefused where it is damaged or leads elsewhere, OSError where
        it cannot be read.
        """
        with self._lock:
            self._shown = time.monotonic()
            return self._look(self._now())

    def check_links(self) -> None:
        """FolderRefused where a symbolic link in the folder leads out of the one that is served."""
        self._now()

    def refresh(self) -> None:
        """Bring `summary` up to date, and forget the tables if no page shows them."""
        with self._lock:
            driven = self.summary is not None and self.summary.driven
            try:
                stamp = self._now()
                if driven or stamp != self._stamp or self.summary is None or self.summary.problem:
                    driven = self._look(stamp).holder is not None
            except Exception as error:  # whatever it is, the other studies are still shown
                driven, self.summary = False, Summary(problem=in_words(error))
            if not driven and time.monotonic() - self._shown > KEPT:
                self._findings = self._said = None

    def end_of(self, name: str) -> Log | None:
        """The end of a file of the folder, such as errors/<trial_id>.txt; None where there is none."""
        self._check_link(name)
        content = self.folder.read(name)
        return None if not content else Log(content[-LOG_BYTES:].decode(errors="replace"), len(content))

    def report(self) -> bytes | None:
        """The report as it lies in the folder; None where there is none, or one that is older than the tables."""
        self._check_link("report.html")
        made, tables = self.folder.changed("report.html"), self.folder.changed("trials.parquet")
        return self.folder.read("report.html") if made is not None and made >= (tables or 0) else None

    def _look(self, stamp: Any) -> Told:
        fresh = stamp != self._stamp and time.monotonic() >= self._next
        if self._findings is None or fresh:
            began = time.monotonic()
            results = Results.open(self.folder.place)
            if "trials" in results.missing and len(results.epochs):
                raise FolderRefused(f"{self.folder.url}/trials.parquet: is missing, and the other tables have its rows")
            self._findings, self._stamp = Findings(results), stamp
            self._said = self._tell(self._findings)
            self._next = time.monotonic() + (time.monotonic() - began) / SHARE
        elif self._said is None or self._said.holder is not None:  # it has a driver, which may end, or fall silent
            self._said = self._tell(self._findings)
        return self._said

    def _tell(self, findings: Findings) -> Told:
        said = told(findings, short(self.folder.place))
        words, study = answer(findings).words, findings.results.study
        failed = sum(one.trials for one in said.failed)
        self.summary = Summary(
            study.title or study.name, said.state, said.standing, words or said.lead, failed, said.holder is not None
        )
        return said

    def _now(self) -> Any:
        """What differs once a file was written, added or deleted."""
        self._check_link("")
        lists = {"": self.folder.listing()[0]}
        for sub in SUBS:
            self._check_link(sub)
            lists[sub] = self.folder.listing(sub)[0]
        for sub, names in lists.items():
            if sub in LOGS:  # of which there may be many: `end_of` checks the one it reads
                continue
            for name in names:
                self._check_link(f"{sub}/{name}".lstrip("/"))
        if self.folder.path is not None:
            for sub in STILL:
                self._check_link(sub)
                for path in (self.folder.path / sub).glob("*"):
                    self._check_link(str(path.relative_to(self.folder.path)))
        return lists

    def _check_link(self, name: str) -> None:
        """FolderRefused where `name` is a symbolic link that leads out of the folder that is served."""
        folder, root = self.folder.path, self._root.path
        if folder is None or root is None:
            return
        path = folder / name
        if (not name or path.is_symlink()) and not path.resolve().is_relative_to(root):
            raise FolderRefused(f"{path}: a link that leads out of {root}; it is not followed")


class Studies:
    """All studies in the folder `root`, or `root` alone if it is itself a results folder."""

    def __init__(self, root: ResultsFolder):
        self.root = root
        self.found: dict[str, Watched] = {}  # by path from the root, the one that was changed last first
        self.searched = Event()  # set once `found` is known
        self._wanted, self._ended = Event(), Event()

    def start(self) -> None:
        """Read them all, then again as they change while `want` is called, in a thread of its own."""
        Thread(target=self._read, name="reads studies", daemon=True).start()

    def end(self) -> None:
        self._ended.set()
        self._wanted.set()

    def want(self) -> None:
        """Say that somebody looks at the list."""
        self._wanted.set()

    def get(self, name: str) -> Watched | None:
        """The study of that name, looked for again if it is not known. Only names that a search found lead anywhere."""
        if name not in self.found:
            self.search()
        return self.found.get(name)

    def search(self) -> None:
        """Find the studies; reads none."""
        found = {}
        for name, folder, changed in self._folders(self.root, "", DEPTH):
            one = self.found.get(name) or Watched(name, folder, self.root)
            one.changed = changed
            found[name] = one
        self.found = dict(sorted(found.items(), key=lambda item: -item[1].changed))
        self.searched.set()

    def _folders(self, folder: ResultsFolder, name: str, depth: int) -> Iterator[tuple[str, ResultsFolder, int]]:
        path, root = folder.path, self.root.path
        if path is not None and root is not None and not path.resolve().is_relative_to(root):
            return
        blobs, folders = folder.listing()
        if "study.json" in blobs:
            yield name or folder.url.rstrip("/").rpartition("/")[2], folder, max(when for _, when in blobs.values())
        elif depth:
            for one in folders:
                yield from self._folders(folder.sub(one), f"{name}/{one}".lstrip("/"), depth - 1)

    def _read(self) -> None:
        while not self._ended.is_set():
            self._wanted.clear()
            try:
                self.search()
            except (ResnetlabError, OSError):  # the storage does not answer: what was found stays, and says so
                self.searched.set()
            for watched in list(self.found.values()):
                if self._ended.is_set():
                    return
                watched.refresh()
            self._ended.wait(2 * PACE[self.root.path is not None])
            self._wanted.wait()


def in_words(error: Exception) -> str:
    """An error in one line."""
    return " ".join(str(error).split()) or type(error).__name__
