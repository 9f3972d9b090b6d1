"""Counts and durations in words."""

import re
from pathlib import Path

import pytest

import resnetlab
from resnetlab.wording import duration, plural


@pytest.mark.parametrize(
    ("n", "words"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (1000, "1,000 epochs"), (0.5, "0.5 epochs"),
                     (1.0, "1 epoch")],
)  # fmt: skip
def test_one_is_singular_and_all_else_plural(n, words):
    assert plural(n, "epoch") == words


@pytest.mark.parametrize(
    ("seconds", "whole", "tenths"),
    [(0.81, "1 s", "0.8 s"), (59.6, "1 min 00 s", "1 min 00 s"), (725, "12 min 05 s", "12 min 05 s"),
     (12_000, "3 h 20 min", "3 h 20 min"), (3.6e7, "10,000 h 00 min", "10,000 h 00 min")],
)  # fmt: skip
def test_durations_take_the_units_that_people_use(seconds, whole, tenths):
    assert (duration(seconds), duration(seconds, tenths=True)) == (whole, tenths)


def test_no_module_makes_its_own_plurals():
    own = re.compile(r"""['"]s['"] \*|['"]s['"] if |['"]{2} if .* == 1 else ['"]s""")
    package = Path(resnetlab.__file__).parent
    found = [path.name for path in package.rglob("*.py") if own.search(path.read_text())]
    assert not found
