"""Connections that ask for nothing make way for newcomers."""

from __future__ import annotations

import pytest

from gateway.web.idle_connections import IdleConnections


class Peer:
    def __init__(self) -> None:
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


@pytest.fixture
def idle() -> IdleConnections:
    return IdleConnections(most_connections=3)


def add(idle: IdleConnections, count: int) -> list[Peer]:
    peers = [Peer() for _ in range(count)]
    for peer in peers:
        idle.add(peer)
    return peers


def test_the_longest_idle_makes_way(idle: IdleConnections) -> None:
    """Within the bound nobody is closed; beyond it, the first that came."""
    peers = add(idle, 4)
    idle.make_room(3)
    assert not any(peer.dropped for peer in peers)
    idle.make_room(4)
    assert [peer.dropped for peer in peers] == [True, False, False, False]
    assert len(idle) == 3


def test_a_connection_with_a_request_is_not_idle(idle: IdleConnections) -> None:
    """A connection with a request is never closed, and is the newest when idle again."""
    peers = add(idle, 3)
    idle.discard(peers[0])
    idle.discard(peers[0])
    idle.make_room(4)
    assert [peer.dropped for peer in peers] == [False, True, False]
    idle.add(peers[0])
    idle.make_room(4)
    assert [peer.dropped for peer in peers] == [False, True, True]


def test_there_may_be_nobody_to_close(idle: IdleConnections) -> None:
    """When all connections are busy, nothing happens but that the newest is closed."""
    idle.make_room(10)
    (newest,) = add(idle, 1)
    idle.make_room(10)
    assert newest.dropped
    assert len(idle) == 0
