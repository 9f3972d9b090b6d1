"""The files of a study's own code on the machine of a trial."""

from __future__ import annotations

from pathlib import Path

from resnetlab.errors import BadData
from resnetlab.experiment.messages import TrialContext
from resnetlab.experiment.source import Source
from resnetlab.storage.layout import CODE
from resnetlab.storage.results_folder import ResultsFolder


def unpacked(folder: ResultsFolder, context: TrialContext) -> Path | None:
    """Their folder on this machine; they come with the results folder. None for a study without own code."""
    if not context.code:
        return None
    found = Source.read(folder.sub(CODE).sub(context.code))
    if found is None:
        raise BadData(f"{folder.url}/{CODE}/{context.code}: the study's own code is not there")
    return found.unpack(context.code_place)
