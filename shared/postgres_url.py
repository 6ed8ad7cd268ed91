"""A Postgres URL that names several hosts, in the order in which they are tried.

    postgresql://user@own:5432,other:5432/database?target_session_attrs=standby

libpq and asyncpg read such a URL too, but with one time limit for the whole list, so that a first
host that answers nothing keeps the others from being tried. Here each host is a URL of its own.
"""

from __future__ import annotations

from urllib.parse import urlunsplit

from shared.url import split_url

_PREFERRING = "target_session_attrs=prefer-standby"


def each_host(url: str) -> tuple[str, ...]:
    """Return a URL for each host, in order; the URL itself if it names one.

    A list that prefers standbys is left to asyncpg, which looks at all hosts before it chooses.
    """
    parts = split_url(url)
    login, at, hosts = parts.netloc.rpartition("@")
    if "," not in hosts or _PREFERRING in parts.query:
        return (url,)
    return tuple(
        urlunsplit(parts._replace(netloc=f"{login}{at}{host}")) for host in hosts.split(",") if host
    )


def is_unencoded(url: str) -> bool:
    """Whether a password seems not to be percent-encoded.

    A `/`, `?` or `#` in it ends what is taken for the host, which is then a part of the password.
    """
    parts = split_url(url)
    return "@" in f"{parts.path}{parts.query}{parts.fragment}"


def host_of(url: str) -> str:
    """Name the host of a URL, with its port if that is given, and without login."""
    if is_unencoded(url):
        return "an unknown host"
    return split_url(url).netloc.rpartition("@")[2] or "the default host"
