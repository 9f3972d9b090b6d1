"""The settings of a user's function or class: its own keyword arguments, with their annotations, defaults and bounds.

What is passed to it by the kind of part that it is (`shape`, `classes`; `trial`) is no setting, and neither are `*args`
and `**kwargs`: a setting has a name in the signature. An argument of another type than a table's cell can have stays at
its default.
"""

from __future__ import annotations

import inspect
import types
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from resnetlab.errors import BadRequest
from resnetlab.study.frozen import Frozen, as_truth, rules_of
from resnetlab.study.yaml_io import explain, first_problem, suggestion

ARROW = {int: "int64", float: "double", bool: "bool", str: "string"}  # names that pyarrow.type_for_alias takes
ALLOWED = "int, float, bool, str, Literal[…], one of these or None, Annotated[…, Field(…)]; or one pydantic model"
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "multiple_of": "multiple of"}
_MISSING: Any = object()
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Setting:
    """One keyword argument. kind: int, float, bool or str. default: typed; absent where the setting is required.

    choices: of a Literal. bounds: `ge`, `gt`, `le`, `lt`, `multiple_of`, as far as they are given.
    """

    name: str
    kind: type
    optional: bool = False
    default: Any = _MISSING
    choices: tuple[Any, ...] = ()
    bounds: Mapping[str, float] = field(default_factory=dict)
    description: str = ""

    @property
    def required(self) -> bool:
        return self.default is _MISSING

    @property
    def arrow(self) -> str:
        """The name of its Arrow type in tables."""
        return ARROW[self.kind]

    @property
    def allowed(self) -> str:
        """What it takes, in words: `int, >= 1, <= 4`, or `relu, gelu`."""
        bounds = [f"{SIGNS[name]} {bound:g}" for name, bound in self.bounds.items()]
        kind = ", ".join(map(str, self.choices)) or ", ".join([self.kind.__name__, *bounds])
        return f"{kind}, or null" if self.optional else kind

    def typed(self, value: Any) -> Any:
        """`value` as the setting has it: 0 as 0.0 for a float, 3.0 as 3 for an int, `on` as true for a bool."""
        if self.kind is bool:
            return as_truth(value)
        if self.kind is float and type(value) is int and abs(value) < 2**53:
            return float(value)
        if self.kind is int and type(value) is float and value.is_integer():
            return int(value)
        return value


