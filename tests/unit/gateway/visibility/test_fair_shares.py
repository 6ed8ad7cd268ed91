"""Who is asked first within a question, and who may be left for later."""

from __future__ import annotations

from gateway.visibility import fair_shares
from gateway.visibility.cohorts import Audience, user_of
from gateway.visibility.fair_shares import FairShares, UserCosts

A, B, C = ("a",), ("b",), ("c",)


def test_without_costs_the_order_stays() -> None:
    """Nothing is known of anyone: all are asked as they come."""
    assert FairShares([A, B, C], {}, seconds=1.0).split([2, 0, 1]) == ([2, 0, 1], [])


def test_cheap_users_come_first_and_costly_ones_may_wait() -> None:
    """Time is charged to a user, however many cohorts it was spent on."""
    shares = FairShares([A, A, A, B, C], {}, seconds=1.0)
    shares.charge([0, 1], [0.3, 0.3])
    assert shares.split([2, 3, 4]) == ([3, 4], [2])
    shares.charge([3, 4], [0.2, 0.01])
    assert shares.split([2]) == ([2], [])  # three times the user in the middle
    shares.charge([0], [0.4])
    assert shares.split([2]) == ([], [2])
    assert shares.spent == {A: 1.0, B: 0.2, C: 0.01}


def test_no_one_is_costly_below_a_share_of_the_question() -> None:
    """Among users who cost next to nothing, a little more is no reason to wait."""
    shares = FairShares([A, B, C], {A: 0.09}, seconds=1.0)
    assert shares.split([0, 1, 2]) == ([0, 1, 2], [])


def test_the_cheapest_of_the_costly_users_comes_first() -> None:
    """The others keep the order that they are given in."""
    shares = FairShares([A, B, C, ("d",), ("e",)], {A: 9.0, B: 8.0, C: 0.2}, seconds=1.0)
    assert shares.is_fair_so_far
    assert shares.split([4, 0, 1, 2, 3]) == ([4, 2, 3], [1, 0])


def test_where_someone_has_waited_for_a_costly_user() -> None:
    """It was not known that the user is costly."""
    shares = FairShares([A, B, C], {}, seconds=1.0)
    shares.charge([0], [0.1])
    assert shares.is_fair_so_far
    shares.charge([0], [0.1])
    assert not shares.is_fair_so_far


def test_where_all_cost_the_same_no_one_is_costly() -> None:
    """A large question is costly for everyone."""
    shares = FairShares([A, B, C], {A: 9.0, B: 8.0, C: 7.0}, seconds=1.0)
    assert shares.split([2, 0, 1]) == ([2, 0, 1], [])


def test_what_users_cost_is_remembered_by_table(monkeypatch) -> None:
    """The last question counts; tables and users that are remembered are bounded."""
    monkeypatch.setattr(fair_shares, "_MOST_KEPT", 3)
    costs = UserCosts()
    costs.keep((1, "r"), {A: 1.0, B: 2.0})
    costs.keep((1, "r"), {B: 0.5})
    assert costs.of((1, "r")) == {A: 1.0, B: 0.5}
    assert costs.of((2, "r")) == {}
    costs.keep((2, "r"), {})
    assert costs.of((1, "r")) == {A: 1.0, B: 0.5}, "a question that cost nobody is no question"
    costs.keep((2, "r"), {A: 1.0, B: 2.0})
    assert costs.of((1, "r")) == {}
    costs.keep((2, "r"), {A: 3.0, C: 4.0})
    assert costs.of((2, "r")) == {A: 3.0, C: 4.0}


def test_whose_time_a_cohort_takes() -> None:
    """A user's tokens are the user's; tokens without a user are known by all they say; a cohort of
    several users stands for itself.
    """
    assert user_of(("u", "", "t", "{}")) == ("u",)
    assert user_of(("", "", "t", "{}")) == ("", "", "t", "{}")
    audience: Audience[str] = Audience("r")
    audience.add("one", ("u", "", "1", "a"))
    audience.add("other", ("u", "", "1", "b"))
    audience.add("third", ("v", "", "2", "c"))
    claims = audience.grouped(("request.jwt.claims",))
    assert list(claims.users) == [("u",), ("u",), ("v",)]
    asked = claims.asked(may_postpone=True).some([2])
    assert (asked.settings, asked.users) == ([("", "", "", "c")], [("v",)])
    assert len(asked) == 1
    assert asked.may_postpone
    audience.add("fourth", ("v", "", "1", "d"))
    assert list(audience.grouped(("ayb.tenant_id",)).users) == [("several", "1"), ("v",)]
