"""What a study's own task gets of this package where it runs: its files, threads, and checkpoints that run no code.

torch is imported only where the task itself uses it, or where it keeps a state.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resnetlab.errors import BadRequest
from resnetlab.experiment.messages import Task, TrialContext
from resnetlab.experiment.task_run import TaskRun
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.vision.own_files import unpacked

ARRAY = "resnetlab array"  # key of a NumPy array, which is kept as a tensor
KEPT = "tensors, NumPy arrays of numbers, numbers, text, bytes, None, and lists, tuples and dicts of these"


def begin(task: Task, context: TrialContext, keep: bool = True, code: Path | None = None) -> TaskRun:
    """The trial in this process, from its newest checkpoint on where the task has a state.

    keep: checkpoints at all. code: folder of the study's files, where they do not come with the results folder.
    """
    folder = ResultsFolder.at(context.folder)

    def opened() -> TaskCheckpoints | None:
        return TaskCheckpoints(folder, task.trial_id, context.code) if keep else None

    return TaskRun(task, context, code or unpacked(folder, context), opened, _take)


def _take(threads: int) -> None:
    """Exactly so many threads: of torch where the task has imported it, of others where they start later."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


class TaskCheckpoints:
    """The checkpoints of a trial whose task has a state: of anything in KEPT."""

    def __init__(self, folder: ResultsFolder, trial_id: str, code: str = ""):
        from resnetlab.vision.trial_checkpoints import TrialCheckpoints

        self._held = TrialCheckpoints(folder, trial_id, code=code)
        self.problems = self._held.problems
        self.states: Sequence[Mapping[str, Any]] = [
            state | {"task": unpack(state["task"])} for state in self._held.states
        ]
        self._tried = False

    def save(self, state: Mapping[str, Any]) -> None:
        """Write over the older one. BadRequest for a state that could not be read again."""
        content = {"history": state["history"], "task": pack(state["task"], "state()")}
        if not self._tried:
            self._try(content)
        self._held.save(content)

    def _try(self, content: dict[str, Any]) -> None:
        from resnetlab.vision.training import checkpoint

        try:
            checkpoint.load(checkpoint.save(content))
        except Exception as error:
            raise BadRequest(f"state(): cannot be kept: {error} (allowed: {KEPT})") from None
        self._tried = True


def pack(value: Any, place: str) -> Any:
    """The value with tensors for NumPy arrays. BadRequest, naming the place, for what is not in KEPT."""
    import torch

    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {ARRAY: torch.from_numpy(np.array(value, order="C"))}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    if isinstance(value, Mapping):
        return {key: pack(inner, f"{place}[{key!r}]") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([pack(inner, f"{place}[{number}]") for number, inner in enumerate(value)])
    if value is None or isinstance(value, str | bytes | bool | int | float | torch.Tensor):
        return value
    raise BadRequest(f"{place}: holds a {type(value).__name__}, which cannot be kept (allowed: {KEPT})")


def unpack(value: Any) -> Any:
    """What `pack` was given."""
    if isinstance(value, dict):
        return value[ARRAY].numpy() if ARRAY in value else {key: unpack(inner) for key, inner in value.items()}
    return type(value)(map(unpack, value)) if isinstance(value, list | tuple) else value
