"""Files of weights that were given to a sweep, as its results folder keeps them for every worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnetlab.errors import BadData
from resnetlab.storage.layout import WEIGHTS
from resnetlab.storage.results_folder import ResultsFolder

if TYPE_CHECKING:
    from resnetlab.vision.models.pretrained import Weights


def by_name(model: str, weights: str) -> str:
    """What `initial_weights.contents` calls torchvision's weights of a network."""
    return f"{model} {weights}"


def kept(folder: ResultsFolder, digest: str) -> Weights:
    """Weights that were given to this sweep. BadData where they are not there, or are not what they were."""
    from resnetlab.vision.models.pretrained import Weights

    name = f"{WEIGHTS}/{digest}.safetensors"
    raw = folder.read(name)
    if raw is None:
        raise BadData(f"weights=file:{digest}: not in {folder.url}/{WEIGHTS}: give the file with --weights")
    found = Weights.unpack(raw, f"{folder.url}/{name}")
    if found.digest != digest:
        raise BadData(f"{folder.url}/{name}: altered: its content is {found.digest}; give the file with --weights")
    return found


def keep(folder: ResultsFolder, given: Weights | None) -> None:
    """Leave the given weights where every worker finds them."""
    if given is None:
        return
    name, raw = f"{WEIGHTS}/{given.digest}.safetensors", given.pack()
    if folder.read(name) != raw:
        folder.write(name, raw)
