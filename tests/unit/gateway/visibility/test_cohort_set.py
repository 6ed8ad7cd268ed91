"""Sets in bits are the sets that they stand for."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.visibility.cohort_set import CohortSet, cohorts_from

numbers = st.frozensets(st.integers(0, 300), max_size=40)


def bits(members: frozenset[int]) -> CohortSet:
    return CohortSet.of(members, 301)


@given(numbers, numbers)
def test_it_is_the_set_of_its_members(one: frozenset[int], other: frozenset[int]) -> None:
    """Every operation gives what `frozenset` gives, with operands of either form."""
    assert list(bits(one)) == sorted(one)
    assert len(bits(one)) == len(one)
    assert bool(bits(one)) == bool(one)
    assert all((number in bits(one)) == (number in one) for number in range(-1, 302))
    assert (bits(one) == bits(other)) == (one == other)
    assert (bits(one) == other) == (one == other)
    assert (one == bits(other)) == (one == other)
    known = bits(one)
    assert hash(known) == hash(known) == hash(one)
    for left, right in ((bits(one), bits(other)), (bits(one), other), (one, bits(other))):
        assert left & right == one & other
        assert left | right == one | other
        assert left - right == one - other
        assert (left <= right) == (one <= other)
        assert left.isdisjoint(right) == one.isdisjoint(other)


def test_the_better_form_is_taken() -> None:
    """Few of many stay a frozenset; many are bits."""
    assert isinstance(cohorts_from([7], 1, 10_000), frozenset)
    assert isinstance(cohorts_from(range(5_000), 5_000, 10_000), CohortSet)
    assert cohorts_from(range(0, 5_000, 2), 2_500, 10_000) == set(range(0, 5_000, 2))
    assert cohorts_from([], 0, 0) == set()


def test_what_is_no_member() -> None:
    """Other types are not in it, other numbers are refused, other things are not equal."""
    some = CohortSet.of([1, 2], 3)
    assert not some.__contains__("1")
    assert some != [1, 2]
    assert repr(some) == "CohortSet([1, 2])"
    with pytest.raises(IndexError):
        CohortSet.of([3], 3)


def test_a_member_takes_a_bit() -> None:
    """Half of 20,000 cohorts take a few kilobytes."""
    half = CohortSet.of(range(0, 20_000, 2), 20_000)
    assert sys.getsizeof(half) + sys.getsizeof(half.bits) < 3_000
    assert sys.getsizeof(frozenset(half)) > 400_000
