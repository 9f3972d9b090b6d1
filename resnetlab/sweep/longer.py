"""Explore trials that go on where the same trial of a shorter budget ended.

A trial whose schedule does not depend on the budget trains its epochs alike, however many there will be. Where a study
is extended to a longer budget, and the last checkpoint of such a trial was kept (`search.keep_checkpoints`), it trains
only the further epochs. Which trials do so follows from the rows and the files of the results folder, so a sweep that
is continued finds the same ones again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from resnetlab.storage.layout import KEPT, kept_name
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import Study
from resnetlab.study.records import Phase, Status
from resnetlab.study.seeding import stream

Row = Mapping[str, Any]  # of the trials table


@dataclass(frozen=True)
class Shorter:
    """A trial that ran all epochs of a shorter budget, and whose last checkpoint is kept.

    values: of the study's factors. longer: the trial of this study that goes on from it. names: of the files that this
    one, once it is complete, leaves without a use.
    """

    trial_id: str
    values: dict[str, Any]
    longer: str
    names: tuple[str, ...]


class LongerTrials:
    """The trials of `study` that go on from trials of a shorter budget. rows: of the trials table, where those are
    `replaced`. kept: names of the files that the results folder keeps; asked for only if there are such trials."""

    def __init__(self, study: Study, rows: Iterable[Row], kept: Callable[[], Collection[str]]):
        self._study = study
        self._by_seed: dict[int, Shorter] = {}
        self.again: Counter[str] = Counter()  # trials that are run again, by why
        replaced = sorted(filter(self._of_shorter_budget, rows), key=lambda row: row["epochs_allowed"])
        files = set(kept()) if replaced else set()
        why: dict[int, str] = {}
        for row in replaced:
            why[row["seed"]] = self._why_again(row, files)
            if not why[row["seed"]]:
                if (found := self._shorter(row)) is None:
                    why[row["seed"]] = "with settings that are others now"
                else:
                    self._by_seed[row["seed"]] = found
        self.again.update(said for seed, said in why.items() if seed not in self._by_seed)
        self._by_longer = {found.longer: found for found in self._by_seed.values()}

    @classmethod
    def of(cls, study: Study, rows: Iterable[Row], folder: ResultsFolder) -> LongerTrials:
        """Of a study whose results `folder` holds."""
        return cls(study, rows, lambda: folder.names(KEPT))

    def __len__(self) -> int:
        return len(self._by_seed)

    @property
    def points(self) -> list[dict[str, Any]]:
        """The factor values of all of them."""
        return [found.values for found in self._by_seed.values()]

    def at(self, number: int) -> dict[str, Any] | None:
        """The factor values of proposal `number`, if its trial goes on; None if it does not."""
        found = self._by_seed.get(stream(self._study.seed, "explore", number))
        return dict(found.values) if found is not None else None

    def before(self, trial_id: str) -> Shorter | None:
        """Where the trial goes on from."""
        return self._by_longer.get(trial_id)

    def _of_shorter_budget(self, row: Row) -> bool:
        searched = Phase(row["phase"]).searched and row["status"] == Status.REPLACED
        return bool(searched and row["epochs_allowed"] < self._study.search.epochs)

    def _why_again(self, row: Row, files: Collection[str]) -> str:
        """Why the trial cannot be gone on from; empty where it can."""
        if row["epochs_run"] < row["epochs_allowed"]:
            return f"stopped, failed or interrupted before epoch {row['epochs_allowed']}"
        if self._study.trial_type.model_validate_json(row["config"]).depends_on_budget:
            return "of a task of your own" if self._study.experiment else "with a schedule that depends on the budget"
        return "" if kept_name(row["trial_id"]).partition("/")[2] in files else "without a kept checkpoint"

    def _shorter(self, row: Row) -> Shorter | None:
        """None where the study, at the row's values, is not the same trial but for its budget."""
        seed, values = row["seed"], {name: row[name] for name in self._study.space.names if row[name] is not None}
        try:
            now = self._study.config(values, seed=seed)
            then = self._study.config(values | {"epochs": row["epochs_allowed"]}, seed=seed)
        except ValidationError:
            return None
        if then.trial_id != row["trial_id"]:
            return None
        older = self._by_seed[seed].names if seed in self._by_seed else ()
        return Shorter(row["trial_id"], values, now.trial_id, (*older, kept_name(row["trial_id"])))
