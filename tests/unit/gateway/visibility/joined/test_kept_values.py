"""gateway.visibility.joined.kept_values: what is known about cohorts, and their groups."""

from __future__ import annotations

from gateway.visibility.cohorts import Grouping
from gateway.visibility.joined import kept_values
from gateway.visibility.joined.kept_values import KeptValues, ValueGroups


def grouping(*values):
    return Grouping(("ayb.user_id",), [(v,) for v in values], [[v] for v in values])


def test_cohorts_of_the_same_values_are_one_group():
    """Cohorts are grouped by their values; one for which they raise is in no group."""
    values = KeptValues(2)
    asked = grouping("a", "b", "c", "d")
    assert values.missing(asked) == [0, 1, 2, 3]
    values.learn(asked, [0, 1, 2, 3], [("1", "x"), ("2", None), ("1", "x"), None])
    groups = values.grouped(asked)
    assert groups.flat == ["1", "2", "x", None]
    assert groups.groups == {1: [0, 2], 2: [1]}
    assert groups.excluded == [3]
    assert values.grouped(asked) is groups
    assert values.missing(asked) == []


def test_all_different():
    """Where every cohort is a group of its own, their number says so."""
    values = KeptValues(1)
    asked = grouping("a", "b")
    values.learn(asked, [0, 1], [("1",), ("2",)])
    assert values.grouped(asked).groups == 2


def test_newcomers_only():
    """Only cohorts that came are asked for."""
    values = KeptValues(1)
    first = grouping("a", "b")
    values.learn(first, [0, 1], [("1",), ("2",)])
    values.grouped(first)
    second = grouping("b", "c")
    assert values.missing(second) == [1]
    values.learn(second, [1], [("3",)])
    assert values.grouped(second).flat == ["2", "3"]
    assert values.missing(first) == []


def test_two_who_ask_in_turn(monkeypatch):
    """The live stream and replay keep what the other has learned; what is gone goes at a bound."""
    monkeypatch.setattr(kept_values, "_MOST_SPARE", 3)
    values = KeptValues(1)
    live, replayed = grouping("a", "b"), grouping("c")
    values.learn(live, [0, 1], [("1",), ("2",)])
    values.learn(replayed, [0], [("3",)])
    assert values.grouped(live).flat == ["1", "2"]
    assert values.grouped(replayed).flat == ["3"]
    assert values.missing(grouping("a", "b", "c", "d")) == [3]
    for name in "defghi":
        newcomer = grouping(name)
        values.learn(newcomer, values.missing(newcomer), [(name,)])
        assert values.grouped(newcomer).flat == [name]
    assert values.missing(live) == [0, 1]


def test_ungrouped():
    """Beside computed values each cohort has a row of its own."""
    values = KeptValues(1, is_grouping=False)
    asked = grouping("a", "b", "c")
    values.learn(asked, [0, 1, 2], [("1",), None, ("1",)])
    groups = values.grouped(asked)
    assert groups.flat == ["1", "1"]
    assert groups.groups == {1: [0], 2: [2]}


def test_some_of_the_groups():
    """Some groups have their values, and new numbers; each knows its cohorts."""
    groups = ValueGroups(["1", "2", "3", "x", None, "z"], {1: [0, 2], 2: [1], 3: [4]}, [3])
    assert len(groups) == 3
    assert groups.everybody == {0, 1, 2, 4}
    assert groups.everybody is groups.everybody
    assert groups.by_value(0) == {"1": [1], "2": [2], "3": [3]}
    assert groups.by_value(1) is groups.by_value(1)
    assert groups.by_value(1) == {"x": [1], "z": [3]}
    some = groups.some([1, 3])
    assert (some.flat, some.groups, some.excluded) == (
        ["1", "3", "x", "z"],
        {1: [0, 2], 2: [4]},
        [3],
    )
    assert groups.packed is groups.packed
    each = ValueGroups(["1", "2"], 2, [])
    assert each.everybody == {0, 1}
    assert each.some([2]).groups == {1: (1,)}
    assert ValueGroups([], {}, [0]).some([]).flat == []
