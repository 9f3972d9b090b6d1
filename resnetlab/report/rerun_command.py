"""The command line that reruns a recorded trial."""

from __future__ import annotations

from resnetlab.analysis.failures import Failure
from resnetlab.analysis.results import Results
from resnetlab.commands import command, place, short
from resnetlab.provenance import without_secrets

SELF_CONTAINED = ("glyphs", "digits")  # datasets that need no path, for records that do not tell


def debug_command(results: Results, folder: str, failure: Failure) -> str:
    """What runs the example of `failure` alone, and opens a debugger where it fails."""
    return rerun_command(results, folder, str(failure.number), "--debug")


def rerun_command(results: Results, folder: str, *words: str) -> str:
    """The command that reruns a trial of the results at `folder`, valid in the current folder.

    words: the trial's number and options. The recorded path of images or fonts is added; `DATA` if it was not recorded.
    """
    sweep, study = results.sweep, results.study
    data = place(results.folder.path, sweep.get("data_place"))
    if (
        data is None
        and "data_place" not in sweep
        and study.dataset is not None
        and study.dataset.name not in SELF_CONTAINED
    ):
        data = "DATA"
    return command("trial", without_secrets(short(folder)), *(["--data", short(data)] if data else []), *words)
