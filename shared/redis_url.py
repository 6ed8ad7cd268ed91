"""What the URL of a Redis means: one server, or a master that Sentinels name.

    redis://[user:password@]host[:6379][/db][?option=value]
    rediss://...                                             the same over TLS
    unix://[user:password@]/path/of/socket[?db=0]
    redis+sentinel://[user:password@]host[:26379][,host2[:26379]]/master[/db][?option=value]
    rediss+sentinel://...                                    the same over TLS, Sentinels as well

User and password are those of the Redis servers. Sentinels with a login of their own have it in the
options `sentinel_username` and `sentinel_password`. All other options are redis-py's, among them
`ssl_ca_certs`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode

import redis.asyncio as redis
from redis.asyncio.connection import parse_url

from shared.logging import redact
from shared.url import split_url

if TYPE_CHECKING:
    from collections.abc import Mapping

SENTINEL_SCHEMES: Final = ("redis+sentinel://", "rediss+sentinel://")
SCHEMES: Final = ("redis://", "rediss://", "unix://", *SENTINEL_SCHEMES)

_REDIS_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_NEXT_URL: Final = re.compile(r",(?=[\s,]*(?:$|[a-z+]+://))")
_SENTINEL_FORM: Final = "redis+sentinel://host:26379,host2:26379/master-name/0"


@dataclass(frozen=True, slots=True)
class SentinelMaster:
    """The master of this name, according to the Sentinels at these addresses.

    `options` are the arguments of a connection to the master, `sentinel_options` those of one to a
    Sentinel.
    """

    name: str
    sentinels: tuple[tuple[str, int], ...]
    options: Mapping[str, Any]
    sentinel_options: Mapping[str, Any]
    is_tls: bool


def split_urls(text: str) -> tuple[str, ...]:
    """Split a comma-separated list of URLs; the list of a URL's own hosts stays in one piece."""
    return tuple(part for piece in _NEXT_URL.split(text) if (part := piece.strip(" \t\r\n,")))


def check_url(url: str) -> None:
    """Raise `ValueError`, with a message that shows no password, if `url` cannot be used."""
    if not url.startswith(SCHEMES):
        raise ValueError(
            "must begin with redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://"
        )
    if len(split_urls(url)) > 1:
        raise ValueError("must be one URL for a gateway: that of its own region")
    if url.startswith(SENTINEL_SCHEMES):
        sentinel_master(url)
        return
    _check_port(split_url(url))
    if not url.startswith("unix://") and "@" in split_url(url).path:
        # What is taken for the host is a part of the password.
        raise ValueError("special characters of a password must be percent-encoded")
    if not url.startswith("unix://") and "," in split_url(url).netloc.rpartition("@")[2]:
        raise ValueError(f"names several hosts, which only Sentinels may be: {_SENTINEL_FORM}")
    _check_options(url)


def sentinel_master(url: str) -> SentinelMaster | None:
    """Read the URL of a master that Sentinels name; return None for the URL of a server.

    Raises `ValueError` as `check_url` does.
    """
    if not url.startswith(SENTINEL_SCHEMES):
        return None
    parts = split_url(url)
    login, at, hosts = parts.netloc.rpartition("@")
    name, _, database = parts.path.strip("/").partition("/")
    if not name:
        raise ValueError(f"must name the master after the Sentinels: {_SENTINEL_FORM}")
    if database and not database.isdecimal():
        raise ValueError(
            f"must have nothing but a database number after the master: {_SENTINEL_FORM}"
        )
    sentinels = tuple(_address(host) for host in hosts.split(","))
    scheme = parts.scheme.removesuffix("+sentinel")
    own, theirs = _split_options(parts.query)
    path = f"/{database}" if database else ""
    return SentinelMaster(
        unquote(name),
        sentinels,
        _check_options(f"{scheme}://{login}{at}{_plain(sentinels[0])}{path}?{urlencode(own)}"),
        _check_options(
            f"{scheme}://{_plain(sentinels[0])}?{urlencode(theirs)}", prefix="sentinel_"
        ),
        scheme == "rediss",
    )


def name_of(url: str) -> str:
    """Name a Redis in logs and metrics: its address, or its master's name at the first Sentinel."""
    master = sentinel_master(url)
    if master is not None:
        return f"{master.name}@{_plain(master.sentinels[0])}"
    parts = split_url(url)
    return f"{parts.hostname}:{parts.port or _REDIS_PORT}" if parts.hostname else parts.path


def _address(text: str) -> tuple[str, int]:
    parts = split_url(f"redis://{text}")
    _check_port(parts)
    if not parts.hostname:
        raise ValueError(f"has a Sentinel without a host: {_SENTINEL_FORM}")
    return parts.hostname, parts.port or _SENTINEL_PORT


def _plain(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_port(parts: SplitResult) -> None:
    try:
        parts.port  # noqa: B018 (raises if it is not a number)
    except ValueError:  # its text quotes what may be part of a password
        raise ValueError(
            "has a port that is no number; special characters of a password must be percent-encoded"
        ) from None


def _split_options(query: str) -> tuple[dict[str, str], dict[str, str]]:
    """Split a URL's options into those for the master's connections and for the Sentinels'."""
    own: dict[str, str] = {}
    theirs: dict[str, str] = {}
    for name, value in parse_qsl(query):
        if name.startswith("sentinel_"):
            theirs[name.removeprefix("sentinel_")] = value
        else:
            own[name] = value
            if name.startswith("ssl_"):
                theirs[name] = value
    return own, theirs


def _check_options(url: str, *, prefix: str = "") -> Mapping[str, Any]:
    """Return the arguments of a connection to the server at `url`, apart from its address.

    `prefix` is what the names of the options began with.
    """
    try:
        redis.ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
        options = parse_url(url)
    except TypeError as error:
        option = re.search(r"argument '(\w+)'", str(error))
        what = f" {prefix}{option[1]}" if option is not None else ""
        raise ValueError(f"has an unknown option{what} after the question mark") from None
    except (ValueError, redis.RedisError) as error:
        raise ValueError(f"is not a Redis URL: {redact(str(error))}") from None
    address = ("host", "port", "connection_class")
    return {name: value for name, value in options.items() if name not in address}
