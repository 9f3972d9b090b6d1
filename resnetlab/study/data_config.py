"""Which images a trial learns from: what `dataset` in a study says, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    model_serializer,
    model_validator,
)

from resnetlab.study import catalog, legacy
from resnetlab.study.frozen import Frozen
from resnetlab.study.parts import OwnData

DATA_SETTINGS = catalog.fields(catalog.DATA)  # of the built-in datasets


def names_of(key: str) -> Any:
    """The type of a setting that names a built-in part."""
    return Literal[tuple(catalog.parts(key))]


ALWAYS_READ = frozenset(
    {"name", "val_fraction", "test_fraction", "limit", "limit_of"}
)  # of DataConfig, by every dataset
PLACES = tuple(  # of DataConfig: where the bytes lie, which is not recorded
    dict.fromkeys(
        name for found in catalog.parts(catalog.DATA) if (data := catalog.dataset(found)) for name in data.places
    )
)


def _known_name(name: Any, built_in: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Of a function of one's own, any text; else the name of a built-in dataset."""
    return name if info.data.get("own") and isinstance(name, str) else built_in(name)


class DataSettings(Frozen):
    """What every dataset has. `DataConfig` also has the settings that the files of built-in datasets declare."""

    own: OwnData | None = Field(None, description="written by resnetlab: what `name` leads to where it is a reference")
    name: str
    val_fraction: float = Field(0.1, gt=0.0, lt=0.9, description="of the training images, where there is no val split")
    test_fraction: float = Field(0.15, gt=0.0, lt=0.9, description="of all images, where there is no test split")
    limit: int | None = Field(None, ge=10, description="at most so many training images (a smoke run)")
    limit_of: Literal["train", "all"] = Field(
        "train", description="limit: thin the training images alone, or validation and test images by the same share"
    )

    @model_serializer(mode="wrap")
    def _without_later(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings that came after the first results are not written, nor hashed, where they have their defaults."""
        return legacy.in_use(written(self), legacy.LATER_DATA)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        """With the defaults that a dataset has of its own for what all datasets have."""
        if isinstance(values, dict) and (data := catalog.dataset(str(values.get("name")))):
            return {**data.defaults, **values}
        return values

    @property
    def reads(self) -> frozenset[str]:
        """The settings that have a meaning for this dataset."""
        own = {"own"} if self.own else catalog.part(catalog.DATA, self.name).settings.keys()
        return ALWAYS_READ | own

    def identity(self) -> dict[str, Any]:
        """The part that changes the answer; the bytes themselves are named by the dataset's own hash."""
        unread = {name for name in DATA_SETTINGS if name not in legacy.DATA and name not in self.reads}
        found = self.model_dump(exclude={*PLACES, *unread, "own"})
        return found | {"settings": dict(self.own.settings)} if self.own else found


def made_of(called: str, base: type[Frozen], module: str, settings: Mapping[str, catalog.Field], **fields: Any) -> Any:
    """A type with the fields of `base`, `fields`, and `settings` that built-in parts declare, each with its default."""
    declared = {
        name: (found.annotation, Field(found.default, description=found.description or None))
        for name, found in settings.items()
    }
    create: Any = create_model
    made = create(called, __base__=base, __module__=module, **declared, **fields)
    made.__doc__ = base.__doc__
    return made


if TYPE_CHECKING:

    class DataConfig(DataSettings):
        """Which images, which label, which split."""

        def __init__(self, **values: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

else:
    _known = (Annotated[names_of(catalog.DATA), WrapValidator(_known_name)], ...)
    DataConfig = made_of("DataConfig", DataSettings, __name__, DATA_SETTINGS, name=_known)
