"""Rerun a recorded trial, from its row alone, and compare it with its record."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetlab.driver.checks import initial_weights, own_code
from resnetlab.driver.recorded_data import data_of
from resnetlab.errors import BadRequest, FolderRefused
from resnetlab.experiment.own_parts import scores
from resnetlab.experiment.source import Source, changed, installed, of_packages
from resnetlab.provenance import git_revision, versions
from resnetlab.storage.layout import WEIGHTS
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table
from resnetlab.study import Study, build_study
from resnetlab.study.metrics import Metric
from resnetlab.study.own_config import trial_type
from resnetlab.study.parts import OwnCode
from resnetlab.study.records import CODES_BEFORE, Phase, Status
from resnetlab.study.trial_config import RunConfig, TrialConfig, of_images
from resnetlab.vision.data import Dataset, default_cache
from resnetlab.vision.training.kept_weights import by_name, kept
from resnetlab.wording import plural

if TYPE_CHECKING:
    from resnetlab.vision.models.pretrained import Weights
    from resnetlab.vision.training.loop import Training

LOST = (Status.DIVERGED, Status.FAILED, Status.OUT_OF_MEMORY)
COMPARED = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr")  # of an epoch; times never repeat
Say = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where a rerun finds things. data: folder or archive of the images (glyphs: of further fonts), where the dataset
    needs one; device: `cpu`, `cuda`, `xpu`, `mps`, or None for what the trial ran on. debug: run the epoch too in which
    the trial failed, and let its error through as it is."""

    data: str | None = None
    cache: Path | None = None
    device: str | None = None
    debug: bool = False


@dataclass(frozen=True)
class Rerun:
    """The outcome of a rerun.

    training, dataset: of the rerun; None for a study's own task. epochs: number that were run. device: as torch calls
    it. ending: why it ended early. compared: number of recorded epochs. differences: values that differ from the
    recorded ones, in the order of training. changed: what has changed since then, such as versions, code or machine.
    metric: the trial's main result, with its `recorded` and `measured` value.
    """

    row: Mapping[str, Any]
    training: Training | None
    dataset: Dataset | None
    epochs: int
    device: str
    ending: str = ""
    compared: int = 0
    differences: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    metric: Metric | None = None
    recorded: float = math.nan
    measured: float = math.nan

    @property
    def tested(self) -> bool:
        """True if the metric was measured on the test split."""
        return self.metric is not None and self.metric.name.startswith("test_")

    @property
    def identical(self) -> bool:
        """True if every recorded number was reproduced to the last bit."""
        return self.compared > 0 and not self.differences

    @property
    def must_be_identical(self) -> bool:
        """True if the same bits are expected: on a CPU, with everything as it was."""
        return self.device == "cpu" and not self.changed

    def as_json(self) -> dict[str, Any]:
        """The outcome for `--json`; values as in the tables."""
        return {
            "trial_id": self.row["trial_id"],
            "number": self.row["number"],
            "identical": self.identical,
            "epochs_compared": self.compared,
            "differences": self.differences,
            "changed": self.changed,
            "metric": self.metric.name if self.metric else None,
            "recorded": None if math.isnan(self.recorded) else self.recorded,
            "measured": None if math.isnan(self.measured) else self.measured,
        }


def find(folder: ResultsFolder, name: str) -> dict[str, Any]:
    """The row of the trial with this id, beginning of an id, or number. BadRequest if there is none, or several."""
    table = read_table(folder, "trials")
    if table is None:
        raise BadRequest(f"{folder.url}: has no trials (no trials.parquet, and no running sweep)")
    rows: list[dict[str, Any]] = table.to_pylist()
    for matching in (
        [row for row in rows if row["trial_id"] == name],
        [row for row in rows if str(row["number"]) == name.removeprefix("#")],
        [row for row in rows if len(name) > 3 and row["trial_id"].startswith(name)],
    ):
        if len(matching) == 1:
            return matching[0]
        if matching:
            candidates = ", ".join(row["trial_id"] for row in matching[:5])
            raise BadRequest(f"{name}: ambiguous, it matches {len(matching)} trials (candidates: {candidates})")
    last = max(row["number"] for row in rows)
    raise BadRequest(
        f"{name}: no such trial in {folder.url} (allowed: a trial_id, four or more of its first digits, or a number "
        f"up to {last})"
    )


