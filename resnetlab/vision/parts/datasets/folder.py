"""A folder of the user's images: see `vision.data.folder.image_folder`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from resnetlab.builtin import Dataset
from resnetlab.vision.parts.shared_settings import Root

if TYPE_CHECKING:
    from resnetlab.study import DataConfig
    from resnetlab.vision.data.source import Source


def _as_text(value: Any) -> Any:
    return str(value) if type(value) is int else value


FolderOrPattern = Annotated[str | None, BeforeValidator(_as_text)]  # as of `vision.data.folder.naming.Rule`


class Settings(BaseModel):
    root: Root = None
    size: int | None = Field(None, ge=4, le=1024, description="folder: resize to size x size pixels")
    mode: Literal["rgb", "grey"] | None = Field(None, description="folder: convert all images to this mode")
    table: str | None = Field(
        None, description="folder: CSV, TSV, JSON-lines or Parquet file with a row for each image; its path from `root`"
    )
    path_column: str | None = Field(
        None, description="column of `table` with the image's path; default: path, file, image, …"
    )
    label_column: str | None = Field(
        None, description="column of `table` with the class; default: label, class, category, …"
    )
    split_column: str | None = Field(
        None, description="column of `table` with train, val or test; default: split, if there is one"
    )
    class_from: FolderOrPattern = Field(
        None,
        description="folder: an image's class: the name of a folder above it (1: the first below the split's, -1: the "
        "one that it lies in), or what the group of a regular expression finds in its path",
    )
    group: FolderOrPattern = Field(
        None,
        description="folder: images that stay together in every split, such as frames of one scene: a folder or a "
        "regular expression as of class_from, or a column of `table`",
    )
    class_names: str | None = Field(
        None, description="folder: CSV, TSV or JSON file with a readable name for each class; its path from `root`"
    )
    skip: int = Field(0, ge=0, description="folder: how many images may be unusable; they are left out")
    untrained: Literal["refuse", "leave-out"] = Field(
        "refuse", description="folder: what to do with classes that have no training images"
    )


def folder(config: DataConfig, cache: Path) -> Source:
    from resnetlab.vision.data.folder.image_folder import ImageFolder

    return ImageFolder(config, cache)


PARTS = (Dataset("folder", folder, settings=Settings, places=("root",)),)
