"""Which master is believed."""

from __future__ import annotations

from typing import Any

from shared.redis import newest_master


def state(port: int, epoch: int, **flags: bool) -> dict[str, Any]:
    return {
        "ip": "h", "port": port, "config-epoch": epoch,
        "is_master": True, "is_sdown": False, "is_odown": False, **flags,
    }  # fmt: skip


def test_the_newest_configuration_counts() -> None:
    """A Sentinel that has missed a failover is not believed, however many say the same."""
    assert newest_master([state(1, 4), state(2, 5), state(1, 4)]) == ("h", 2)


def test_a_master_that_is_down_is_none() -> None:
    """Nothing older takes its place; one Sentinel that finds it healthy is enough."""
    assert newest_master([]) is None
    assert newest_master([state(1, 4), state(2, 5, is_odown=True)]) is None
    assert newest_master([state(2, 5, is_sdown=True), state(2, 5)]) == ("h", 2)
