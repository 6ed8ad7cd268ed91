"""Since when, and why, events are held."""

from __future__ import annotations

from gateway.fanout.held import Held
from shared.errors import DatabaseUnavailableError, ReplicaLagsError


def test_a_wait_keeps_its_beginning_whatever_its_reason() -> None:
    """A replica that first lags and then goes away has held events since it began to lag."""
    first = Held.by(ReplicaLagsError(), None, 10.0)
    assert first == Held("the replica lags behind", True, 10.0)
    assert Held.by(DatabaseUnavailableError("gone"), first, 12.0) == Held("gone", False, 10.0)