def rerun(folder: ResultsFolder, row: Mapping[str, Any], place: Place, say: Say) -> Rerun:
    """Train the trial of `row` again for as many epochs as it had, and compare. say: gets a line for each epoch.

    A trial that starts from another trial's weights takes them from the folder; if they are gone, that trial is rerun
    first. Raises BadData if the data has changed, BadRequest if something that the trial needs is missing.
    """
    from resnetlab.vision.training.loop import Diverged

    study = _study(folder, row)
    if study.experiment:
        from resnetlab.driver.rerun_task import rerun_task

        return rerun_task(folder, row, study, place, say)
    training, dataset = _start(folder, row, study, place, say)
    metric, columns = study.searched, [*COMPARED, *(f"val_{score}" for score in training.measured)]
    again, recorded = epochs_again(row, place), recorded_epochs(folder, row["trial_id"])
    differences, ending = [], ""
    try:
        for epoch in range(1, again + 1):
            now = training.run_epoch().as_row()
            then = recorded.get(epoch)
            differences += differences_of(epoch, then, now, columns)
            beside = f" (recorded: {metric.show(then[metric.name])})" if then else ""
            say(f"epoch {epoch} of {again}: {metric.words} {metric.show(now[metric.name])}{beside}")
    except Diverged as error:
        if place.debug:
            raise
        ending = str(error)
        say(ending)
    if (row["status"] == "diverged") != bool(ending):
        differences.append(f"recorded as {row['status']}, {'diverged' if ending else 'did not diverge'} now")
    device = training.device.type
    why = changes(row, device, recorded_code(folder, row, study))
    if place.debug and training.epoch == training.config.epochs and not Phase(row["phase"]).searched:
        training.test()
    found = Rerun(row, training, dataset, training.epoch, device, ending, len(recorded), differences, why)
    return _with_result(folder, found, training, study, say)


def epochs_again(row: Mapping[str, Any], place: Place) -> int:
    """Those that were recorded, and the one in which the trial diverged, or is to fail again: that left no row."""
    lost = LOST if place.debug else [Status.DIVERGED]
    return min(int(row["epochs_run"] or 0) + (row["status"] in lost), int(row["epochs_allowed"]))


def _with_result(folder: ResultsFolder, found: Rerun, training: Training, study: Study, say: Say) -> Rerun:
    """With the number that the trial is known by: on the test split, where it has one, else its last on the
    validation split."""
    row = found.row
    if found.ending or training.epoch == 0:
        return found
    metric = study.searched
    then, now = row[metric.name], training.history[-1].as_row()[metric.name]
    differences = list(found.differences)
    if row["test_accuracy"] is not None and training.epoch == training.config.epochs:
        result = training.test()
        metric, values = study.confirmed, {"test_accuracy": result.accuracy, "test_loss": result.loss, **result.metrics}
        then, now = row[metric.name], values[metric.name]
        say(f"{metric.words} {metric.show(now)} (recorded: {metric.show(then)})")
        differences += [
            f"{name}: {row[name]!r} recorded, {value!r} now" for name, value in values.items() if row[name] != value
        ]
        differences += other_predictions(folder, row["trial_id"], result)
    recorded = math.nan if then is None else then
    return replace(found, differences=differences, metric=metric, recorded=recorded, measured=now)


def _start(
    folder: ResultsFolder, row: Mapping[str, Any], study: Study, place: Place, say: Say
) -> tuple[Training, Dataset]:
    import torch

    from resnetlab.vision.training.loop import Training

    how = json.loads(row["settings"] or "{}")
    kind: type[RunConfig] = TrialConfig
    code = None
    if (found := recorded_code(folder, row, study)) is not None:
        described, source = found
        say(f"this runs the study's own code: {', '.join(part.text for part in described.parts)}")
        kind, code = trial_type(described.parts), source.unpack((place.cache or default_cache()) / "code")
    config = of_images(kind.model_validate_json(row["config"]))
    dataset = data_of(config.data, row["data_hash"], place.data, place.cache)
    here = torch.accelerator.current_accelerator(check_available=True)
    gpu = here.type if here is not None else "cpu"
    device = place.device or ("cpu" if str(row["device"] or "cpu").startswith("cpu") else gpu)
    if device not in ("cpu", gpu):
        raise BadRequest(f"--device {device}: torch sees no such GPU here (allowed: {', '.join({'cpu': 0, gpu: 0})})")
    if device == "cpu" and not place.device and not str(row["device"] or "cpu").startswith("cpu"):
        say(f"no GPU here: run on the CPU (the trial ran on {row['device']})")
    weights = _weights(folder, config, place, say)
    known = initial_weights.contents(folder, [row])
    if config.weights != "none" and (mine := known.get(by_name(config.model, config.weights))):
        weights = kept(folder, mine)
    threads, compile = row["threads"] or 1, how.get("compile", False)
    more: dict[str, Any] = {"compile": compile, "code": code, "scores": scores(study.scored, code)}
    if not Phase(row["phase"]).searched:
        more |= {"confirmed": study.confirmed_score, "last_epochs": study.confirm.last_epochs}
    return Training(config, dataset, device, threads, None, weights, **more), dataset


def _study(folder: ResultsFolder, row: Mapping[str, Any]) -> Study:
    content = folder.read_json("study.json")
    if content is None:
        raise FolderRefused(f"{folder.url}: has no study.json, which says what trial {row['trial_id']} is judged by")
    return build_study(content, f"{folder.url}/study.json")


