"""Images as resident uint8 arrays: where they come from, which split each belongs to.

`check` finds what is obviously wrong in well under two seconds; `prepare` decodes once into the cache and opens it.
Neither imports torch. Augmentation, which needs torch, is `resnetlab.vision.data.augment`.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

from resnetlab.errors import BadData, BadRequest
from resnetlab.paths import user_path
from resnetlab.study import catalog
from resnetlab.study.data_config import DataConfig
from resnetlab.study.frozen import digest
from resnetlab.vision.data.cache import load
from resnetlab.vision.data.dataset import Dataset
from resnetlab.vision.data.own_dataset import OwnDataset
from resnetlab.vision.data.remarks import doubts, remarks
from resnetlab.vision.data.source import Append, Contents, Named, Source

__all__ = ["Dataset", "check", "default_cache", "label_of", "prepare", "doubted", "named", "said"]

_prepared: dict[tuple[DataConfig, Path], Dataset] = {}
_readers: WeakKeyDictionary[Dataset, Source] = WeakKeyDictionary()


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
    source = _source(config, cache or default_cache())
    with _reading(config):
        source.check()


def prepare(config: DataConfig, cache: Path | None = None, whole: bool = False) -> Dataset:
    """The dataset, opened from the cache; decoded into it first where this machine has not done so yet.

    A process that asks again for the same config gets the same Dataset: source files that change under a running sweep
    do not change its data, unless the cache itself was altered. whole: read every byte of the cache to find that out.
    Raises BadRequest and BadData as `check` does, and BadData for any file that cannot be decoded.
    """
    cache = (cache or default_cache()).absolute()
    if (config, cache) not in _prepared or whole or not _prepared[config, cache].unchanged():
        source = _source(config, cache)
        with _reading(config):
            source.check()
            source.fetch()
            key = f"{re.sub(r'[^A-Za-z0-9]+', '-', config.name)}-{digest(source.fingerprint())[:16]}"
        dataset = Dataset(
            load(cache, key, lambda append: _written(source, config, append), whole), source.label, config
        )
        if dataset.n_classes < 2:
            raise BadData(f"dataset: all {len(dataset.images):,} images are of one class, {dataset.classes[0]}")
        _prepared[config, cache] = dataset
    return _prepared[config, cache]


def label_of(config: DataConfig) -> str:
    """The label that is learned: the one that is asked for, else the dataset's first. BadRequest as `check` does."""
    return _source(config, default_cache()).label


def said(
    config: DataConfig, dataset: Dataset, seed: int, fractions: Sequence[float] = (), cache: Path | None = None
) -> list[str]:
    """Lines that a dry run and a run print of their data: what is read, what is not, what was changed, what is absent.

    seed: of the splits; fractions: what trials may have as data_fraction. Raises as `check` does.
    """
    with _reading(config):
        return [*_source_of(config, dataset, cache).remarks(dataset.notes), *remarks(dataset, seed, fractions)]


def doubted(config: DataConfig, dataset: Dataset, seed: int, cache: Path | None = None) -> list[str]:
    """Lines on what lets test accuracy say less than it seems to, as `remarks.doubts`. Raises as `check` does."""
    paths, _ = named(config, dataset, cache)
    found = catalog.dataset(config.name)
    return list(doubts(dataset, seed, paths, photographs=not (found and found.drawn)))


def named(config: DataConfig, dataset: Dataset, cache: Path | None = None) -> tuple[list[str], list[str] | None]:
    """Of each image, its file from the root on, and its group; nothing and None where the source has no files or no
    groups. Raises as `check` does."""
    source = _source_of(config, dataset, cache)
    with _reading(config):
        paths, groups = source.names(dataset.notes) if isinstance(source, Named) else ([], None)
    return (paths, groups) if len(paths) == len(dataset.images) else ([], None)


def _source_of(config: DataConfig, dataset: Dataset, cache: Path | None) -> Source:
    """One reader for all that is asked of a dataset: its files are then listed once."""
    if dataset not in _readers:
        _readers[dataset] = _source(config, cache or default_cache())
    return _readers[dataset]


def _written(source: Source, config: DataConfig, append: Append) -> Contents:
    with _reading(config):
        return source.write(append)


@contextmanager
def _reading(config: DataConfig) -> Iterator[None]:
    """BadData where the source's files cannot be read."""
    try:
        yield
    except OSError as error:
        place = config.root or config.font_dir or config.name
        raise BadData(f"{error.filename or place}: cannot be read ({error.strerror or error})") from None


def _source(config: DataConfig, cache: Path) -> Source:
    """The reader for `config`. Settings that it does not read are refused rather than ignored."""
    built_in = catalog.dataset(config.name)
    source: Source = OwnDataset(config, cache) if config.own or built_in is None else built_in.make(config, cache)
    reads = config.reads
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
