"""gateway.visibility.cohorts: cohorts."""

from __future__ import annotations

import itertools
import random

import pytest

from gateway.visibility.cohorts import KNOWN_SETTINGS, Audience

TENANT = ("ayb.tenant_id",)


def settings(user="", email="", tenant="", claims=""):
    return (user, email, tenant, claims)


def cohorts(audience, reads):
    grouping = audience.grouped(reads)
    return {
        values: set(members)
        for values, members in zip(grouping.values, grouping.members, strict=True)
    }


def test_users_of_one_tenant_are_one_cohort():
    """Ten thousand users of 50 tenants are 50 cohorts where only the tenant is read."""
    audience = Audience("member")
    for n in range(10_000):
        audience.add(n, settings(user=str(n), tenant=str(n % 50)))
    grouping = audience.grouped(TENANT)
    assert len(grouping) == 50
    assert sum(len(members) for members in grouping.members) == 10_000
    assert len(audience.grouped(("ayb.user_id",))) == 10_000


def test_nothing_read_is_one_cohort():
    """Where no setting is read everybody is alike; where nobody is, there is no cohort."""
    audience = Audience("member")
    assert len(audience.grouped(())) == 0
    audience.add("a", settings(user="1"))
    audience.add("b", settings(user="2"))
    assert cohorts(audience, ()) == {(): {"a", "b"}}


def test_snapshot_stays():
    """A grouping given out never changes; it is given again until somebody comes or goes."""
    audience = Audience("member")
    audience.add("a", settings(tenant="t"))
    before = audience.grouped(TENANT)
    assert audience.grouped(TENANT) is before
    audience.add("b", settings(tenant="t"))
    audience.add("c", settings(tenant="u"))
    audience.discard("a")
    assert list(before.values) == [("t",)]
    assert [list(members) for members in before.members] == [["a"]]
    assert cohorts(audience, TENANT) == {("t",): {"b"}, ("u",): {"c"}}


def test_added_again_moves():
    """Who is added again with other settings is in the new cohort only."""
    audience = Audience("member")
    audience.add("a", settings(tenant="t"))
    audience.grouped(TENANT)
    audience.add("a", settings(tenant="u"))
    assert cohorts(audience, TENANT) == {("u",): {"a"}}
    assert len(audience) == 1


def test_discard_of_a_stranger_is_nothing():
    """Discarding who is not here does nothing."""
    audience = Audience("member")
    audience.discard("a")
    assert not audience


def test_settings_of_a_grouping_are_in_the_known_order():
    """A grouping by two settings gives all known ones for each cohort, blank where not read."""
    audience = Audience("member")
    audience.add("a", settings(user="1", email="a@b", tenant="t", claims="{}"))
    assert audience.grouped(("ayb.tenant_id", "ayb.user_id")).settings() == [("1", "", "t", "")]
    assert audience.grouped(KNOWN_SETTINGS).settings() == [("1", "a@b", "t", "{}")]


@pytest.mark.parametrize("seed", range(20))
def test_kept_up_to_date(seed):
    """However members come and go, a grouping equals one made from scratch."""
    chance = random.Random(seed)
    audience = Audience("member")
    present = {}
    readings = [(), TENANT, ("ayb.user_id",), ("ayb.user_id", "ayb.tenant_id"), KNOWN_SETTINGS]
    for _ in range(300):
        member = chance.randrange(30)
        if chance.random() < 0.6:
            present[member] = settings(
                user=str(chance.randrange(5)), tenant=str(chance.randrange(3))
            )
            audience.add(member, present[member])
        else:
            present.pop(member, None)
            audience.discard(member)
        if chance.random() < 0.3:
            reads = chance.choice(readings)
            fresh = Audience("member")
            for each, values in present.items():
                fresh.add(each, values)
            assert cohorts(audience, reads) == cohorts(fresh, reads)


def test_members_are_listed_with_their_settings():
    """An audience lists its members, and gives the settings of those who are in it."""
    audience: Audience[str] = Audience("member")
    audience.add("a", settings(user="1"))
    audience.add("b", settings(user="2"))
    assert list(audience) == ["a", "b"]
    assert audience.settings_of("b") == settings(user="2")
    audience.discard("b")
    assert audience.settings_of("b") is None


def test_few_groupings_are_kept():
    """Only the latest groupings are kept, however often the rules change what they read."""
    audience: Audience[str] = Audience("member")
    audience.add("a", settings(user="1"))
    first = audience.grouped(())
    for reads in itertools.permutations(KNOWN_SETTINGS):
        assert list(map(list, audience.grouped(reads).members)) == [["a"]]
    assert len(audience._cohorts) == 8
    assert audience.grouped(()) is not first


def test_the_settings_of_cohorts_are_made_once_and_of_every_name() -> None:
    """They are kept with the grouping; a connection that lacks one is refused."""
    audience: Audience[str] = Audience("r")
    audience.add("a", ("1", "a@b", "t", "{}"))
    grouping = audience.grouped(("ayb.user_id",))
    assert grouping.settings() is grouping.settings()
    with pytest.raises(ValueError, match="a value for each setting"):
        audience.add("b", ("1",))