def _weights(folder: ResultsFolder, config: TrialConfig, place: Place, say: Say) -> Weights | None:
    """The weights that the trial starts from; None for random ones or torchvision's."""
    kind, _, name = config.weights.partition(":")
    if not name:
        return None
    if kind == "file":
        return kept(folder, name)
    from resnetlab.vision.models.pretrained import Weights

    raw = folder.read(f"{WEIGHTS}/{name}.safetensors")
    if raw is not None:
        return Weights.unpack(raw, f"{WEIGHTS}/{name}.safetensors")
    try:
        row = find(folder, name)
    except BadRequest:
        raise BadRequest(
            f"the trial starts from trial {name}, whose weights and row are not in this folder: put its weights at "
            f"{folder.url}/{WEIGHTS}/{name}.safetensors"
        ) from None
    say(f"it starts from trial {name}, whose weights are not in the folder: that is run again first")
    source = rerun(folder, row, place, say)
    if source.training is None or source.dataset is None or source.epochs < source.training.config.epochs:
        raise BadRequest(f"trial {name}, from which it starts, did not reach its full budget: {source.ending}")
    from resnetlab.vision.training.transfer import backbone

    weights = backbone(source.training.state(), source.training.config, source.dataset)
    say(f"trial {name} is {'as recorded' if source.identical else 'not as recorded'}; now the trial itself")
    return weights


def recorded_epochs(folder: ResultsFolder, trial_id: str) -> dict[int, dict[str, Any]]:
    """The rows of a trial in the epochs table, by epoch."""
    table = read_table(folder, "epochs")
    rows = [] if table is None else table.filter(_equal(table, trial_id)).to_pylist()
    return {row["epoch"]: row for row in rows}


def _equal(table: Any, trial_id: str) -> Any:
    import pyarrow.compute as pc

    return pc.equal(table["trial_id"], trial_id)


def differences_of(
    epoch: int, then: Mapping[str, Any] | None, now: Mapping[str, Any], columns: Iterable[str]
) -> list[str]:
    """Lines for the `columns` of an epoch whose recorded value (`then`) differs from the new one (`now`)."""
    if then is None:
        return []
    return [
        f"epoch {epoch}, {name}: {then[name]!r} recorded, {now[name]!r} now"
        for name in columns
        if then[name] != now[name]
    ]


def other_predictions(folder: ResultsFolder, trial_id: str, result: Any) -> list[str]:
    table = read_table(folder, "predictions")
    if table is None:
        return []
    rows = table.filter(_equal(table, trial_id))
    then = dict(zip(rows["image"].to_pylist(), rows["predicted"].to_pylist(), strict=True))
    now = dict(zip(result.image.tolist(), result.predictions.tolist(), strict=True))
    other = sum(now.get(image) != predicted for image, predicted in then.items())
    return [f"{other:,} of {len(then):,} test images get another class"] if other else []


def recorded_code(folder: ResultsFolder, row: Mapping[str, Any], study: Study) -> tuple[OwnCode, Source] | None:
    """The study's own code that the trial of `row` ran; None for a study without any."""
    how = json.loads(row["settings"] or "{}")
    return own_code.read(folder, how.get("code", study.own.source)) if study.own.parts else None


def changes(row: Mapping[str, Any], device: str, own: tuple[OwnCode, Source] | None) -> list[str]:
    """Lines for what has changed since the trial was recorded and may change its numbers. device: of the rerun. own:
    the study's own code that the trial ran."""
    then, now = json.loads(row["versions"] or "{}"), versions()
    lines = [
        f"{name} {then[name]} then, {now.get(name, 'absent')} now"
        for name in ("python", "torch", "torchvision", "numpy")
        if name in then and then[name] != now.get(name)
    ]
    if own is not None:
        differences = changed(of_packages(own[1]), installed(own[1]))
        lines += [f"{change} in the package that is installed now" for change in differences]
    if row["host"] and row["host"] != platform.node():
        lines.append(f"on {row['host']} then, on {platform.node()} now")
    code = git_revision()
    if row["git_revision"] and code and row["git_revision"] != code:
        lines.append(f"code {row['git_revision']} then, {code} now")
    cpu = str(row["device"] or "").startswith("cpu")
    if row["device"] and cpu != (device == "cpu"):
        lines.append(f"on {row['device']} then, on {device} now")
    if before := json.loads(row["settings"] or "{}").get(CODES_BEFORE):
        lines.append(f"its first epochs ran the own code of version {', '.join(before)}, before an accepted change")
    if row["phase"] == Phase.CONFIRM and row["restarts"]:
        lines.append(f"it was resumed from a checkpoint {plural(row['restarts'], 'time')}")
    return lines
