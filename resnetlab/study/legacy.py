"""What was recorded under older names still opens and keeps its hashes: old names of settings in study files, plans and
tables are translated when they are read, and hashes are taken over the names of the first results.

A table of names is a tree like the content that it translates: old name to new one, or a key to the table for what is
below it (`*`: any other key). Where it meets text instead of keys, it translates the words in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

Names = Mapping[str, Any]
BOTH = "{} and {} are one setting under its old name and its new one: give only the new one"

SETTINGS: Names = {"batch": "batch_size"}
STUDY: Names = {
    "search": {"grace": "grace_period", "reduction": "reduction_factor", "against": "second_objective"},
    "resources": {"epoch_limit": "epoch_timeout_s"},
    "baseline": SETTINGS,
    "factors": {**SETTINGS, "*": {"when": SETTINGS}},
    "arms": {"*": SETTINGS},
    "confirm": {"factors": SETTINGS},
    "hypotheses": SETTINGS,
}
PLAN: Names = {
    "incumbent": SETTINGS,
    "compared": SETTINGS,
    "arms": {"values": SETTINGS, "changed": SETTINGS, "companions": SETTINGS},
    "contrasts": SETTINGS,
    "asked": {"factors": SETTINGS, "hypotheses": SETTINGS},
}

# Settings that came after the first results: not hashed while they have a value that stands for their absence.
LATER: Mapping[str, tuple[Any, ...]] = {
    "precision": ("fp32",),
    "deterministic": (False,),
    "arms": ({}, None),
    "hypotheses": ([],),
    "loss": ("cross-entropy",),
    "augment": ("none",),
    "own": ({"parts": [], "source": "", "folder": "study"},),
    "metrics": ([],),
    "experiment": ("",),
    "numbers": ({},),
    "objective": ("",),
    "metric": ("",),
    "class_weights": ("none",),
    "sampling": ("shuffled",),
}
# The same of the sections `confirm` and `search`, and of datasets, where other parts may have these names.
LATER_CONFIRM: Mapping[str, tuple[Any, ...]] = {
    "around": ("incumbent",),
    "images": ("new",),
    "splits": ("fixed",),
    "looks": ("none",),
    "primaries": (None,),
    "reestimate": (False,),
    "variance": ("arms",),
    "last_epochs": (1,),
}
LATER_SEARCH: Mapping[str, tuple[Any, ...]] = {"enqueue": ([],), "from": ([],), "repeat": (False,)}
LATER_DATA: Mapping[str, tuple[Any, ...]] = {
    "table": (None,),
    "path_column": (None,),
    "label_column": (None,),
    "split_column": (None,),
    "class_from": (None,),
    "group": (None,),
    "class_names": (None,),
    "skip": (0,),
    "untrained": ("refuse",),
    "limit_of": ("train",),
}

# Settings that built-in parts had at the first results: where nothing reads one, it is hashed as null. A setting that
# a part has brought since then is not hashed where nothing reads it.
PARTS = frozenset(
    [
        "blocks",
        "kernel",
        "padding",
        "width",
        "downsample",
        "shortcut",
        "se",
        "pool",
        "head_depth",
        "head_width",
        "dropout",
        "input_size",
        "resize",
        "momentum",
        "nesterov",
        "beta2",
        "step_at",
        "step_factor",
        "constant_part",
        "warmup_part",
        "crop",
        "flip",
        "flip_vertical",
        "rotation",
    ]
)
SEARCH = frozenset({"grace_period", "reduction_factor"})  # the same of stopping rules
DATA = frozenset({"label", "variants", "size", "mode"})  # the same of datasets, hashed also where nothing reads them


def of_study(content: Mapping[str, Any]) -> Names:
    """The old names that a study file may have. A task's own settings never had others."""
    return {key: STUDY[key] for key in ("search", "resources")} if content.get("experiment") else STUDY


def renamed(content: Any, names: Names, say: Callable[[str], object] = lambda note: None, place: str = "") -> Any:
    """`content` with each old name of the table replaced by its new one.

    say: hears of each, as `search.grace is now search.grace_period`.

    Raises:
        ValueError: a setting is given under its old name and its new one.
    """
    if not names:
        return content
    if isinstance(content, str):
        return _words(content, names, say, place)
    if isinstance(content, list | tuple):
        return [renamed(item, names, say, place) for item in content]
    if not isinstance(content, Mapping):
        return content
    found = {}
    for key, value in content.items():
        entry, path = names.get(key), f"{place}.{key}".lstrip(".")
        new = entry if isinstance(entry, str) else key
        if new != key:
            new_path = f"{place}.{new}".lstrip(".")
            if new in content:
                raise ValueError(BOTH.format(path, new_path))
            say(f"{path} is now {new_path}")
        found[new] = renamed(value, names.get("*", {}) if entry is None or new != key else entry, say, path)
    return found


def _words(text: str, names: Names, say: Callable[[str], object], place: str) -> str:
    """A name of a factor, or a sentence about one: `batch 64 > batch 32`, `batch: 64 - 32`. Levels of that name stay,
    and so do sentences about named arms."""
    if text.startswith(("arm ", "arm:")):
        return text
    for old, new in names.items():
        found = re.sub(rf"(^|[<>×] ?|\bof ){old}(?=$|[ =:])", rf"\g<1>{new}", text)
        if found != text:
            say(f"{place}: {old} is now {new}")
        text = found
    return text


def assigned(
    changes: Mapping[str, Any], say: Callable[[str], object], names: Names = STUDY
) -> Iterator[tuple[str, Any]]:
    """Settings as `--set key=value` gives them, each key and what is in its value under new names. Raises ValueError as
    `renamed` does."""
    for key, content in changes.items():
        parts = key.split(".")
        for part in reversed(parts):
            content = {part: content}
        content = renamed(content, names, say)
        for i in range(len(parts)):
            ((parts[i], content),) = content.items()
        new = ".".join(parts)
        if new != key and new in changes:
            raise ValueError(BOTH.format(key, new))
        yield new, content


def in_use(content: Mapping[str, Any], later: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """`content` without settings that came after the first results and have a value that stands for their absence."""
    return {key: value for key, value in content.items() if value not in later.get(key, ())}


def recorded(content: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """What a hash is taken over: `content` under the old names, without what came later and is not used."""
    found: dict[str, Any] = renamed(in_use(content, LATER), _inverse(names))
    return found


def _inverse(names: Names) -> Names:
    return {
        entry if isinstance(entry, str) else key: key if isinstance(entry, str) else _inverse(entry)
        for key, entry in names.items()
    }


def seeding(plan: Mapping[str, Any], evidence: Collection[str]) -> dict[str, Any]:
    """The part of a plan that its seeds are drawn from: all but the evidence; in version 1 all of it."""
    return {key: value for key, value in plan.items() if plan.get("version") == 1 or key not in evidence}


def table(found: pa.Table) -> pa.Table:
    """A trials table of schema version 2 under the names of version 3: of its factors, and of settings in `config`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = found.rename_columns([SETTINGS.get(name, name) for name in found.column_names])
    place = found.schema.get_field_index("config")
    if place >= 0 and pa.types.is_string(found.schema.field(place).type):
        for old, new in SETTINGS.items():  # in JSON, a name in quotes before a colon is a key
            config = pc.replace_substring(found["config"], f'"{old}":', f'"{new}":')
            found = found.set_column(place, found.schema.field(place), config)
    return found
