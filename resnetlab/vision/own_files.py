"""The files of a study's own code on the machine of a trial."""

from __future__ import annotations

import platform
from pathlib import Path

from resnetlab.errors import BadData, NodeRefused
from resnetlab.experiment.messages import TrialContext
from resnetlab.experiment.source import Source, changed, installed, of_packages
from resnetlab.storage.layout import CODE
from resnetlab.storage.results_folder import ResultsFolder

_alike: set[str] = set()  # hashes of own code whose packages this process has compared


def unpacked(folder: ResultsFolder, context: TrialContext) -> Path | None:
    """Their folder on this machine; they come with the results folder. None for a study without own code.

    Raises NodeRefused where a package that the study refers to is another one here than the sweep recorded.
    """
    if not context.code:
        return None
    found = Source.read(folder.sub(CODE).sub(context.code))
    if found is None:
        raise BadData(f"{folder.url}/{CODE}/{context.code}: the study's own code is not there")
    _check_packages(found)
    return found.unpack(context.code_place)


def _check_packages(recorded: Source) -> None:
    if recorded.hash in _alike:
        return
    if differences := changed(of_packages(recorded), installed(recorded)):
        raise NodeRefused(
            f"node {platform.node()}: a package that the study refers to is not the one that the sweep has recorded "
            f"({'; '.join(map(str, differences))}): install that one there, or take the node out of the cluster"
        )
    _alike.add(recorded.hash)
