"""A trial's last two checkpoints in the results folder, so that one that is damaged leaves the one before."""

from __future__ import annotations

from typing import Any

from resnetlab.storage.layout import checkpoint_names
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.vision.training import checkpoint


class TrialCheckpoints:
    """states: those that can be read, newest first. problems: what is wrong with the others."""

    def __init__(self, folder: ResultsFolder, trial_id: str):
        self._folder = folder
        self._names = list(checkpoint_names(trial_id))
        self.problems: list[str] = []
        found = []
        for name in self._names:
            raw = folder.read(name)
            if raw is not None:
                try:
                    found.append((name, checkpoint.load(raw)))
                except checkpoint.CheckpointDamaged as error:
                    self.problems.append(f"{name}: {error}")
        found.sort(key=lambda item: _epochs(item[1]), reverse=True)
        self.states: list[dict[str, Any]] = [state for _, state in found]
        if found and found[0][0] == self._names[0]:
            self._names.reverse()  # the newest is written over last

    def save(self, state: dict[str, Any]) -> None:
        """Write over the older one."""
        self._folder.write(self._names[0], checkpoint.save(state))
        self._names.reverse()


def _epochs(state: dict[str, Any]) -> int:
    history = state.get("history")
    return len(history) if isinstance(history, list) else 0
