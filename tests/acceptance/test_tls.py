"""TLS to Postgres and Redis. The embedded servers have none, so a proxy before them adds it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificates import certificate
from tests.support.listening import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.stack import Stack

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What a client of Postgres sends first to be offered TLS (protocol 3.0, "SSL Session
Encryption")."""


class TlsProxy:
    """Accepts TLS connections, forwards them unencrypted, and counts them."""

    def __init__(self, certificate: Path, target: int, *, is_postgres: bool) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._target = target
        self._is_postgres = is_postgres
        self._writers: set[asyncio.StreamWriter] = set()
        self.encrypted = 0
        self.show(certificate)

    def show(self, certificate: Path) -> None:
        """Show this certificate from now on, and reset the connections there are."""
        self._context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        for writer in self._writers:
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        """Listen; yield the port."""
        tls = None if self._is_postgres else self._context
        async with listening(self._serve, tls=tls) as port:
            yield port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_postgres:
            if await reader.readexactly(8) != SSL_REQUEST:
                return
            writer.write(b"S")
            await writer.start_tls(self._context)
        self.encrypted += 1
        self._writers.add(writer)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, there_writer))
                group.create_task(_pump(there_reader, writer))
        finally:
            self._writers.discard(writer)
            there_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_tls_to_postgres_and_redis(
    start_stack: Any, tmp_path: Path, is_trusted: bool
) -> None:
    """Relay and gateway reach both over TLS and check the certificates; an untrusted server is
    refused, and nothing is sent to it.
    """
    own = certificate(tmp_path, "own")
    trusted = own if is_trusted else certificate(tmp_path, "another")
    stack = await start_stack(start=False)
    postgres = TlsProxy(own, stack.postgres.port, is_postgres=True)
    valkey = TlsProxy(own, stack.valkey.port, is_postgres=False)
    async with postgres.running() as postgres_port, valkey.running() as valkey_port:
        database = f"@127.0.0.1:{postgres_port}/{stack.database.name}"
        options = f"?sslmode=verify-full&sslrootcert={trusted}"
        redis_url = f"rediss://127.0.0.1:{valkey_port}/0?ssl_ca_certs={trusted}"
        for name, login in (("relay", "ayb_relay"), ("gateway", "ayb_gateway")):
            url = f"postgresql://{login}{database}{options}"
            stack.set(name, AYB_DATABASE_URL=url, AYB_REDIS_URL=redis_url)
        stack.set("gateway", AYB_READ_DATABASE_URL=url)
        if is_trusted:
            await stack.start("relay")
            await stack.start("gateway")
            await stack.create(
                "CREATE TABLE t (id int PRIMARY KEY); GRANT SELECT ON t TO ayb_authenticated", "t"
            )
            async with stack.stream("t", token=stack.token()) as client:
                await client.connected()
                await stack.sql("INSERT INTO t VALUES (1)")
                assert (await client.next_message()).json()["record"] == {"id": 1}
            assert postgres.encrypted > 2
            assert valkey.encrypted >= 2
        else:
            await _refused(stack, "sslrootcert=/path in the URL must name the certificate")
            for name, login in (("relay", "ayb_relay"), ("gateway", "ayb_gateway")):
                await stack.stop(name)
                url = f"postgresql://{login}@127.0.0.1:{stack.postgres.port}/{stack.database.name}"
                stack.set(name, AYB_DATABASE_URL=url)
            stack.set("gateway", AYB_READ_DATABASE_URL=url)
            await _refused(stack, f"127.0.0.1:{valkey_port}. [SSL: CERTIFICATE_VERIFY_FAILED]")
            assert (postgres.encrypted, valkey.encrypted) == (0, 0)
        for name in ("gateway", "relay"):
            await stack.stop(name)


async def test_a_certificate_that_is_no_longer_valid(start_stack: Any, tmp_path: Path) -> None:
    """It ends no stream: relay and gateway wait for one that they can trust, and lose nothing."""
    own, wrong = certificate(tmp_path, "own"), certificate(tmp_path, "wrong")
    stack = await start_stack(start=False)
    postgres = TlsProxy(own, stack.postgres.port, is_postgres=True)
    async with postgres.running() as port:
        options = f"127.0.0.1:{port}/{stack.database.name}?sslmode=verify-full&sslrootcert={own}"
        for name, login in (("relay", "ayb_relay"), ("gateway", "ayb_gateway")):
            stack.set(name, AYB_DATABASE_URL=f"postgresql://{login}@{options}")
        stack.set("gateway", AYB_READ_DATABASE_URL=f"postgresql://ayb_gateway@{options}")
        await stack.start("relay")
        await stack.start("gateway")
        await stack.create(
            "CREATE TABLE t (id int PRIMARY KEY); GRANT SELECT ON t TO ayb_authenticated", "t"
        )
        async with stack.stream("t", token=stack.token()) as client:
            await client.connected()
            postgres.show(wrong)
            await stack.sql("INSERT INTO t VALUES (1)")
            async with asyncio.timeout(30):
                while not all(  # noqa: ASYNC110 (other processes do it)
                    "CERTIFICATE_VERIFY_FAILED" in stack.log(name) for name in ("relay", "gateway")
                ):
                    await asyncio.sleep(0.1)
            assert stack.child("relay").is_running
            assert stack.child("gateway").is_running
            postgres.show(own)
            assert (await client.next_message(60)).json()["record"] == {"id": 1}
        for name in ("gateway", "relay"):
            assert await stack.stop(name) == 0


async def _refused(stack: Stack, message: str) -> None:
    """Launch relay and gateway, and wait until both have logged the message."""
    for name in ("relay", "gateway"):
        stack.launch(name)
    async with asyncio.timeout(20):
        while not all(  # noqa: ASYNC110 (other processes do it)
            message in stack.log(name) for name in ("relay", "gateway")
        ):
            await asyncio.sleep(0.1)
