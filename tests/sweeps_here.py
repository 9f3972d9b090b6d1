"""Drive a sweep with its real workers in this process, without a Ray cluster."""

from pathlib import Path

from resnetlab.driver.checks import own_code
from resnetlab.driver.checks.dataset_record import compared, image_table, known, starts
from resnetlab.driver.checks.extend import check_identity
from resnetlab.experiment.messages import TrialContext
from resnetlab.ray_backend.worker import TrialWorker
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store, write_table
from resnetlab.study import Study
from resnetlab.sweep.extended import write_study
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import data_key
from resnetlab.vision.data import prepare

FACTS = {"git_revision": "g", "versions": "{}"}


def run_here(
    study: Study, place: Path, cache: Path, until: int | None = None, extends: bool | None = None
) -> list[dict]:
    """Run `study` into the folder `place`, one trial after another, or `until` so many trials have ended; its rows.

    extends: whether it may ask for more than the folder has; None: not looked at, and no study.json."""
    folder = ResultsFolder.at(place)
    datasets = {data_key(config): prepare(config.data, cache) for config in starts(study).values()}
    folder.write_json("data.json", compared(folder, study, datasets))
    if len(files := image_table(study, datasets)):
        write_table(folder, "images", files)
    own_code.keep(folder, study, [])
    store = Store(folder, study.columns, own=study.own_columns, measures=(*study.measures, *study.borrowed))
    facts = FACTS
    if extends is not None:
        facts = FACTS | {"study_version": write_study(store, study, check_identity(study, folder, extends))}
    sweep = Sweep(study, store, facts, known(datasets), code_place=cache / "code")
    more = {"code": own_code.version(study), "metrics": study.scored, "numbers": tuple(study.numbers)}
    more |= {"confirmed": study.confirmed_score, "last_epochs": study.confirm.last_epochs}
    context = TrialContext(folder.url, cache, cpus=1, gpus=0, epoch_timeout_s=600, **more)
    ended = 0
    while (until is None or ended < until) and (task := sweep.next()) is not None:
        worker = TrialWorker({"task": task, "context": context})
        while sweep.report(task.trial_id, worker.step()["report"]):
            pass
        ended += 1
    if sweep.error is not None:
        store.close()
        raise sweep.error
    store.close()
    return list(store.trials.values())
