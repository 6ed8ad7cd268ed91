"""When a token ends, as it says itself. It is not verified: the gateway does that."""

from __future__ import annotations

import base64
import binascii
import json
import time
from typing import Final

_EARLY_SECONDS: Final = 30.0
"""How long before its end a token is replaced, or half its time if that is shorter."""


def seconds_until_renewal(token: str, now: float | None = None) -> float | None:
    """How long a token is good for; None if it does not say (an API key), or has ended."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        left = float(claims["exp"]) - (time.time() if now is None else now)
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return None
    return max(left - _EARLY_SECONDS, left / 2) if left > 0 else None
