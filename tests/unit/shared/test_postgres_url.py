"""The hosts of a Postgres URL."""

from __future__ import annotations

import pytest

from shared.postgres import DatabaseAddress
from shared.postgres_url import each_host, host_of


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        ("postgresql://u@h/d", ("postgresql://u@h/d",)),
        (
            "postgresql://u:p%2C@h:1,[::1]:2,i/d?sslmode=require",
            (
                "postgresql://u:p%2C@h:1/d?sslmode=require",
                "postgresql://u:p%2C@[::1]:2/d?sslmode=require",
                "postgresql://u:p%2C@i/d?sslmode=require",
            ),
        ),
        ("postgresql://u:a,b@h/d", ("postgresql://u:a,b@h/d",)),
        ("postgresql:///d?host=/run/a", ("postgresql:///d?host=/run/a",)),
        ("postgresql://h,/d", ("postgresql://h/d",)),
        ("postgresql://[h/d", ("postgresql://[h/d",)),
        (
            "postgresql://a,b/d?target_session_attrs=prefer-standby",
            ("postgresql://a,b/d?target_session_attrs=prefer-standby",),
        ),
    ],
)
def test_each_host_has_a_url(url: str, urls: tuple[str, ...]) -> None:
    """In order, each with the login and the options; a comma in the login separates nothing."""
    assert each_host(url) == urls


def test_a_host_is_named_without_its_login() -> None:
    """So that it can stand in logs."""
    assert host_of("postgresql://u:s3cret@h:1/d") == "h:1"
    assert host_of("postgresql:///d") == "the default host"
    for password in ("p@s3cret/x", "s3cret?x", "p@s3cret#x"):
        assert host_of(f"postgresql://u:{password}@h:1/d") == "an unknown host"
    first, second = DatabaseAddress("postgresql://u:s3cret@a,b:2/d").hosts
    assert (first.name, second.name) == ("a", "b:2")
