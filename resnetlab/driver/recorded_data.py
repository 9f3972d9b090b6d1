"""The data of a recorded trial, found again: where it lies was not recorded."""

from __future__ import annotations

from pathlib import Path

from resnetlab.errors import BadData, BadRequest
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data import Dataset, default_cache, prepare


def data_of(config: DataConfig, recorded: str | None, place: str | None, cache: Path | None = None) -> Dataset:
    """The dataset of a trial's config. BadData where it is not the one that was recorded, by its content hash.

    place: folder or archive of the images (glyphs: of further fonts), where the dataset needs one.
    """
    where = {"font_dir" if config.name == "glyphs" else "root": place} if place else {}
    data = DataConfig.model_validate(config.model_dump(exclude_unset=True) | where)
    try:
        dataset = prepare(data, cache or default_cache())
    except (BadData, BadRequest) as error:
        if place:
            raise
        raise type(error)(f"{error}\nwhere the data lies is not recorded: give it with --data") from None
    if recorded and dataset.hash != recorded:
        raise BadData(
            f"{data.name}: the data here is {dataset.hash}, the trial's was {recorded}; give that with --data"
        )
    return dataset
