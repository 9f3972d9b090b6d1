"""YAML as people mean it: the core schema of YAML 1.2, no duplicate keys, no objects, no alias bombs.

PyYAML reads YAML 1.1, where `010` is 8, `1:30` is 90, `no` is false, `2024-01-01` a date and `1e-3` text. Here `010` is
10, `1e-3` a number, and the others are text, which a setting that is no text refuses. Errors name the place.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from resnetlab.errors import BadRequest

MAX_BYTES = 1_000_000
OBJECTIVE = ("metric", "objective", "direction", "mode")  # what other tools let one say
GIVEN = (
    "val_accuracy is maximised, or what `objective` at the top of the study names, which knows its direction (allowed "
    "here: search.second_objective, to minimise beside it: parameters, multiply_adds or train_seconds)"
)
KINDS = ("bool", "int", "float", "str")  # by which pydantic tells the options of a union apart


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012  # none of YAML 1.1's
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}

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
                problem = f"key {key!r} must be text" + ("" if isinstance(key, list | dict) else ": put it in quotes")
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _core(kind: str, pattern: str, first: str, read: Callable[[str], Any]) -> None:
    """Read unquoted text that matches `pattern`, or has the tag, as a `kind`. first: characters that it begins with."""
    tag, spelling = f"tag:yaml.org,2002:{kind}", re.compile(f"(?:{pattern})$")

    def construct(loader: _Loader, node: Any) -> Any:
        text = loader.construct_scalar(node)
        try:
            if not spelling.match(text):
                raise ValueError(f"{text!r} is not of type {kind}")
            return read(text)
        except ValueError as error:  # also a number of more digits than Python converts
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None

    _Loader.add_implicit_resolver(tag, spelling, [*first, *([""] if spelling.match("") else [])])
    _Loader.add_constructor(tag, construct)


def _no_object(loader: _Loader, node: Any) -> Any:
    problem = f"tag {node.tag!r} is not allowed (allowed: text, numbers, true, false, null, lists, mappings)"
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


# YAML 1.2.2, section 10.3.2 (tag resolution of the core schema)
_core("null", "null|Null|NULL|~|", "~nN", lambda text: None)
_core("bool", "true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true")
_core("int", "0o[0-7]+|0x[0-9a-fA-F]+|[-+]?[0-9]+", "-+0123456789", lambda text: int(text, _base(text)))
_core(
    "float",
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "-+0123456789.",
    lambda text: float(re.sub(r"\.(?=[inIN])", "", text)),
)
for _kind in ("str", "seq", "map"):
    _tag = f"tag:yaml.org,2002:{_kind}"
    _Loader.add_constructor(_tag, yaml.SafeLoader.yaml_constructors[_tag])
_Loader.add_constructor(None, _no_object)


def _base(text: str) -> int:
    return {"0o": 8, "0x": 16}.get(text[:2], 10)


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
    """A value given on the command line, read as YAML would read it; text where it is not YAML."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError):
        return text


def quoted(text: str) -> str:
    """`text` as a YAML scalar on one line, in double quotes."""
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=MAX_BYTES).rstrip("\n")


def assign(content: dict[str, Any], key: str, value: Any) -> None:
    """Set the dotted `key` of parsed content. BadRequest where it leads through something that is not a section."""
    *parents, last = _path(key)
    place: Any = content
    for part in parents:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise BadRequest(f"--set {key}={value}: {part} is not a section of the study")
    if not last:
        raise BadRequest(f"--set {key}={value}: need key=value")
    place[last] = value


OF_FACTOR = frozenset({"levels", "low", "high", "log", "when"})  # keys below the name of a factor


def _path(key: str) -> list[str]:
    """The keys of a dotted `key`, one below another. Names of settings may have dots, as `loss.gamma` in
    `baseline.loss.gamma` and `factors.loss.gamma.levels`."""
    section, *rest = key.split(".")
    arm = [rest.pop(0)] if section == "arms" and len(rest) > 1 else []
    if section not in ("baseline", "factors", "arms") or not rest or (arm and rest[0] == "data"):
        return [section, *arm, *rest]
    end = next((i for i, part in enumerate(rest) if i and part in OF_FACTOR and section == "factors"), len(rest))
    return [section, *arm, ".".join(rest[:end]), *rest[end:]]


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
