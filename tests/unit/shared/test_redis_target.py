"""The options of ours in the URL of a Redis."""

from __future__ import annotations

import pytest

from shared.redis_target import RedisTarget


@pytest.mark.parametrize(
    ("url", "rest", "name", "content"),
    [
        ("redis://eu:6380/0", "redis://eu:6380/0", "eu:6380", "all"),
        ("redis://h/0?region=eu-1", "redis://h/0", "eu-1", "all"),
        ("redis://h/0?content=compressed", "redis://h/0", "h:6379", "compressed"),
        (
            "rediss://u:p%26w@h/0?ssl_ca_certs=/a%20b&content=ticks&region=us",
            "rediss://u:p%26w@h/0?ssl_ca_certs=/a%20b",
            "us",
            "ticks",
        ),
        ("unix:///run/valkey?db=1&region=here", "unix:///run/valkey?db=1", "here", "all"),
        (
            "redis+sentinel://a,b/master/0?region=asia",
            "redis+sentinel://a,b/master/0",
            "asia",
            "all",
        ),
    ],
)
def test_options_are_taken_out(url: str, rest: str, name: str, content: str) -> None:
    """Ours leave the URL, and redis-py's stay as they were written."""
    target = RedisTarget.of(url)
    assert (target.url, target.name, target.content) == (rest, name, content)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("region=", "has a region"),
        ("region=a,b", "has a region"),
        ("region=" + "x" * 64, "has a region"),
        ("content=tick", "has a content that is not one of all, compressed, ticks"),
        ("content=", "has a content"),
    ],
)
def test_wrong_options(query: str, message: str) -> None:
    """A value that means nothing is an error."""
    with pytest.raises(ValueError, match=message):
        RedisTarget.of(f"redis://:secret@h/0?{query}")
