"""The forms of a Redis URL, and what is said of one that cannot be used."""

from __future__ import annotations

import re

import pytest

from shared.redis_url import check_url, name_of, sentinel_master, split_urls


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("redis://a", ("redis://a",)),
        (" redis://a , ,rediss://b,", ("redis://a", "rediss://b")),
        (
            "redis+sentinel://a,b:2/m,redis+sentinel://c,d/m,unix:///e",
            ("redis+sentinel://a,b:2/m", "redis+sentinel://c,d/m", "unix:///e"),
        ),
        ("redis://:a,b@c", ("redis://:a,b@c",)),
        (" , ", ()),
    ],
)
def test_a_list_is_split_between_urls_only(text: str, urls: tuple[str, ...]) -> None:
    """The comma between the Sentinels of one URL separates nothing."""
    assert split_urls(text) == urls


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://u:p@h", "h:6379"),
        ("rediss://h:1/2?ssl_ca_certs=/ca.pem", "h:1"),
        ("unix:///run/valkey.sock?db=0", "/run/valkey.sock"),
        ("redis+sentinel://:p@h,i:2/main/1", "main@h:26379"),
        ("rediss+sentinel://[::1]/main", "main@[::1]:26379"),
    ],
)
def test_a_good_url_has_a_name_without_secrets(url: str, name: str) -> None:
    """Address or master stand in logs and metrics, never a login."""
    check_url(url)
    assert name_of(url) == name


def test_sentinels_and_master_have_their_own_logins() -> None:
    """User, password and database are the master's; both share the options of TLS."""
    assert sentinel_master("redis://h") is None
    master = sentinel_master(
        "rediss+sentinel://u:p%2Cw@h,[::1]:5/my%20main/2"
        "?ssl_ca_certs=/ca.pem&sentinel_username=v&sentinel_password=s&max_connections=3"
    )
    assert master is not None
    assert master.name == "my main"
    assert master.sentinels == (("h", 26379), ("::1", 5))
    assert master.is_tls
    assert master.options == {
        "username": "u", "password": "p,w", "db": 2, "ssl_ca_certs": "/ca.pem",
        "max_connections": 3,
    }  # fmt: skip
    assert master.sentinel_options == {
        "username": "v", "password": "s", "ssl_ca_certs": "/ca.pem"
    }  # fmt: skip


_FORM = "redis+sentinel://host:26379,host2:26379/master-name/0"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://h", "must begin with redis://, rediss://, unix://, redis+sentinel:// or rediss+"),
        ("redis://:p@s3cret/x@h:1", "special characters of a password must be percent-encoded"),
        ("redis://:s3cret/x@h:1", "has a port that is no number; special characters of a"),
        ("redis+sentinel://h:s3cret/m", "has a port that is no number; special characters of a"),
        ("redis://a,redis://b", "must be one URL for a gateway: that of its own region"),
        ("redis://a,b", f"names several hosts, which only Sentinels may be: {_FORM}"),
        ("redis+sentinel://h", f"must name the master after the Sentinels: {_FORM}"),
        ("redis+sentinel:///m", f"has a Sentinel without a host: {_FORM}"),
        ("redis+sentinel://a,,b/m", f"has a Sentinel without a host: {_FORM}"),
        ("redis+sentinel://h/m/s3cret", "must have nothing but a database number after the master"),
        ("redis://h?socket_timeout=s3cret", "is not a Redis URL: Invalid value for 'socket_"),
        ("rediss://h?ssl_ca_cert=s3cret", "has an unknown option ssl_ca_cert after the question"),
        ("redis+sentinel://h/m?sentinel_x=s3cret", "has an unknown option sentinel_x after"),
        ("rediss://h?ssl_cert_reqs=no", "is not a Redis URL: Invalid SSL"),
    ],
)
def test_each_fault_is_one_clear_line(url: str, message: str) -> None:
    """It says what is wrong and shows no value that may be a secret."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as caught:
        check_url(url)
    assert "s3cret" not in str(caught.value)
