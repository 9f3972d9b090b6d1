"""The one gate of a run and a dry run: everything that refuses a study before anything runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resnetlab.driver.checks import duplicate_arms, initial_weights, own_code, precision, rehearsal, request, warm_start
from resnetlab.driver.checks.dataset_record import compared, known, starts
from resnetlab.driver.checks.extend import check_identity
from resnetlab.driver.options import Options
from resnetlab.errors import BadRequest, StorageLost
from resnetlab.paths import user_path
from resnetlab.ray_backend import cluster
from resnetlab.ray_backend.capacity import check_slots
from resnetlab.search import cma_es
from resnetlab.storage.lease import check_free
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import Study
from resnetlab.study.extension import Extension
from resnetlab.sweep.task import data_key
from resnetlab.sweep.time_budget import TimeBudget
from resnetlab.vision.data import Dataset, default_cache, prepare
from resnetlab.vision.data import check as check_data

if TYPE_CHECKING:
    from resnetlab.vision.models.pretrained import Weights


@dataclass(frozen=True)
class Accepted:
    """A study that can be run as asked. content: what data.json has to say; changed: accepted, in the study's code.
    warm: what `warm_start` has read. extension: what it asks beyond the study whose results the folder holds. notes:
    on what of its own code was not tried."""

    study: Study
    folder: ResultsFolder
    datasets: dict[str, Dataset]
    content: dict[str, Any]
    weights: Weights | None
    changed: list[str]
    warm: dict[str, Any]
    extension: Extension | None = None
    notes: list[str] = field(default_factory=list)


def accept(study: Study, options: Options, dry: bool = False) -> Accepted:
    """The one gate of a run and a dry run: everything that refuses a study before anything runs. Prepares the data.

    dry: contact no cluster. Raises BadRequest, BadData, FolderRefused, StorageLost.
    """
    request.check_stage(study, options.stage)
    TimeBudget.check_length(study)
    request.check_gpus(study)
    check_slots(options.slots)
    cma_es.check_installed(study)
    file = None if options.weights is None else user_path(options.weights, "--weights")
    study, weights = initial_weights.given(_absolute(study), file)
    duplicate_arms.check(study)
    folder = results_folder(study, options.storage)
    check_free(folder, here=not dry)
    study = initial_weights.resumed(study, folder)
    extension = check_identity(study, folder, options.extend)
    changed = own_code.accept(study, folder, options.accept_changed_code)
    cluster.check_reachable(options.address, study.resources, contact=not dry)
    precision.check(study)
    cache = options.cache or default_cache()
    configs = list(starts(study).values())
    for config in configs:
        check_data(config.data)
    wanted = {data_key(config): config.data for config in configs}
    datasets = {key: prepare(data, cache, whole=not dry) for key, data in wanted.items()}
    request.check_sizes(study, datasets)
    request.check_splits(study, datasets)
    content = compared(folder, study, datasets)
    initial_weights.check(study, datasets, weights, folder)
    warm = warm_start.read(study, folder, {content_hash for content_hash, _ in known(datasets).values()})
    said = []
    if study.own.parts and not study.experiment:
        sizes = {key: (found.shape, found.n_classes) for key, found in datasets.items()}
        said = rehearsal.try_parts(study, sizes, cache)
    said += rehearsal.try_search_and_task(study, folder, cache, options.slots == 1, options.address is not None)
    return Accepted(study, folder, datasets, content, weights, changed, warm, extension, said)


def results_folder(study: Study, storage: str) -> ResultsFolder:
    """Where the study's results lie. BadRequest where the storage cannot be written."""
    if not storage.strip():
        raise BadRequest("--storage: is empty (allowed: a folder or a URL)")
    root = ResultsFolder.at(storage)
    folder = root.sub(study.name)
    if root.path is not None:
        place = next(parent for parent in (folder.path, *folder.path.parents) if parent.exists())  # type: ignore[union-attr]
        try:
            tempfile.TemporaryFile(dir=place).close()  # permissions do not tell: root may write anywhere but in /proc
        except OSError:
            raise BadRequest(f"--storage {storage}: {place} cannot be written") from None
        return folder
    try:
        folder.exists()
    except StorageLost:
        raise
    except OSError as error:
        raise BadRequest(f"--storage {error}") from None
    return folder


def _absolute(study: Study) -> Study:
    """The study with the places of its data made absolute: workers run in folders of their own."""

    def places(data: Mapping[str, Any], option: str) -> dict[str, str]:
        given = {name: data[name] for name in ("root", "font_dir") if data.get(name) is not None}
        return {name: str(user_path(place, f"{option}.{name}")) for name, place in given.items()}

    if study.dataset is None:
        return study
    dataset = study.dataset.model_copy(update=places(study.dataset.model_dump(), "dataset"))
    arms = {
        name: arm | ({"data": arm["data"] | places(arm["data"], f"arms.{name}.data")} if "data" in arm else {})
        for name, arm in study.arms.items()
    }
    return study.model_copy(update={"dataset": dataset, "arms": arms})
