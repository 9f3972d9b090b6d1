"""Weights & Biases: a run for each trial, sent when the trial has ended, grouped by the study's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from resnetlab.errors import BadRequest
from resnetlab.tracking.feed import Row, Trial


class Wandb:
    """Logs to the project `project`, with the trial's id as the run's. wandb's own settings (WANDB_MODE, …) apply."""

    name = "wandb"

    def __init__(self, project: str, study: str):
        try:
            import wandb
        except ImportError:
            raise BadRequest("--wandb: needs wandb, which is not installed (pip install wandb)") from None
        self._wandb, self._project, self._study = wandb, project, study
        self._rows: dict[str, Sequence[Row]] = {}

    def known(self) -> Mapping[str, int]:
        return {}  # a run that is sent again is the same run: W&B drops the steps that it has

    def epochs(self, trial: Trial, rows: Sequence[Row], first: int) -> None:
        self._rows[trial.trial_id] = rows

    def ended(self, trial: Trial) -> None:
        row = trial.row
        run = self._wandb.init(
            project=self._project,
            group=self._study,
            id=trial.trial_id,
            name=trial.name,
            job_type=row["phase"],
            tags=[row["phase"], row["status"]],
            config=trial.settings | trial.levels,
            resume="allow",
            reinit="create_new",
            settings=self._wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        for epoch in self._rows.pop(trial.trial_id, []):
            run.log({name: epoch[name] for name in trial.measured if epoch[name] is not None}, step=epoch["epoch"])
        run.summary.update(trial.results | {"status": row["status"], "reason": row["reason"]})
        run.finish(exit_code=0)

    def close(self) -> None:
        """Do nothing: each run was finished with its trial."""
