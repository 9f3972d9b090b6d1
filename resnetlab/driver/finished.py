"""Whether a study that is asked for again has nothing left to do: told from its folder, without Ray and torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resnetlab.driver.checks.dataset_record import compared, starts
from resnetlab.planning.plan import asked
from resnetlab.storage.lease import holder
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import Study
from resnetlab.study.records import Phase, Status
from resnetlab.sweep.task import data_key
from resnetlab.vision.data import default_cache, prepare

if TYPE_CHECKING:
    from resnetlab.analysis.results import Results

FREE = {"resources", "given_weights", "own", "time_budget"}  # of study.json: what may differ, or is compared by itself


def finished(study: Study, place: str, cache: Path | None = None) -> Results | None:
    """The results of a study that has all that it asks for, with a report that is newer than its tables; else None.

    Where in doubt None: whoever runs the study then finds out. Raises BadData where the data is not what it was, as a
    run would.

    Args:
        study: as it is asked for now.
        place: path or URL of its results folder.
        cache: of decoded data; None for the default.
    """
    folder = ResultsFolder.at(place)
    held = folder.read_json("study.json")
    if held is None or (study.confirm.design != "none" and folder.read_json("plan.json") is None):
        return None
    if (held_by := holder(folder)) is not None and held_by.alive:
        return None
    if not _same(held, study):
        return None
    from resnetlab.analysis.results import Results  # takes a second, which a new study is not to wait for

    if not _reported(folder):
        return None
    results = Results.open(place)
    if not _complete(results, study):
        return None
    datasets = {data_key(config): prepare(config.data, cache or default_cache()) for config in starts(study).values()}
    compared(folder, study, datasets)
    return results


def _same(held: dict[str, object], study: Study) -> bool:
    now = study.recorded()
    alike = all(held.get(name) == now.get(name) for name in (held.keys() | now.keys()) - FREE)
    before = held.get("own")
    source = before.get("source", "") if isinstance(before, dict) else ""
    parts = before.get("parts", []) if isinstance(before, dict) else []
    own = study.own.model_dump(mode="json")
    return alike and source == own["source"] and parts == own["parts"]


def _reported(folder: ResultsFolder) -> bool:
    """The report was made after all that it shows."""
    from resnetlab.analysis.results import TABLES

    report = folder.changed("report.html")
    sources = [folder.changed(name) for name in ("study.json", "plan.json", *(f"{table}.parquet" for table in TABLES))]
    return report is not None and all(changed is None or changed <= report for changed in sources)


def _complete(results: Results, study: Study) -> bool:
    from resnetlab.analysis.failures import to_go

    plan = results.plan
    if results.notes or results.folder.names("segments"):
        return False
    if plan is None or study.confirm.design == "none":
        return plan is None and _all_ended(results) and _explored(results) >= study.reachable_trials
    if plan.asked != asked(study):
        return False
    piloted = results.trials["phase"] == Phase.PILOT
    in_time = plan.time is not None  # then what there was no time for before the plan is not made up for
    return bool(
        _all_ended(results)
        and (in_time or _explored(results) >= study.reachable_trials)
        and (in_time or piloted.sum() >= study.confirm.pilot)
        and to_go(results) == 0
    )


def _all_ended(results: Results) -> bool:
    """No trial waits or runs, and one at least reached its whole budget."""
    status = results.trials["status"]
    ended = status.map(lambda one: Status(one).ended).astype(bool)
    return bool(ended.all() and (status == Status.COMPLETE).any())


def _explored(results: Results) -> int:
    """How many trials the search has asked for."""
    return int(results.trials["phase"].isin([Phase.EXPLORE, Phase.AUDIT]).sum())
