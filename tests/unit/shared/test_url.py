"""shared.url: the parts of a URL that may name several hosts."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from shared.url import split_url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%2C@h:1/d?sslmode=require",
        "REDIS://h",
        "redis://[::1]:5/0?a=b?c#d?e",
        "unix:///run/a?db=0",
        "postgresql:///d?host=/run/a",
        "redis://h?a=/b",
        "no url",
        "",
    ],
)
def test_one_host_is_split_as_ever(url: str) -> None:
    """Where Python knows the form, the parts are the same."""
    assert split_url(url) == urlsplit(url)


def test_several_hosts_may_have_addresses() -> None:
    """A list with an IPv6 address is one part; a later version of Python refuses it."""
    parts = split_url("redis+sentinel://u:p@h,[::1]:5/main/2?a=b")
    assert (parts.netloc, parts.path, parts.query) == ("u:p@h,[::1]:5", "/main/2", "a=b")
