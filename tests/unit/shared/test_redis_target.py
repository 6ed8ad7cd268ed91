"""The options of ours in the URL of a Redis."""

from __future__ import annotations

import pytest

from shared.redis_target import RedisTarget


@pytest.mark.parametrize(
    ("url", "rest", "name", "is_ticks_only"),
    [
        ("redis://eu:6380/0", "redis://eu:6380/0", "eu:6380", False),
        ("redis://h/0?region=eu-1", "redis://h/0", "eu-1", False),
        ("redis://h/0?content=all", "redis://h/0", "h:6379", False),
        (
            "rediss://u:p%26w@h/0?ssl_ca_certs=/a%20b&content=ticks&region=us",
            "rediss://u:p%26w@h/0?ssl_ca_certs=/a%20b",
            "us",
            True,
        ),
        ("unix:///run/valkey?db=1&region=here", "unix:///run/valkey?db=1", "here", False),
        (
            "redis+sentinel://a,b/master/0?region=asia",
            "redis+sentinel://a,b/master/0",
            "asia",
            False,
        ),
    ],
)
def test_options_are_taken_out(url: str, rest: str, name: str, is_ticks_only: bool) -> None:
    """Ours leave the URL, and redis-py's stay as they were written."""
    target = RedisTarget.of(url)
    assert (target.url, target.name, target.is_ticks_only) == (rest, name, is_ticks_only)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("region=", "has a region"),
        ("region=a,b", "has a region"),
        ("region=" + "x" * 64, "has a region"),
        ("content=tick", "has a content that is none of all, ticks"),
        ("content=", "has a content"),
    ],
)
def test_wrong_options(query: str, message: str) -> None:
    """A value that means nothing is an error."""
    with pytest.raises(ValueError, match=message):
        RedisTarget.of(f"redis://:secret@h/0?{query}")
