"""`--dry-run`: print a study's plan, its cost, the effects it could detect, and what its results folder holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnetlab.driver.options import Options
    from resnetlab.study import Study


def dry_run(study: Study, options: Options) -> None:
    """Print what a run of `study` would do. Runs no trial, contacts no cluster, writes only the data cache.

    Raises the same errors as the run itself before its first trial.
    """
    from resnetlab.analysis.confirm.power_preview import foresight
    from resnetlab.analysis.results import Results
    from resnetlab.driver.checks import request
    from resnetlab.driver.checks.accept import accept
    from resnetlab.driver.checks.dataset_record import guessing, known, test_images
    from resnetlab.driver.dry_run import describe
    from resnetlab.driver.in_time import in_time

    accepted = accept(study, options, dry=True)
    study, folder = accepted.study, accepted.folder
    hashes = {content_hash for content_hash, _ in known(accepted.datasets).values()}
    continuing = request.look(
        study,
        folder,
        hashes,
        guessing(study, accepted.datasets),
        options.stage,
        options.retry_failed,
        accepted.extension,
    )
    results = Results.open(folder.place) if folder.read("study.json") is not None else None
    images = test_images(study, accepted.datasets)
    plan = describe(study, accepted.datasets, options.stage, options.slots)
    fits = in_time(study, results, accepted.datasets, options.slots)
    for line in [*plan, *foresight(study, results, images), *fits, *continuing, *accepted.notes]:
        print(line)
