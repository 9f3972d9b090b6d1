"""A trial's last two checkpoints in the results folder, so that one that is damaged leaves the one before."""

from __future__ import annotations

from typing import Any

from resnetlab.storage.layout import checkpoint_names, kept_name
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.vision.training import checkpoint

CODE = "own_code"  # key of a state: the version of the study's own code that made it


class TrialCheckpoints:
    """states: those that can be read, newest first. problems: what is wrong with the others. stays: whether the last
    one of all is kept when the trial has ended. code: version of the study's own code, of which a state has to be."""

    def __init__(self, folder: ResultsFolder, trial_id: str, stays: bool = False, code: str = ""):
        self._folder, self._code = folder, code
        self._names = list(checkpoint_names(trial_id))
        self._kept = kept_name(trial_id)
        self.problems: list[str] = []
        found = []
        for name in [*self._names, *([self._kept] if stays else [])]:
            raw = folder.read(name)
            if raw is not None:
                try:
                    state = checkpoint.load(raw)
                except checkpoint.CheckpointDamaged as error:
                    self.problems.append(f"{name}: {error}")
                    continue
                if state.get(CODE, code) == code:
                    found.append((name, state))
                else:
                    self.problems.append(f"{name}: is of the code before it changed")
        found.sort(key=lambda item: _epochs(item[1]), reverse=True)
        self.states: list[dict[str, Any]] = [state for _, state in found]
        if found and found[0][0] == self._names[0]:
            self._names.reverse()  # the newest is written over last

    def save(self, state: dict[str, Any]) -> None:
        """Write over the older one."""
        self._folder.write(self._names[0], checkpoint.save(state | {CODE: self._code}))
        self._names.reverse()

    def keep(self, state: dict[str, Any]) -> None:
        """Write the last one of all where it stays."""
        self._folder.write(self._kept, checkpoint.save(state | {CODE: self._code}))


def kept_state(folder: ResultsFolder, trial_id: str, epochs: int, code: str = "") -> dict[str, Any]:
    """The last state of another trial, of at most `epochs` epochs. code: as in TrialCheckpoints. CheckpointDamaged
    where there is none."""
    name = kept_name(trial_id)
    raw = folder.read(name)
    if raw is None:
        raise checkpoint.CheckpointDamaged(f"{name}: is not there")
    try:
        state = checkpoint.load(raw)
    except checkpoint.CheckpointDamaged as error:
        raise checkpoint.CheckpointDamaged(f"{name}: {error}") from None
    if state.get("trial_id") != trial_id or not 0 < _epochs(state) <= epochs:
        raise checkpoint.CheckpointDamaged(f"{name}: is no state of trial {trial_id}")
    if state.get(CODE, code) != code:
        raise checkpoint.CheckpointDamaged(f"{name}: is of the code before it changed")
    return state


def _epochs(state: dict[str, Any]) -> int:
    history = state.get("history")
    return len(history) if isinstance(history, list) else 0
