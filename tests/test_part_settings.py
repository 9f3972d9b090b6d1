"""The annotated keyword arguments of a user's function are its settings."""

import inspect
import math
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pyarrow as pa
import pytest
from pydantic import BaseModel, Field, field_validator, model_validator

from resnetlab.errors import BadRequest
from resnetlab.experiment.protocol import KINDS
from resnetlab.experiment.references import refer
from resnetlab.study.part_settings import PartSettings

OWN = Path(__file__).with_name("own_code")


def read(target, *given, offered=()):
    return PartSettings.of(target, "part", given, offered)


def refused(call, *words):
    with pytest.raises(BadRequest) as caught:
        call()
    message = str(caught.value)
    assert all(word in message for word in words), message
    return message


def net(
    shape,
    classes,
    *,
    depth: int = 2,
    rate: float = 1,
    act: Literal["relu", "gelu"] = "relu",
    bias: bool = True,
    name: str = "x",
    drop: float | None = None,
    wide: Annotated[int, Field(ge=1, le=4, description="times as wide")] = 1,
    slope: float = Field(0.5, gt=0.0),
    groups: Optional[Annotated[int, Field(ge=2)]] = None,  # noqa: UP045
    pads: Literal[0, 1] = 0,
    guessed=3,
):
    return locals()


def test_each_annotation_is_a_setting_with_type_default_and_bounds():
    settings = read(net, "shape", "classes").settings
    said = {name: (one.arrow, one.default, one.allowed) for name, one in settings.items()}
    assert said == {
        "depth": ("int64", 2, "int"),
        "rate": ("double", 1.0, "float"),
        "act": ("string", "relu", "relu, gelu"),
        "bias": ("bool", True, "bool"),
        "name": ("string", "x", "str"),
        "drop": ("double", None, "float, or null"),
        "wide": ("int64", 1, "int, >= 1, <= 4"),
        "slope": ("double", 0.5, "float, > 0"),
        "groups": ("int64", None, "int, >= 2, or null"),
        "pads": ("int64", 0, "0, 1"),
        "guessed": ("int64", 3, "int"),
    }
    assert settings["wide"].description == "times as wide" and type(settings["rate"].default) is float
    assert [str(pa.type_for_alias(settings[name].arrow)) for name in ("depth", "rate", "act", "bias")] == [
        "int64",
        "double",
        "string",
        "bool",
    ]


def test_the_function_is_called_with_all_settings_in_their_types():
    part = read(net, "shape", "classes")
    values = part.complete({"depth": 3.0, "rate": 2, "bias": "off", "groups": 4})
    found = part.call(net, values, shape=(8, 8, 1), classes=10)
    assert (found["shape"], found["classes"], found["depth"], found["bias"], found["slope"]) == (
        (8, 8, 1),
        10,
        3,
        False,
        0.5,
    )
    assert type(found["depth"]) is int and type(found["rate"]) is float


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("depth", "3", "depth: need a whole number, got the text '3'"),
        ("depth", 2.5, "depth: Input should be a valid integer"),
        ("depth", True, "depth: need a whole number, got true"),
        ("rate", math.inf, "rate: Input should be a finite number"),
        ("act", "silu", "act: Input should be 'relu' or 'gelu', got 'silu'"),
        ("bias", 2, "bias: "),
        ("name", 3, "name: need text, got the number 3"),
        ("wide", 5, "wide: Input should be less than or equal to 4, got 5"),
        ("slope", 0, "slope: Input should be greater than 0, got 0.0"),
        ("groups", 1, "groups: Input should be greater than or equal to 2, got 1"),
        ("pads", 2, "pads: Input should be 0 or 1, got 2"),
        ("dept", 3, "dept: unknown key, got 3 (did you mean 'depth'?)"),
        ("shape", 3, "shape: unknown key"),
    ],
)
def test_a_wrong_value_is_refused_with_key_value_and_what_is_allowed(name, value, words):
    refused(lambda: read(net, "shape", "classes").complete({name: value}, "s.yaml: model"), f"s.yaml: model: {words}")