@dataclass(frozen=True)
class PartSettings:
    """The settings of one part, by keyword, in the order of its signature.

    part: for messages, e.g. `model: my_net.py:net`. fixed: arguments that are no settings, with the reason.
    """

    part: str
    settings: Mapping[str, Setting]
    fixed: Mapping[str, str]
    _check: type[BaseModel]
    _roles: tuple[tuple[str, bool, str], ...]  # of each argument: its name, whether only its place counts, what it gets
    _bundle: type[BaseModel] | None = None  # the user's own pydantic model, where the settings come as one argument

    @classmethod
    def of(
        cls, target: Callable[..., Any], part: str, given: Collection[str] = (), offered: Collection[str] = ()
    ) -> PartSettings:
        """Read the signature of a function or class.

        given: the arguments that it is called with, in order; `target` may name them as it likes, but where it uses
        these names they decide. offered: those that it is called with only if it names them. BadRequest where it cannot
        be called so, or where an argument does not say what it takes.
        """
        try:
            parameters = list(inspect.signature(target).parameters.values())
        except (ValueError, TypeError, NameError) as error:
            raise BadRequest(f"{part}: its signature cannot be read: {error}") from None
        annotations = {one.name: _evaluated(one.annotation, target) for one in parameters}
        bundle = next((one for one in parameters if _is_model(annotations[one.name])), None)
        roles = _roles(parameters, bundle, tuple(given), offered, part)
        own = [one for one in parameters if one.name not in roles and one.kind not in _REST and one is not bundle]
        if bundle is not None:
            model: type[BaseModel] = annotations[bundle.name]
            for one in own:
                if one.default is one.empty:
                    rule = f"stands beside {bundle.name}: {model.__name__} (allowed: all settings in the one model)"
                    raise BadRequest(f"{part}: argument {one.name!r} {rule}")
            found, fixed = _of_model(model, part)
            fixed |= {one.name: f"all settings are those of {model.__name__}" for one in own}
            check = _strict(model)
            roles[bundle.name] = "*"
        else:
            found, fixed, check = _of_arguments(own, annotations, part)
            roles |= {name: "=" for name in found}
        order = tuple(
            (one.name, one.kind is one.POSITIONAL_ONLY, roles[one.name]) for one in parameters if one.name in roles
        )
        made = cls(part, found, fixed, check, order, annotations[bundle.name] if bundle else None)
        made._check_defaults()
        return made

    @classmethod
    def of_model(cls, model: type[BaseModel], part: str) -> PartSettings:
        """The settings of a pydantic model alone."""
        return cls(part, *_of_model(model, part), _strict(model), ())

    def field(self, name: str) -> FieldInfo:
        """The type of a setting with all its rules, as pydantic has it."""
        return self._check.model_fields[name]

    @property
    def taken(self) -> frozenset[str]:
        """The arguments that are no settings and are passed by the kind of the part."""
        return frozenset(role for _, _, role in self._roles if role not in ("=", "*"))

    def complete(self, values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """All settings: `values` and, for the others, defaults, each in its type.

        BadRequest with one line for each problem: `where: key: rule, got value`.
        """
        problems = [
            f"{name}: {self.unknown(name, value)}" for name, value in values.items() if name not in self.settings
        ]
        if not problems:
            filled = {
                name: setting.typed(values[name]) if name in values else setting.default
                for name, setting in self.settings.items()
                if name in values or not setting.required
            }
            try:
                self._check.model_validate(filled)
                return filled
            except ValidationError as error:
                problems = explain(error, self._check, "").splitlines()
        raise BadRequest("\n".join(f"{where}: {problem}" if where else problem for problem in problems))

    def unknown(self, name: str, value: Any) -> str:
        """Why `name` cannot be set."""
        if name in self.fixed:
            return f"is no setting: {self.fixed[name]}"
        hint = suggestion(name, self.settings) if self.settings else f" ({self.part} has no settings)"
        return f"unknown key, got {value!r}{hint}"

    def call(self, target: Callable[..., Any], values: Mapping[str, Any], /, **given: Any) -> Any:
        """Call `target` with complete `values` and what its kind is given, by the kind's names. BadRequest where the
        values break a rule of the user's own pydantic model."""
        positional, keywords = [], {}
        for name, by_place, role in self._roles:
            value = self._bundled(values) if role == "*" else values[name] if role == "=" else given[role]
            if by_place:
                positional.append(value)
            else:
                keywords[name] = value
        return target(*positional, **keywords)

    def _bundled(self, values: Mapping[str, Any]) -> Any:
        assert self._bundle is not None
        try:
            return self._bundle.model_validate(dict(values))
        except ValidationError as error:
            raise BadRequest(f"{self.part}: {first_problem(error, self._bundle)}") from None

    def _check_defaults(self) -> None:
        defaults = {name: setting.default for name, setting in self.settings.items() if not setting.required}
        try:
            self._check.model_validate(defaults)
        except ValidationError as error:
            wrong = [item for item in error.errors() if item["type"] != "missing"]
            if wrong:
                lines = [
                    line for line in explain(error, self._check, "").splitlines() if not line.endswith("is missing")
                ]
                raise BadRequest(f"{self.part}: default of {lines[0]}") from None


def _roles(
    parameters: list[inspect.Parameter],
    bundle: inspect.Parameter | None,
    given: tuple[str, ...],
    offered: Collection[str],
    part: str,
) -> dict[str, str]:
    """Which argument gets what the kind passes: by name where all names are there, else the first ones in order."""
    free = [one for one in parameters if one is not bundle and one.kind not in _REST]
    if {one.name for one in free} >= set(given):
        roles = {name: name for name in given}
    else:
        places = [
            one.name for one in free if one.kind is not inspect.Parameter.KEYWORD_ONLY and one.name not in offered
        ]
        if len(places) < len(given):
            has = ", ".join(one.name for one in free) or "no arguments"
            raise BadRequest(
                f"{part}: takes {has} (allowed: ({', '.join(given)}) first, then settings with a name; or a function "
                "of your own that takes these and calls it)"
            )
        roles = dict(zip(places, given, strict=False))
    return roles | {one.name: one.name for one in free if one.name in offered and one.name not in roles}


def _evaluated(annotation: Any, target: Any) -> Any:
    """An annotation that is text (`from __future__ import annotations`), evaluated where it was written."""
    if not isinstance(annotation, str):
        return annotation
    function = getattr(target, "func", target)  # of a partial
    function = inspect.unwrap(function.__init__ if isinstance(function, type) else function)  # type: ignore[misc]
    try:
        return eval(annotation, getattr(function, "__globals__", {}))
    except Exception:
        return _Unreadable(annotation)


@dataclass(frozen=True)
class _Unreadable:
    """An annotation that names what its module does not have, such as an import for the type checker alone."""

    text: str


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _of_arguments(
    parameters: list[inspect.Parameter], annotations: Mapping[str, Any], part: str
) -> tuple[dict[str, Setting], dict[str, str], type[BaseModel]]:
    found: dict[str, Setting] = {}
    fixed: dict[str, str] = {}
    fields: dict[str, Any] = {}
    for one in parameters:
        name, annotation, default = one.name, annotations[one.name], one.default
        if annotation is one.empty and type(default) in ARROW:
            annotation = type(default)
        info = default if isinstance(default, FieldInfo) else None
        required = info.is_required() if info else default is one.empty
        try:
            if annotation is one.empty:
                said = "neither annotation nor default" if required else f"no annotation, and {default!r} tells no type"
                raise ValueError(f"{said} (write e.g. `{name}: int = 1`; allowed: {ALLOWED})")
            taken = FieldInfo.from_annotated_attribute(annotation, ... if required and info is None else default)
            found[name] = _setting(name, taken)
            fields[name] = (annotation, default if not required or info else ...)
        except ValueError as error:
            if required:
                raise BadRequest(f"{part}: argument {name!r} has {error}") from None
            fixed[name] = f"it has {error}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return found, fixed, create_model("Settings", __base__=Frozen, **fields)


def _of_model(model: type[BaseModel], part: str) -> tuple[dict[str, Setting], dict[str, str]]:
    found: dict[str, Setting] = {}
    fixed: dict[str, str] = {}
    for name, info in model.model_fields.items():
        try:
            found[name] = _setting(name, info)
        except ValueError as error:
            if info.is_required():
                raise BadRequest(f"{part}: {model.__name__}.{name} has {error}") from None
            fixed[name] = f"it has {error}"
    return found, fixed


def _strict(model: type[BaseModel]) -> type[BaseModel]:
    """The user's model with the rules of a study: no unknown keys, no text for a number, no infinities."""
    config = ConfigDict(frozen=bool(model.model_config.get("frozen")))
    rest = {"__module__": model.__module__, "model_config": config}
    made: type[BaseModel] = types.new_class(model.__name__, (model, Frozen), {}, lambda body: body.update(rest))
    return made


def _setting(name: str, info: FieldInfo) -> Setting:
    """ValueError, in words that go on after `has`, where it cannot be one."""
    if name.startswith("_") or hasattr(BaseModel, name):
        raise ValueError("a name that a setting cannot have (rename it)")
    if info.alias is not None:
        raise ValueError(f"the alias {info.alias!r} (take it out)")
    kind, optional, choices = _kind(info.annotation)
    bounds = {
        name: bound for rule in rules_of(info) for name in SIGNS if (bound := getattr(rule, name, None)) is not None
    }
    made = Setting(name, kind, optional, _MISSING, choices, bounds, info.description or "")
    default = info.get_default(call_default_factory=True)
    return made if default is PydanticUndefined else replace(made, default=made.typed(default))


def _kind(annotation: Any) -> tuple[type, bool, tuple[Any, ...]]:
    """The plain type of an annotation, whether it takes None, and the values of a Literal."""
    options, choices, kinds = [annotation], [], set()
    while options:
        option = options.pop(0)
        if get_origin(option) is Annotated:
            options.insert(0, get_args(option)[0])
        elif get_origin(option) in (Union, types.UnionType):
            options = [*get_args(option), *options]
        elif get_origin(option) is Literal:
            choices += [choice for choice in get_args(option) if choice is not None]
            kinds |= {type(choice) for choice in get_args(option)}
        else:
            kinds.add(type(None) if option is None else option)
    optional = type(None) in kinds
    kinds -= {type(None)}
    if len(kinds) == 1 and (kind := kinds.pop()) in ARROW:
        return kind, optional, tuple(choices)
    if isinstance(annotation, _Unreadable):
        raise ValueError(f"the annotation {annotation.text!r}, which names nothing that its module has")
    shown = annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
    raise ValueError(f"the type {shown}, which a setting cannot have (allowed: {ALLOWED})")
