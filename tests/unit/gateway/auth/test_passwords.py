from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.low_level import Type

from gateway.auth.passwords import AT_A_TIME, MOST_WAITING, PasswordChecker
from gateway.errors import TooManyTriesError

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class WatchedHasher(PasswordHasher):
    """Checks as ever; remembers against what, and can be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.checked: list[str] = []
        self.busy = self.most_busy = 0
        self.may_go = threading.Event()
        self.may_go.set()
        self._lock = threading.Lock()

    def verify(self, hash: Any, password: Any) -> Any:  # noqa: A002 (argon2's name)
        with self._lock:
            self.checked.append(hash)
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        try:
            self.may_go.wait(10)
            return super().verify(hash, password)
        finally:
            with self._lock:
                self.busy -= 1


@pytest.fixture
def hasher() -> WatchedHasher:
    return WatchedHasher()


async def test_a_password_matches_its_hash_only(hasher: WatchedHasher) -> None:
    """The password of a hash is right, any other is wrong."""
    checker = PasswordChecker(hasher)
    stored = CHEAP.hash("pässword \x00 1")
    assert await checker.is_right("pässword \x00 1", stored)
    assert not await checker.is_right("pässword", stored)
    assert not await checker.is_right("", stored)


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "",
        "none",
        "$2b$12$C6UzMDM.H6dfI/f/IKcEeO7ZBiQ9cXv0g3rJbWc8m2eJcV0yYd9Gm",
        PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, type=Type.I).hash("password"),
    ],
)
async def test_without_a_hash_the_same_work_is_done(
    hasher: WatchedHasher, stored: str | None
) -> None:
    """Where there is no user or no argon2id hash, one of AYB's cost is checked, in vain."""
    assert not await PasswordChecker(hasher).is_right("password", stored)
    (checked,) = hasher.checked
    assert checked != stored
    assert checked.startswith("$argon2id$v=19$m=65536,t=3,p=2$")


class CarelessHasher(PasswordHasher):
    """Takes every password."""

    def verify(self, hash: Any, password: Any) -> Any:  # noqa: A002 (argon2's names)
        return True


@pytest.mark.parametrize("stored", [None, "", "$2b$12$" + "x" * 53])
async def test_the_hash_of_nothing_lets_nobody_in(stored: str | None) -> None:
    """Even a password that fits the hash checked in vain is wrong."""
    checker = PasswordChecker(CarelessHasher())
    assert not await checker.is_right("password", stored)
    assert await checker.is_right("password", CHEAP.hash("password"))


@pytest.mark.parametrize(
    "stored", ["$argon2id$", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$", "$argon2id$v=19$m=x$a$b"]
)
async def test_a_damaged_hash_is_nobodys(hasher: WatchedHasher, stored: str) -> None:
    """A hash that cannot be read matches no password and raises nothing."""
    assert not await PasswordChecker(hasher).is_right("password", stored)


async def test_few_checks_run_and_few_wait(hasher: WatchedHasher) -> None:
    """Two passwords are checked at a time, a bounded number waits, and the next one is refused."""
    checker, stored = PasswordChecker(hasher), CHEAP.hash("password")
    hasher.may_go.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(checker.is_right("password", stored))
            for _ in range(AT_A_TIME + MOST_WAITING)
        ]
        await asyncio.sleep(0)
        with pytest.raises(TooManyTriesError):
            await checker.is_right("password", stored)
        hasher.may_go.set()
    assert all(task.result() for task in tasks)
    assert hasher.most_busy == AT_A_TIME
    assert await checker.is_right("password", stored)
