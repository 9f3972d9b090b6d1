"""The runs of a plan that looks at them after each block: handed out as far as the looks ask for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from resnetlab.experiment.messages import Task
from resnetlab.planning.plan import Plan
from resnetlab.storage.schema import schema
from resnetlab.storage.store import Store, write_table

if TYPE_CHECKING:
    from resnetlab.analysis.confirm.looks_taken import Taken


class PlannedLooks:
    """The looks at one plan's runs. What they decide follows from the trials table alone, each time anew."""

    def __init__(self, plan: Plan, runs: Iterable[tuple[dict[str, Any], Task]]):
        self._plan = plan
        self._waiting = {(columns["design_row"], columns["seed_block"]): (columns, task) for columns, task in runs}
        self._taken: Taken | None = None
        self._told = 0

    def take(self, store: Store) -> Iterator[tuple[dict[str, Any], Task]]:
        """Take the looks that are due, leave them in looks.parquet, and give the runs that are asked for now."""
        from resnetlab.analysis.confirm import looks_taken  # seconds of imports, for plans that look

        self._taken = found = looks_taken.of_rows(self._plan, store.trials.values())
        if rows := looks_taken.table(found):
            write_table(store.folder, "looks", pa.Table.from_pylist(rows, schema("looks")))
        for place in sorted(self._waiting, key=lambda place: place[::-1]):
            if found.needed[place]:
                yield self._waiting.pop(place)

    @property
    def possible(self) -> int:
        """Runs that were asked for, or may yet be."""
        return 0 if self._taken is None else int(self._taken.possible.sum())

    @property
    def line(self) -> str:
        """What is settled and what still runs."""
        return "" if self._taken is None else self._taken.line()

    def news(self) -> str:
        """The line, once for each look."""
        if self._taken is None or self._taken.block <= self._told:
            return ""
        self._told = self._taken.block
        return self.line
