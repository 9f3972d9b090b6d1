"""One trial as work to be handed out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from resnetlab.study import Study
from resnetlab.study.records import Phase, Status
from resnetlab.study.trial_config import DataConfig, TrialConfig, digest

PLACES = ("root", "font_dir", "download")  # of DataConfig: where the bytes lie, which is not recorded


@dataclass(frozen=True)
class Task:
    """One trial to run. test: it reads the test split at its last epoch. keep: others start from its weights.

    source_data: what the trial that it starts from was trained on. recorded: epochs of it that stand in the tables.
    """

    trial_id: str
    config: TrialConfig
    phase: Phase
    test: bool
    data_hash: str = ""
    keep: bool = False
    source_data: DataConfig | None = None
    recorded: int = 0

    @property
    def source(self) -> str | None:
        """The trial whose weights it starts from."""
        kind, _, trial_id = self.config.weights.partition(":")
        return trial_id if kind == "trial" else None

    def as_message(self) -> dict[str, Any]:
        """What travels to a worker: JSON-like values only."""
        return {
            "trial_id": self.trial_id,
            "config": self.config.model_dump(mode="json"),
            "phase": str(self.phase),
            "test": self.test,
            "data_hash": self.data_hash,
            "keep": self.keep,
            "source_data": self.source_data and self.source_data.model_dump(mode="json"),
            "recorded": self.recorded,
        }

    def first_row(self, study: str) -> dict[str, Any]:
        """Its row in the trials table when it is handed out for the first time."""
        return {
            "trial_id": self.trial_id,
            "study": study,
            "phase": str(self.phase),
            "status": str(Status.WAITING),
            "config": self.config.model_dump_json(exclude={"data": set(PLACES)}),
            "seed": self.config.seed,
            "split_seed": self.config.split_seed,
            "epochs_run": 0,
            "epochs_allowed": self.config.epochs,
            "restarts": 0,
            "started": datetime.now(UTC),
            "data_hash": self.data_hash,
        }


def data_key(config: TrialConfig) -> str:
    """Names a trial's dataset as its config asks for it."""
    return digest(config.data.identity())


def places(study: Study) -> dict[str, Any]:
    """Where the data lies is taken from this run's study, not from the recorded config."""
    return {name: getattr(study.dataset, name) for name in PLACES}


def one_dataset(study: Study, content_hash: str, classes: Sequence[str]) -> dict[str, tuple[str, Sequence[str]]]:
    """The `data` of a Sweep whose trials all read one dataset."""
    return {data_key(study.config(study.baseline_values(), seed=0)): (content_hash, classes)}
