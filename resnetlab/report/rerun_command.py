"""The command that runs one recorded trial again."""

from __future__ import annotations

from resnetlab.analysis.failures import Failure
from resnetlab.analysis.results import Results
from resnetlab.commands import command, place, short
from resnetlab.provenance import without_secrets

FOUND = ("glyphs", "digits")  # datasets that a rerun finds by itself, where an older record does not say


def debug_command(results: Results, folder: str, failure: Failure) -> str:
    """What runs the example of `failure` alone, and opens a debugger where it fails."""
    return rerun_command(results, folder, str(failure.number), "--debug")


def rerun_command(results: Results, folder: str, *words: str) -> str:
    """What runs a trial of the results at `folder` again, in the current folder; `words` are its number and options.

    It names where the images or fonts lie, as recorded; `DATA` stands for it in results that are older than the record.
    """
    sweep, study = results.sweep, results.study
    data = place(results.folder.path, sweep.get("data_place"))
    if data is None and "data_place" not in sweep and study.dataset is not None and study.dataset.name not in FOUND:
        data = "DATA"
    return command("trial", without_secrets(short(folder)), *(["--data", short(data)] if data else []), *words)