def test_all_wrong_values_are_said_at_once():
    message = refused(lambda: read(net, "shape", "classes").complete({"wide": 5, "pads": 2}))
    assert len(message.splitlines()) == 2


def test_annotations_that_are_text_are_read_where_they_were_written(tmp_path):
    text = (
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING, Literal as L\n"
        "if TYPE_CHECKING:\n    from torch import Tensor\n"
        "def loss(logits: Tensor, labels: Tensor, *, mode: L['a', 'b'] = 'a', gamma: float = 2): pass\n"
        "class Loss:\n    def __init__(self, logits: Tensor, labels: Tensor, *, mode: L['a', 'b'] = 'b'): pass\n"
        "def wrong(logits, labels, *, weight: Tensor): pass\n"
    )
    (tmp_path / "parts.py").write_text(text)
    load = lambda name: refer("loss", f"parts.py:{name}", tmp_path, {}).load()  # noqa: E731
    assert read(load("loss"), "logits", "labels").settings["mode"].choices == ("a", "b")
    assert read(load("Loss"), "logits", "labels").settings["mode"].default == "b"
    refused(lambda: read(load("wrong"), "logits", "labels"), "'weight'", "'Tensor'", "names nothing")


def test_an_argument_without_annotation_and_default_is_told_what_to_write():
    refused(lambda: read(lambda a, *, depth: 0, "a"), "'depth' has neither annotation nor default", "`depth: int = 1`")
    refused(
        lambda: read(lambda a, *, depth=None: 0, "a").complete({"depth": 1}),
        "depth: is no setting",
        "None tells no type",
    )


def test_an_argument_of_another_type_stays_at_its_default_or_is_refused_without_one():
    def optimizer(params, lr, *, betas: tuple[float, float] = (0.9, 0.999), decay: float = 0.0):
        return betas, decay

    part = read(optimizer, "params", "lr")
    assert list(part.settings) == ["decay"]
    refused(lambda: part.complete({"betas": 1}), "betas: is no setting", "tuple[float, float]", "Literal[…]")
    assert part.call(optimizer, part.complete({"decay": 1}), params=[], lr=0.1) == ((0.9, 0.999), 1.0)

    def needs(params, *, betas: tuple[float, float]):
        pass

    refused(lambda: read(needs, "params"), "'betas'", "tuple[float, float]")


def test_a_required_setting_is_missing_until_it_is_given():
    def dataset(*, root: str):
        return root

    refused(lambda: read(dataset).complete({}, "s.yaml"), "s.yaml: root: is missing")
    assert read(dataset).call(dataset, read(dataset).complete({"root": "here"})) == "here"


def test_a_default_that_breaks_its_own_rule_is_refused():
    def bad(*, depth: Annotated[int, Field(ge=1)] = 0):
        pass

    refused(lambda: read(bad), "part: default of depth: Input should be greater than or equal to 1, got 0")


def test_rest_arguments_are_no_settings():
    def net(shape, *rest, depth: int = 1, **more):
        return shape, rest, depth, more

    part = read(net, "shape")
    assert list(part.settings) == ["depth"] and part.call(net, part.complete({}), shape=1) == (1, (), 1, {})
    refused(lambda: part.complete({"width": 3}), "width: unknown key")
    refused(lambda: read(lambda *a, **k: 0, "shape", "classes"), "takes no arguments", "(shape, classes) first")


def test_a_name_that_pydantic_uses_is_no_setting():
    refused(
        lambda: read(lambda *, model_dump=1: 0).complete({"model_dump": 2}), "model_dump: is no setting", "rename it"
    )


