"""Designs are balanced, orthogonal and contain the incumbent."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetlab.planning import designs


@pytest.mark.parametrize("factors, rows", [(2, 4), (3, 8), (4, 16), (5, 16), (6, 32), (7, 64), (8, 64)])
def test_fraction_has_resolution_five(factors, rows):
    matrix = designs.fraction(factors)
    assert len(matrix) == rows
    assert matrix[0] == (-1,) * factors
    effects = [c for size in (1, 2) for c in itertools.combinations(range(factors), size)]
    columns = {}
    for effect in effects:
        columns[effect] = []
        for row in matrix:
            sign = 1
            for position in effect:
                sign *= row[position]
            columns[effect].append(sign)
    for one, other in itertools.combinations(effects, 2):
        assert sum(a * b for a, b in zip(columns[one], columns[other], strict=True)) == 0, (one, other)
    assert all(sum(column) == 0 for column in columns.values())


@pytest.mark.parametrize("factors", [1, 9])
def test_fraction_refuses_other_sizes(factors):
    with pytest.raises(ValueError, match=f"2 to 8 factors.*got {factors}"):
        designs.fraction(factors)


levels = st.lists(st.integers(1, 20), min_size=1, max_size=3, unique=True)


@given(st.dictionaries(st.sampled_from(["blocks", "kernel", "width"]), levels, min_size=1))
def test_one_factor_changes_one_thing(alternatives):
    incumbent = dict.fromkeys(alternatives, 0)
    arms = designs.one_factor(incumbent, alternatives)
    assert arms[0].name == "incumbent" and arms[0].values == incumbent
    assert len(arms) == 1 + sum(map(len, alternatives.values()))
    assert all(len(arm.changed) == 1 for arm in arms[1:])
    assert len({arm.name for arm in arms}) == len(arms)


@given(st.dictionaries(st.sampled_from(["blocks", "kernel", "width"]), levels, min_size=1))
def test_full_factorial_is_balanced(alternatives):
    incumbent = dict.fromkeys(alternatives, 0)
    arms = designs.full_factorial(incumbent, alternatives)
    for factor, others in alternatives.items():
        counts = [sum(arm.values[factor] == level for arm in arms) for level in (0, *others)]
        assert len(set(counts)) == 1
    assert arms[0].changed == {}


def test_fractional_uses_both_levels_equally():
    incumbent = {"a": 1, "b": True, "c": "x", "d": 3, "e": 0.1, "untouched": 7}
    alternatives = {"a": 2, "b": False, "c": "y", "d": 5, "e": 0.2}
    arms = designs.fractional(incumbent, alternatives)
    assert len(arms) == 16 and all(arm.values["untouched"] == 7 for arm in arms)
    for factor, level in alternatives.items():
        assert sum(arm.values[factor] == level for arm in arms) == 8
