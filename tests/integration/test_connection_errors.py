"""What is said where a URL does not lead to a session: the fault, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.errors import DatabaseUnavailableError, SettingsError
from shared.postgres import connect
from shared.redis import UNAVAILABLE, close_client, describe, redis_client
from tests.acceptance.test_tls import TlsProxy
from tests.support.certificates import certificate

if TYPE_CHECKING:
    from pathlib import Path

    from devstack.servers import PostgresServer, ValkeyServer
    from tests.support.databases import Database

ADVICE_ON_FORM = "percent-encoded"
POSTGRES = {
    # the URL after the login, what is said, whether it is said to be the URL's fault
    "another authority": (
        "@127.0.0.1:{tls}/{name}?sslmode=verify-full&sslrootcert={folder}/other.pem",
        ("CERTIFICATE_VERIFY_FAILED", "sslrootcert=/path", "sslmode=require"),
        DatabaseUnavailableError,
    ),
    "another host": (
        "@localhost:{tls}/{name}?sslmode=verify-full&sslrootcert={folder}/own.pem",
        ("not valid for 'localhost'", "name the host", "sslmode=verify-ca"),
        DatabaseUnavailableError,
    ),
    "no such file": (
        "@127.0.0.1:{tls}/{name}?sslmode=verify-full&sslrootcert={folder}/nosuch.pem",
        ("sslrootcert={folder}/nosuch.pem: No such file",),
        DatabaseUnavailableError,
    ),
    "not a certificate": (
        "@127.0.0.1:{tls}/{name}?sslmode=verify-full&sslrootcert={folder}/own.key",
        ("look at sslrootcert, sslcert and sslkey",),
        DatabaseUnavailableError,
    ),
    "no TLS there": (
        "@127.0.0.1:{plain}/{name}?sslmode=require",
        ("rejected SSL upgrade",),
        DatabaseUnavailableError,
    ),
    "no such mode": (
        "@127.0.0.1:{plain}/{name}?sslmode=nosuch",
        ("must be one of: disable",),
        SettingsError,
    ),
    "no such kind of host": (
        "@127.0.0.1:{plain}/{name}?target_session_attrs=nosuch",
        ("must be any, primary, standby",),
        SettingsError,
    ),
    "no such host": ("@nosuch.invalid/{name}", ("nosuch.invalid",), DatabaseUnavailableError),
    "no Postgres there": (
        "@127.0.0.1:{valkey}/{name}?sslmode=disable",
        ("no answer within 1 s",),
        DatabaseUnavailableError,
    ),
    "no such database": ("@127.0.0.1:{plain}/nosuch", ('"nosuch"',), DatabaseUnavailableError),
}


@pytest.mark.parametrize("case", POSTGRES)
async def test_postgres(
    database: Database,
    postgres_server: PostgresServer,
    valkey_server: ValkeyServer,
    tmp_path: Path,
    case: str,
) -> None:
    """Each fault is named with what to do, in one line, and none with what does not help."""
    rest, said, kind = POSTGRES[case]
    own = certificate(tmp_path, "own")
    certificate(tmp_path, "other")
    proxy = TlsProxy(own, postgres_server.port, is_postgres=True)
    async with proxy.running() as port:
        values = {
            "tls": port, "plain": postgres_server.port, "valkey": valkey_server.port,
            "folder": tmp_path, "name": database.name,
        }  # fmt: skip
        url = f"postgresql://ayb_gateway{rest.format(**values)}"
        with pytest.raises(kind) as caught:
            await connect(url, application_name="test", connect_seconds=1)
    line = str(caught.value)
    for part in said:
        assert part.format(**values) in line
    assert "\n" not in line
    assert ADVICE_ON_FORM not in line


@pytest.mark.parametrize(
    "password", ["p@secret/w", "p#secret", "secret?p", "123?secret", "p@secret#w", "a/secret@x/b"]
)
async def test_a_password_that_is_not_encoded(password: str) -> None:
    """The advice is to encode it, and no part of it is in the line."""
    with pytest.raises((SettingsError, DatabaseUnavailableError)) as caught:
        await connect(
            f"postgresql://ayb_gateway:{password}@127.0.0.1:1/x",
            application_name="test",
            connect_seconds=1,
        )
    assert ADVICE_ON_FORM in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("127.0.0.1:{tls}/0?ssl_ca_certs={folder}/other.pem", "ssl_ca_certs=/path"),
        ("127.0.0.1:{tls}/0", "ssl_ca_certs=/path"),
        ("localhost:{tls}/0?ssl_ca_certs={folder}/own.pem", "ssl_check_hostname=false"),
        (
            "127.0.0.1:{tls}/0?ssl_ca_certs={folder}/nosuch.pem",
            "ssl_ca_certs={folder}/nosuch.pem: No such file",
        ),
        ("127.0.0.1:{plain}/0", "needs a port that speaks TLS"),
    ],
)
async def test_redis(valkey_server: ValkeyServer, tmp_path: Path, rest: str, said: str) -> None:
    """The same for Redis."""
    own = certificate(tmp_path, "own")
    certificate(tmp_path, "other")
    proxy = TlsProxy(own, valkey_server.port, is_postgres=False)
    async with proxy.running() as port:
        values = {"tls": port, "plain": valkey_server.port, "folder": tmp_path}
        url = f"rediss://{rest.format(**values)}"
        client = redis_client(url, answer_seconds=1.0)
        with pytest.raises(UNAVAILABLE) as caught:
            await client.ping()
        await close_client(client)
    line = describe(caught.value, url)
    assert said.format(**values) in line
    assert "\n" not in line