def test_what_the_kind_gives_goes_by_name_where_all_names_are_there_and_else_by_order():
    swapped = lambda classes, shape, /: (shape, classes)  # noqa: E731
    renamed = lambda s, c: (s, c)  # noqa: E731
    for target in (swapped, renamed):
        part = read(target, "shape", "classes")
        assert part.call(target, {}, shape=1, classes=2) == (1, 2)
    asks = lambda folder, *, size: folder  # noqa: E731
    refused(lambda: read(asks, offered=["folder"]), "'size'")
    offered = read(lambda *, folder: folder, offered=["folder"])
    assert not offered.settings and offered.call(lambda *, folder: folder, {}, folder="x") == "x"


def test_a_class_a_partial_and_a_callable_object_have_settings():
    class Net:
        def __init__(self, shape, *, depth: int = 2):
            self.depth = depth

    class Maker:
        def __call__(self, shape, *, depth: int = 4):
            return depth

    assert read(Net, "shape").call(Net, {"depth": 3}, shape=0).depth == 3
    assert read(partial(Net, depth=5), "shape").settings["depth"].default == 5
    assert read(Maker(), "shape").settings["depth"].default == 4


class Settings(BaseModel):
    hidden: int = Field(32, ge=1, le=1024, description="units")
    huber: bool = False
    lr: float = Field(0.01, gt=0.0, le=1.0)
    sizes: list[int] = Field(default_factory=list)

    @field_validator("lr")
    @classmethod
    def _halved(cls, lr: float) -> float:
        return lr / 2

    @model_validator(mode="after")
    def _fits(self):
        if self.huber and self.hidden > 500:
            raise ValueError("huber needs hidden <= 500")
        return self


def train(settings: Settings, trial: Any):
    return settings, trial


def test_one_pydantic_model_is_all_settings_and_is_handed_over_as_the_user_made_it():
    part = read(train, "trial")
    assert {name: one.allowed for name, one in part.settings.items()} == {
        "hidden": "int, >= 1, <= 1024",
        "huber": "bool",
        "lr": "float, > 0, <= 1",
    }
    values = part.complete({"lr": 1})
    assert values == {"hidden": 32, "huber": False, "lr": 1.0}
    settings, trial = part.call(train, values, trial="t")
    assert type(settings) is Settings and trial == "t" and settings.lr == 0.5  # their validator ran once


def test_a_pydantic_model_is_held_to_the_rules_of_a_study():
    part = read(train, "trial")
    refused(lambda: part.complete({"hidden": "32"}), "hidden: need a whole number, got the text '32'")
    refused(lambda: part.complete({"hiden": 3}), "hiden: unknown key, got 3 (did you mean 'hidden'?)")
    refused(lambda: part.complete({"sizes": [1]}), "sizes: is no setting", "list[int]")
    refused(lambda: part.complete({"huber": True, "hidden": 501}), "huber needs hidden <= 500")
    refused(lambda: read(lambda settings, trial: 0, "trial"), "'settings' has neither annotation nor default")

    def mixed(settings: Settings, trial, other):
        pass

    refused(lambda: read(mixed, "trial"), "'other' stands beside settings: Settings")


CASES = {  # reference in own_code -> kind, its settings
    "my_net.py:net": ("model", {"depth": 2, "width": 16, "act": "relu", "norm": "batch"}),
    "my_parts.py:focal": ("loss", {"gamma": 2.0}),
    "my_parts.py:worst_class": ("metric", {}),
    "my_parts.py:cutout": ("augmentation", {"size": 4}),
    "my_task.py:train": ("task", {"hidden": 32, "layers": 1, "huber": False, "lr": 0.01}),
}


@pytest.mark.parametrize("text", CASES)
def test_code_as_users_write_it_has_the_settings_that_it_says(text):
    kind, settings = CASES[text]
    reference = refer(KINDS[kind].key, text, OWN, {})
    target = reference.load()
    part = PartSettings.of(target, str(reference), KINDS[kind].given, KINDS[kind].offered)
    assert part.complete({}) == settings and not part.fixed
    assert inspect.signature(target).parameters.keys() >= part.settings.keys() or kind == "task"
