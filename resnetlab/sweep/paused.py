"""Trials that wait at a rung of a rule that promotes: they hold no worker, and go on from their checkpoints."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from resnetlab.experiment.messages import Task
from resnetlab.search.rule import Pausing, Rule
from resnetlab.storage.store import Store


class Paused:
    """With other rules it is empty, and stays so."""

    def __init__(self, rule: Rule | None, store: Store):
        self._rule = rule if isinstance(rule, Pausing) else None
        self._store = store
        self._tasks: dict[str, Task] = {}

    @property
    def possible(self) -> bool:
        return self._rule is not None

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Any:
        return iter(list(self._tasks))

    def waits(self, trial_id: str) -> bool:
        """Whether a recorded trial that may be stopped, and has not ended, waits at its rung."""
        return self._rule is not None and self._rule.pauses(trial_id)

    def add(self, task: Task) -> None:
        self._tasks[task.trial_id] = task

    def promoted(self, drained: bool = False) -> Task | None:
        """The next trial that goes on. Promotions of exempt trials, which never paused, are recorded on the way."""
        while self._rule is not None and (found := self._rule.promote(drained)) is not None:
            trial_id, decision = found
            self._store.add("rungs", {"trial_id": trial_id, **decision.as_row()})
            if (task := self._tasks.pop(trial_id, None)) is not None:
                return replace(task, recorded=self._store.trials[trial_id]["epochs_run"])
        return None

    def settle(self, exempt: Collection[str]) -> list[Task]:
        """Record that none of the others is promoted any more; those that paused."""
        for trial_id, decision in self._rule.left(exempt) if self._rule is not None else ():
            self._store.add("rungs", {"trial_id": trial_id, **decision.as_row()})
        tasks = list(self._tasks.values())
        self._tasks.clear()
        return tasks
