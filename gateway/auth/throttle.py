"""How often something may be tried: a login, or an API key that is not known.

Logins are limited for each client network, and for each client network and account together. An
account has no limit of its own, or anyone who knows an e-mail address could lock its user out:
failed tries count against the network that they come from.

Each limit is a bucket that holds some tries and gets one back from time to time; only failed tries
are finally taken from it. It is kept as one number, the time at which it will be full again
(the generic cell rate algorithm, ITU-T I.371). The number of buckets is bounded: to have one
forgotten, all others must be filled first.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING, Final

from gateway.client_network import network_of
from gateway.errors import InvalidCredentialsError, TooManyTriesError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_KEYS: Final = 16_384

_ROUNDING_SECONDS: Final = 1e-6


class Buckets:
    """Buckets of `tries`, each of which comes back after `seconds`."""

    def __init__(self, tries: int, seconds: float, most_keys: int = MOST_KEYS) -> None:
        self._seconds = seconds
        self._depth_seconds = tries * seconds
        self._most_keys = most_keys
        self._full_at: dict[str, float] = {}  # the first was used the longest ago

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_seconds(self, key: str, now: float) -> float:
        """Return how long to wait for a try; 0 if there is one."""
        full_at = max(now, self._full_at.get(key, now))
        wait_seconds = full_at + self._seconds - self._depth_seconds - now
        return wait_seconds if wait_seconds > _ROUNDING_SECONDS else 0.0

    def take(self, key: str, now: float) -> None:
        """Take a try, whether or not there is one."""
        full_at = max(now, self._full_at.pop(key, now))
        while len(self._full_at) >= self._most_keys:
            del self._full_at[next(iter(self._full_at))]
        self._full_at[key] = full_at + self._seconds

    def give_back(self, key: str) -> None:
        """Give a try back that was taken."""
        if key in self._full_at:
            self._full_at[key] -= self._seconds


class LoginThrottle:
    """Counts tries."""

    def __init__(
        self,
        *,
        per_network: tuple[int, float] = (30, 2.0),
        per_account: tuple[int, float] = (10, 30.0),
        most_keys: int = MOST_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Each limit: how many failed tries are free, and in how many seconds one returns."""
        self._networks = Buckets(*per_network, most_keys)
        self._accounts = Buckets(*per_account, most_keys)
        self._clock = clock

    @contextlib.contextmanager
    def counting_failures(self, address: str, email: str) -> Iterator[None]:
        """Take a try, and give it back unless the body raises `InvalidCredentialsError`.

        It is taken first, so that tries at the same time count as well. Raises
        `TooManyTriesError`.
        """
        network = network_of(address)
        account = f"{network} {email}"
        now = self._clock()
        wait_seconds = max(
            self._networks.wait_seconds(network, now), self._accounts.wait_seconds(account, now)
        )
        if wait_seconds > 0:
            raise TooManyTriesError(retry_seconds=math.ceil(wait_seconds))
        self._networks.take(network, now)
        self._accounts.take(account, now)
        is_wrong = False
        try:
            yield
        except InvalidCredentialsError:
            is_wrong = True
            raise
        finally:
            if not is_wrong:
                self._networks.give_back(network)
                self._accounts.give_back(account)

    @property
    def kept(self) -> int:
        """How many buckets are kept."""
        return len(self._networks) + len(self._accounts)
