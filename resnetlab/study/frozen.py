"""Validated values of a study: strict about types, and hashed by content."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from functools import cache
from hashlib import blake2b
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

TRUTH = {"yes": True, "on": True, "no": False, "off": False}  # how YAML 1.1 also spells them


def as_truth(value: Any) -> Any:
    """`value` of a setting that is true or false, where it is spelt yes, no, on, off, 1 or 0; any other as it is."""
    if isinstance(value, str):
        return TRUTH.get(value.lower(), value)
    return bool(value) if type(value) is int and value in (0, 1) else value


class Frozen(BaseModel):
    """A validated value: no unknown keys, no changes afterwards, no infinities, no text or truth value for a number, no
    number for a text that has no `BeforeValidator` of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _number(cls, value: Any, info: ValidationInfo) -> Any:
        """pydantic would take '30' for 30, true for 1, and 't' for true."""
        field = cls.model_fields[str(info.field_name)]
        annotation: Any = field.annotation
        kinds = kinds_of(annotation)
        if kinds == {bool}:
            value = as_truth(value)
        if isinstance(value, (str, bool)) and kinds & {int, float, bool} and type(value) not in kinds:
            need = "a number" if float in kinds else "a whole number" if int in kinds else "true or false"
            said = f"the text {value!r}" if isinstance(value, str) else str(value).lower()
            raise ValueError(f"need {need}, got {said}")
        converts = any(isinstance(rule, BeforeValidator) for rule in rules_of(field))
        if isinstance(value, (int, float)) and _is_text(annotation) and not converts:
            said = str(value).lower() if isinstance(value, bool) else f"the number {value}"
            raise ValueError(f"need text, got {said}: put it in quotes")
        return value


def rules_of(info: FieldInfo) -> Iterator[Any]:
    """What `Annotated` and `Field` say beside the type, also of one option of a union."""
    waiting = [*info.metadata, info.annotation]
    while waiting:
        rule = waiting.pop(0)
        if isinstance(rule, FieldInfo):
            waiting += rule.metadata
        elif get_origin(rule) in (Annotated, Union, types.UnionType):
            waiting += get_args(rule)
        else:
            yield rule


@cache
def kinds_of(annotation: Any) -> frozenset[Any]:
    """The plain types that stand anywhere in an annotation."""
    if get_origin(annotation) is Literal:
        return frozenset(map(type, get_args(annotation)))
    if get_origin(annotation) is Annotated:
        return kinds_of(get_args(annotation)[0])
    inner = (kinds_of(part) for part in get_args(annotation))
    return frozenset({annotation} & {bool, int, float, str}).union(*inner)


@cache
def _is_text(annotation: Any) -> bool:
    """True of str, also where it is annotated or may be None; a Literal has its own message."""
    if get_origin(annotation) is Annotated:
        return _is_text(get_args(annotation)[0])
    inner = [part for part in get_args(annotation) if part is not type(None)]
    return annotation is str or (get_origin(annotation) is not Literal and len(inner) == 1 and _is_text(inner[0]))


def digest(value: Any) -> str:
    """A stable hash (32 hexadecimal digits) of a JSON-like value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return blake2b(text.encode(), digest_size=16).hexdigest()
