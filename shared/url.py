"""Taking a URL apart that may name several hosts."""

from __future__ import annotations

from urllib.parse import SplitResult


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL; which hosts it may name is for the caller to check.

    `urllib.parse.urlsplit` knows one host alone: in newer versions of Python it refuses a list with
    an IPv6 address in it (`a,[::1]`).
    """
    rest, _, fragment = url.partition("#")
    rest, _, query = rest.partition("?")
    scheme, mark, address = rest.partition("://")
    if not mark:
        return SplitResult("", "", rest, query, fragment)
    netloc, slash, path = address.partition("/")
    return SplitResult(scheme.lower(), netloc, slash + path, query, fragment)
