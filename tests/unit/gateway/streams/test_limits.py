"""gateway.streams.limits: streams in total, per user, per address."""

from __future__ import annotations

import pytest

from gateway.errors import ConnectionLimitError
from gateway.streams.limits import StreamLimits


def test_one_address_takes_not_all_places():
    """Anonymous streams of one address, or IPv6 network, are bounded; others are let in."""
    limits = StreamLimits(most=6, most_per_user=2, most_per_address=3)
    for last in range(3):
        limits.enter("", f"2001:db8::{last}")
    with pytest.raises(ConnectionLimitError):
        limits.enter("", "2001:db8::9")
    with pytest.raises(ConnectionLimitError):
        limits.enter("user", "2001:db8::9")
    limits.enter("user", "2001:db8:0:1::9")
    limits.exit("", "2001:db8::1")
    limits.enter("user", "2001:db8::9")
    with pytest.raises(ConnectionLimitError):
        limits.enter("user", "192.0.2.1")
    assert limits.total == 4


def test_without_a_bound_addresses_do_not_count():
    """Where no bound is set, all places are for whoever comes, and no address is kept."""
    limits = StreamLimits(most=3, most_per_user=2)
    for _ in range(3):
        limits.enter("", "192.0.2.1")
    with pytest.raises(ConnectionLimitError):
        limits.enter("", "192.0.2.2")
    assert not limits._networks


def test_one_user_takes_not_all_places() -> None:
    """A user's streams are bounded, wherever they come from; when one ends, another may open."""
    limits = StreamLimits(most=10, most_per_user=2)
    limits.enter("ann", "192.0.2.1")
    limits.enter("ann", "192.0.2.2")
    with pytest.raises(ConnectionLimitError):
        limits.enter("ann", "192.0.2.3")
    limits.enter("bob", "192.0.2.1")
    limits.exit("ann", "192.0.2.1")
    limits.enter("ann", "192.0.2.3")
    assert limits.total == 3


def test_nobody_is_remembered() -> None:
    """When all streams have ended, nothing is kept of users or addresses."""
    limits = StreamLimits(most=10, most_per_user=3, most_per_address=3)
    for _ in range(2):
        limits.enter("ann", "192.0.2.1")
    limits.enter("", "192.0.2.1")
    for user in ("ann", "", "ann"):
        limits.exit(user, "192.0.2.1")
    assert limits.total == 0
    assert not limits._users
    assert not limits._networks
