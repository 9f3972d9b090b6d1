"""TensorBoard: a run for each trial, with its curves as scalars, and its factors and results as HParams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetlab.errors import BadRequest
from resnetlab.paths import writable_folder
from resnetlab.tracking.feed import Row, Trial

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

SHOWN = ("val_accuracy", "test_accuracy")  # results that the HParams page compares
EVENTS = "events.out.tfevents.*"


class TensorBoard:
    """Writes a folder per trial in `place`, with tensorboardX (a dependency of Ray Tune); rewrites existing ones."""

    name = "tensorboard"

    def __init__(self, place: Path):
        try:
            import tensorboardX  # noqa: F401
        except ImportError:
            raise BadRequest("--tensorboard: needs tensorboardX (pip install '.[tools]')") from None
        self._place = writable_folder(place, "--tensorboard")
        self._open: dict[str, SummaryWriter] = {}

    def known(self) -> Mapping[str, int]:
        return {}

    def epochs(self, trial: Trial, rows: Sequence[Row], first: int) -> None:
        writer = self._writer(trial)
        for row, at in list(zip(rows, trial.at(rows), strict=True))[first:]:
            for name in trial.measured:
                if row[name] is not None:
                    writer.add_scalar(name, row[name], row["epoch"], walltime=at)
        writer.flush()

    def ended(self, trial: Trial) -> None:
        from tensorboardX.summary import hparams

        writer, row = self._writer(trial), trial.row
        for name in ("test_accuracy", *trial.measures):
            if name.startswith("test_") and row[name] is not None:
                writer.add_scalar(name, row[name], row["epochs_run"], row["ended"].timestamp())
        settings: dict[str, Any] = {"phase": row["phase"], "status": row["status"]} | trial.levels
        settings |= {"arm": row["arm"]} if row["arm"] else {}
        results = {name: trial.results[name] for name in (*SHOWN, *trial.measures) if name in trial.results}
        for summary in hparams(settings, results):
            writer.file_writer.add_summary(summary)
        self._open.pop(trial.trial_id).close()

    def close(self) -> None:
        for writer in self._open.values():
            writer.close()

    def _writer(self, trial: Trial) -> SummaryWriter:
        if trial.trial_id not in self._open:
            from tensorboardX import SummaryWriter

            place = self._place / f"{trial.row['number']:04d}-{trial.trial_id}"
            for old in place.glob(EVENTS):
                old.unlink()
            self._open[trial.trial_id] = SummaryWriter(logdir=str(place), write_to_disk=True)
        return self._open[trial.trial_id]
