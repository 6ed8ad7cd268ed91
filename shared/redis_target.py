"""Our own options in the URL of a Redis, besides those of redis-py.

    redis://host:6379/0?region=eu&content=ticks

* `region`: a name for logs and metrics, instead of the address.
* `content`: what the relay sends there. `all`, the default, sends whole batches; `compressed` sends
  them compressed. `ticks` only announces each batch: the gateways read its content from their own
  replica, where it arrives in any case.

Only the relay uses them. A gateway ignores them, so both may be given the same URL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl

from shared.redis_url import name_of

_REGION: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,62}")


class Content(StrEnum):
    """What is sent of each batch."""

    ALL = "all"
    COMPRESSED = "compressed"
    TICKS = "ticks"


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """A Redis that the relay publishes to."""

    url: str
    """The URL without our options."""

    region: str | None = None
    content: Content = Content.ALL

    @property
    def name(self) -> str:
        """Its name in logs and metrics."""
        return self.region or name_of(self.url)

    @classmethod
    def of(cls, url: str) -> RedisTarget:
        """Read a URL; raises `ValueError`, with a message that shows no password."""
        address, _, query = url.partition("?")
        region, content, others = None, "all", []
        for pair in filter(None, query.split("&")):
            ((name, value),) = parse_qsl(pair, keep_blank_values=True) or [("", "")]
            match name:
                case "region":
                    region = value
                case "content":
                    content = value
                case _:
                    others.append(pair)
        if region is not None and not _REGION.fullmatch(region):
            raise ValueError("has a region that is not a name of letters, digits, dots and hyphens")
        if content not in list(Content):
            raise ValueError(f"has a content that is not one of {', '.join(Content)}")
        rest = "?".join(filter(None, (address, "&".join(others))))
        return cls(rest, region, Content(content))
