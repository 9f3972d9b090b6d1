"""Images as resident uint8 arrays: where they come from, which split each belongs to.

`check` finds what is obviously wrong in well under two seconds; `prepare` decodes once into the cache and opens it.
Neither imports torch. Augmentation, which needs torch, is `resnetlab.data.augment`.
"""

import os
from collections.abc import Callable
from pathlib import Path

from resnetlab.config import DataConfig, digest
from resnetlab.data.cache import load
from resnetlab.data.character_fonts import CharacterFonts
from resnetlab.data.cifar import Cifar
from resnetlab.data.dataset import Dataset
from resnetlab.data.digits import Digits
from resnetlab.data.folder import Folder
from resnetlab.data.glyphs import Glyphs
from resnetlab.data.source import Source
from resnetlab.errors import BadRequest
from resnetlab.paths import user_path

__all__ = ["Dataset", "check", "default_cache", "prepare"]

SOURCES: dict[str, Callable[[DataConfig, Path], Source]] = {
    "glyphs": Glyphs,
    "cifar10": Cifar,
    "cifar100": Cifar,
    "folder": Folder,
    "character-fonts": CharacterFonts,
    "digits": Digits,
}
ALL_READ = {"name", "val_fraction", "test_fraction", "limit"}

_prepared: dict[tuple[DataConfig, Path], Dataset] = {}


def default_cache() -> Path:
    """$RESNETLAB_CACHE, else $XDG_CACHE_HOME/resnetlab, else ~/.cache/resnetlab: an absolute path.

    A relative $XDG_CACHE_HOME is ignored, as its specification has it. BadRequest where this leads to no path.
    """
    if chosen := os.environ.get("RESNETLAB_CACHE"):
        return user_path(chosen, "RESNETLAB_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):  # noqa: PTH117
        return user_path(shared, "XDG_CACHE_HOME") / "resnetlab"
    home = os.path.expanduser("~") if os.environ.get("HOME", "unset") else ""  # noqa: PTH111
    if not os.path.isabs(home):  # noqa: PTH117
        raise BadRequest("no home folder for the data cache: set RESNETLAB_CACHE to a folder, or HOME")
    return user_path(home, "HOME") / ".cache" / "resnetlab"


def check(config: DataConfig, cache: Path | None = None) -> None:
    """The quick part of `prepare`: settings, folders, a few files. Decodes next to nothing, writes nothing.

    Raises BadRequest where a setting is wrong, BadData where the data is absent or visibly broken.
    """
    _source(config, cache or default_cache()).check()


def prepare(config: DataConfig, cache: Path | None = None, whole: bool = False) -> Dataset:
    """The dataset, opened from the cache; decoded into it first where this machine has not done so yet.

    A process that asks again for the same config gets the same Dataset: source files that change under a running sweep
    do not change its data, unless the cache itself was altered. whole: read every byte of the cache to find that out.
    Raises BadRequest and BadData as `check` does, and BadData for any file that cannot be decoded.
    """
    cache = (cache or default_cache()).absolute()
    if (config, cache) not in _prepared or whole or not _prepared[config, cache].unchanged():
        source = _source(config, cache)
        source.check()
        source.fetch()
        key = f"{config.name}-{digest(source.fingerprint())[:16]}"
        _prepared[config, cache] = Dataset(load(cache, key, source.write, whole), source.label, config)
    return _prepared[config, cache]


def _source(config: DataConfig, cache: Path) -> Source:
    """The reader for `config`. Settings that it does not read are refused rather than ignored."""
    source = SOURCES[config.name](config, cache)
    reads = ALL_READ | source.reads
    for field, info in DataConfig.model_fields.items():
        value = getattr(config, field)
        if field not in reads and value != info.default:
            raise BadRequest(
                f"dataset.{field}: {value!r}, but {config.name} does not read it (it reads: {', '.join(sorted(reads))})"
            )
    if config.label is not None and config.label not in source.labels:
        raise BadRequest(
            f"dataset.label: {config.label!r} is not a label of {config.name} (allowed: {', '.join(source.labels)})"
        )
    return source
