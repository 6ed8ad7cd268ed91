from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from devstack.servers import free_port
from shared.errors import DatabaseUnavailableError, SettingsError
from shared.postgres import DatabaseAddress, connect, unavailable_as_ours


def test_a_password_file_is_read_each_time(tmp_path: Path) -> None:
    """The password is the file's content of the moment, without the line break at its end."""
    file = tmp_path / "password"
    address = DatabaseAddress("postgresql://u@h/db", file)
    for written, read in (("one", "one"), ("two\n", "two"), (" three \r\n", " three ")):
        file.write_bytes(written.encode())
        assert address.read_password() == read
    assert DatabaseAddress("postgresql://u:p@h/db").read_password() is None


async def test_a_password_file_that_is_gone_is_an_outage(tmp_path: Path) -> None:
    """While a secret is being replaced its file may be missing: that is tried again."""
    address = DatabaseAddress(f"postgresql://u@127.0.0.1:{free_port()}/db", tmp_path / "gone")
    with pytest.raises(DatabaseUnavailableError):
        await connect(address, application_name="test")


@pytest.mark.parametrize("url", ["postgresql://h:port/db", "postgresql://h/db?sslmode=wrong"])
async def test_a_url_that_cannot_be_read_is_the_operators(url: str) -> None:
    """Trying again would not help."""
    with pytest.raises(SettingsError):
        await connect(url, application_name="test")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError(), "database unavailable: TimeoutError"),
        (asyncpg.CannotConnectNowError("starting\nDETAIL: x"), "database unavailable: starting"),
        (DatabaseUnavailableError("database unavailable: x"), "database unavailable: x"),
    ],
)
def test_outages_are_ours(error: Exception, said: str) -> None:
    """One line each, and never wrapped twice."""
    with pytest.raises(DatabaseUnavailableError) as raised, unavailable_as_ours():
        raise error
    assert str(raised.value) == said


def test_other_errors_stay() -> None:
    """A right that is missing for a statement is no outage."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError), unavailable_as_ours():
        raise asyncpg.InsufficientPrivilegeError("no")
