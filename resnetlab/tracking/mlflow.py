"""MLflow: an experiment for the study, a run for each trial."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from resnetlab.errors import BadRequest
from resnetlab.study.records import Status
from resnetlab.tracking.feed import ENDED, MEASURED, Row, Trial

if TYPE_CHECKING:
    from mlflow.entities import Run

TRIAL = "resnetlab.trial_id"  # tag of a run that holds the trial's id
PAGE = 1000  # runs per search
BATCH = 1000 // (len(MEASURED) + 20)  # epochs per call, which may have a thousand metrics
STATES = {Status.COMPLETE: "FINISHED", Status.STOPPED: "KILLED"}
TIMEOUTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}  # MLflow waits for minutes


class MLflow:
    """Logs to the store at `uri`, and continues runs that it has. BadRequest if the store cannot be used."""

    name = "mlflow"

    def __init__(self, uri: str, study: str):
        for name, value in TIMEOUTS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError:
            raise BadRequest("--mlflow: needs mlflow or mlflow-skinny (pip install '.[tools]')") from None
        try:
            self._client = MlflowClient(tracking_uri=uri)
            existing = self._client.get_experiment_by_name(study)
            self._experiment = existing.experiment_id if existing else self._client.create_experiment(study)
        except (MlflowException, OSError, ImportError) as error:
            raise BadRequest(f"--mlflow {uri}: {str(error).splitlines()[0]}") from None
        if existing and existing.lifecycle_stage != "active":
            raise BadRequest(f"--mlflow {uri}: its experiment {study} was deleted; restore it, or use another --name")
        self._runs: dict[str, str] = {}

    def known(self) -> Mapping[str, int]:
        """Read from the tags of the runs, and for unfinished ones from their last step."""
        sent, token = {}, None
        while True:
            page = self._client.search_runs([self._experiment], max_results=PAGE, page_token=token)
            for run in page:
                if (trial_id := run.data.tags.get(TRIAL)) is not None:
                    self._runs[trial_id] = run.info.run_id
                    sent[trial_id] = self._steps(run) if run.info.status == "RUNNING" else ENDED
            token = page.token
            if not token:
                return sent

    def _steps(self, run: Run) -> int:
        histories = (self._client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
        return max((metric.step for history in histories for metric in history), default=0)

    def epochs(self, trial: Trial, rows: Sequence[Row], first: int) -> None:
        from mlflow.entities import Metric

        run = self._run(trial)
        new = list(zip(rows, trial.at(rows), strict=True))[first:]
        for start in range(0, len(new), BATCH):
            metrics = [
                Metric(name, float(row[name]), int(1000 * at), row["epoch"])
                for row, at in new[start : start + BATCH]
                for name in trial.measured
                if row[name] is not None
            ]
            self._client.log_batch(run, metrics=metrics)

    def ended(self, trial: Trial) -> None:
        from mlflow.entities import Metric, RunTag

        run, at = self._run(trial), int(1000 * trial.row["ended"].timestamp())
        final = {name: value for name, value in trial.results.items() if name not in trial.measured}
        metrics = [Metric(name, value, at, trial.row["epochs_run"] or 0) for name, value in final.items()]
        tags = [RunTag("resnetlab.status", trial.row["status"]), RunTag("resnetlab.reason", trial.row["reason"] or "")]
        self._client.log_batch(run, metrics=metrics, tags=tags)
        self._client.set_terminated(run, STATES.get(trial.status, "FAILED"), end_time=at)

    def close(self) -> None:
        """Do nothing: no connection stays open."""

    def _run(self, trial: Trial) -> str:
        if trial.trial_id not in self._runs:
            from mlflow.entities import Param

            row = trial.row
            tags = {TRIAL: trial.trial_id, "resnetlab.phase": row["phase"], "resnetlab.arm": row["arm"]}
            tags |= {"resnetlab.plan_hash": row["plan_hash"], "mlflow.source.git.commit": row["git_revision"]}
            run = self._client.create_run(
                self._experiment,
                start_time=int(1000 * row["started"].timestamp()),
                tags={name: str(value) for name, value in tags.items() if value is not None},
                run_name=trial.name,
            )
            self._runs[trial.trial_id] = run.info.run_id
            params = [Param(name, str(value)) for name, value in (trial.settings | trial.levels).items()]
            self._client.log_batch(run.info.run_id, params=params)
        return self._runs[trial.trial_id]
