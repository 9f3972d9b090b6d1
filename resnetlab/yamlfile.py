"""YAML as people mean it: no duplicate keys, no objects, no alias bombs, `1e-3` a number; errors name the place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from resnetlab.errors import BadRequest

MAX_BYTES = 1_000_000
OBJECTIVE = ("metric", "objective", "direction", "mode")  # what other tools let one say
GIVEN = (
    "val_accuracy is maximised (allowed: search.against, a second objective to minimise: parameters, multiply_adds or "
    "train_seconds)"
)
KINDS = ("bool", "int", "float", "str")  # by which pydantic tells the options of a union apart


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                problem = f"key {key!r} must be text"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _no_object(loader: _Loader, node: Any) -> Any:
    problem = f"tag {node.tag!r} is not allowed (allowed: text, numbers, true, false, null, lists, mappings)"
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_Loader.add_constructor(None, _no_object)

# YAML 1.1 reads `1e-3` (no dot) as text; people mean a number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*\.[\d_]*(?:[eE][-+]?\d+)?|\.\d[\d_]*(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)$"),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises BadRequest that names the file, and line and column where there are any."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadRequest(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise BadRequest(f"{path}: {len(raw)} bytes are more than a study can have (allowed: {MAX_BYTES})")
    try:
        content = yaml.load(raw.decode("utf-8"), _Loader)
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path}: not UTF-8 at byte {error.start}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise BadRequest(f"{path}{where}: {error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadRequest(f"{path}: not YAML: {str(error).splitlines()[0]}") from None
    if content is None:
        raise BadRequest(f"{path}: the file is empty (a study needs `dataset`, and `factors` or `arms`)")
    if not isinstance(content, dict):
        raise BadRequest(f"{path}: need a mapping of keys to values, got {type(content).__name__}")
    return content


def parse_value(text: str) -> Any:
    """A value given on the command line, read as YAML would read it."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError:
        return text


def suggestion(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'kernel'?)`, else what is allowed."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (allowed: {', '.join(known)})"


def explain(error: ValidationError, model: type[BaseModel], source: str) -> str:
    """All problems of a validation error, as lines of `source: key: rule, got value`."""
    lines = [": ".join(filter(None, (source, problem))) for problem in _problems(error, model)]
    return "\n".join(dict.fromkeys(lines))


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a validation error: `key: rule, got value`, or a rule that names its settings itself."""
    return next(_problems(error, model))


def broken_rule(error: ValidationError) -> str:
    """The first rule that is broken, without key and value, for a message that has named them."""
    return _rule(error.errors(include_url=False)[0])


def _problems(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"] if part not in KINDS)
        rule = _rule(item)
        if item["type"] == "extra_forbidden":
            last, known = str(item["loc"][-1]), _fields_at(model, item["loc"][:-1])
            rule = "unknown key" + (
                f", got {item['input']!r}: {GIVEN}" if last in OBJECTIVE else suggestion(last, known)
            )
        elif item["type"] == "missing":
            rule = "is missing"
        elif item["type"] != "value_error":
            rule = f"{rule}, got {item['input']!r}"
        yield f"{key}: {rule}" if key else rule


def _rule(item: ErrorDetails) -> str:
    return item["msg"].removeprefix("Value error, ")


def _fields_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
