"""Postgres refuses new connections while we run: a rotated password, a forbidden login ..."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from devstack.servers import PostgresServer
from tests.support.databases import Database, make_template, open_connection
from tests.support.servers import new_postgres
from tests.support.stack import Stack

if TYPE_CHECKING:
    from tests.support.stack_fixtures import StartStack

LOGINS = ("ayb_relay", "ayb_gateway")
HBA = "host all ayb_relay,ayb_gateway 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
TABLE = """
    CREATE TABLE posts (id int PRIMARY KEY);
    ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON posts USING (true);
    GRANT SELECT ON posts TO ayb_authenticated;
"""


@dataclass
class Guarded:
    """A server that asks our logins for passwords, and the files that hold them."""

    server: PostgresServer
    database: Database
    files: dict[str, Path]

    async def admin(self, *statements: str) -> None:
        """Run statements as superuser in another database."""
        async with open_connection(self.server.dsn()) as admin:
            for statement in statements:
                await admin.execute(statement)

    async def set_passwords(self, *, in_files: bool) -> None:
        """Set new passwords for the logins, and write them to the files now or later."""
        for login in LOGINS:
            password = secrets.token_urlsafe()
            await self.admin(f"ALTER ROLE {login} PASSWORD '{password}'")
            if in_files:
                self.files[login].write_text(f"{password}\n")

    async def cut(self) -> None:
        """End every session of our logins."""
        await self.admin(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE usename IN ('{LOGINS[0]}', '{LOGINS[1]}')"
        )


@pytest.fixture
async def guarded(server_dir: Path, tmp_path: Path) -> AsyncIterator[Guarded]:
    """A server of the test's own."""
    folder = server_dir / f"guarded-{secrets.token_hex(4)}"
    with new_postgres(folder) as server:
        await make_template(server, "app")
        guarded = Guarded(
            server, Database.on(server, "app"), {login: tmp_path / login for login in LOGINS}
        )
        await guarded.set_passwords(in_files=True)
        (folder / "pg_hba.conf").write_text(HBA)
        await guarded.admin("SELECT pg_reload_conf()")
        yield guarded
    shutil.rmtree(folder, ignore_errors=True)


async def _start(guarded: Guarded, start_stack: StartStack) -> Stack:
    stack = await start_stack(
        postgres=guarded.server,
        database=guarded.database,
        relay={"AYB_DATABASE_PASSWORD_FILE": str(guarded.files["ayb_relay"])},
        gateway={"AYB_READ_DATABASE_PASSWORD_FILE": str(guarded.files["ayb_gateway"])},
    )
    await stack.create(TABLE, "posts")
    return stack


async def _says(stack: Stack, name: str, text: str, path: str = "/readyz") -> str:
    """Wait until a part's page contains a text; return the page."""
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(30):
        while text not in (page := (await http.get(f"{stack.url(name)}{path}")).text):
            assert stack.child(name).is_running, f"{name} has ended"
            await asyncio.sleep(0.05)
    return page


RENAMED = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'app'"


@pytest.mark.parametrize(
    ("refuse", "mend", "reason"),
    [
        ([f"ALTER ROLE {login} NOLOGIN" for login in LOGINS],
         [f"ALTER ROLE {login} LOGIN" for login in LOGINS], "not permitted to log in"),
        (["ALTER DATABASE app ALLOW_CONNECTIONS false"],
         ["ALTER DATABASE app ALLOW_CONNECTIONS true"], "not currently accepting connections"),
        (["REVOKE CONNECT ON DATABASE app FROM PUBLIC"],
         ["GRANT CONNECT ON DATABASE app TO PUBLIC"], "permission denied for database"),
        ([f"ALTER ROLE {login} CONNECTION LIMIT 0" for login in LOGINS],
         [f"ALTER ROLE {login} CONNECTION LIMIT -1" for login in LOGINS], "too many connections"),
        (["ALTER DATABASE app ALLOW_CONNECTIONS false", RENAMED, "ALTER DATABASE app RENAME TO x"],
         ["ALTER DATABASE x RENAME TO app", "ALTER DATABASE app ALLOW_CONNECTIONS true"],
         "does not exist"),
    ],
    ids=["nologin", "allow_connections", "connect_revoked", "connection_limit", "renamed"],
)  # fmt: skip
async def test_refused_and_mended(
    guarded: Guarded, start_stack: StartStack, refuse: list[str], mend: list[str], reason: str
):
    """Relay and gateway stay up, give the reason, keep their streams, and recover by themselves."""
    stack = await _start(guarded, start_stack)
    async with stack.stream("posts", token=stack.token()) as client:
        await client.connected()
        await guarded.admin(*refuse)
        await guarded.cut()
        for name in ("relay", "gateway"):
            await _says(stack, name, reason)
            assert "Traceback" not in stack.log(name)
        assert stack.log("relay").count(reason) == 1
        assert "ayb_relay_database_up 0.0" in await _says(stack, "relay", "up 0.0", "/metrics")
        assert "refused_total 0.0" not in await _says(stack, "gateway", "refused_tot", "/metrics")
        await guarded.admin(*mend)
        for name in ("relay", "gateway"):
            await stack.ready(name)
        await stack.sql("INSERT INTO posts VALUES (1)")
        assert (await client.next_message(30)).json()["record"] == {"id": 1}


async def test_password_rotated(guarded: Guarded, start_stack: StartStack):
    """After a new password, open connections stay, and new ones succeed once the files have it."""
    stack = await _start(guarded, start_stack)
    async with stack.stream("posts", token=stack.token()) as client:
        await client.connected()
        await guarded.set_passwords(in_files=False)
        await stack.sql("INSERT INTO posts VALUES (1)")
        assert (await client.next_message(30)).json()["record"] == {"id": 1}
        await guarded.cut()
        for name in ("relay", "gateway"):
            await _says(stack, name, "password authentication failed")
        await guarded.set_passwords(in_files=True)
        for name in ("relay", "gateway"):
            await stack.ready(name)
        await stack.sql("INSERT INTO posts VALUES (2)")
        assert (await client.next_message(30)).json()["record"] == {"id": 2}


async def test_no_line_in_pg_hba(guarded: Guarded, start_stack: StartStack):
    """A server whose pg_hba.conf does not know the logins, as one that was just promoted, is one
    line and a retry, for processes that run and for those that start.
    """
    hba = guarded.server.data_dir / "pg_hba.conf"
    known = hba.read_text()
    stack = await _start(guarded, start_stack)
    hba.write_text(
        "".join(line for line in known.splitlines(True) if "ayb_relay" not in line).replace(
            "all all", "all postgres"
        )
    )
    await guarded.admin("SELECT pg_reload_conf()")
    await guarded.cut()
    for name in ("relay", "gateway"):
        await _says(stack, name, "no pg_hba.conf entry")
        assert "Traceback" not in stack.log(name)
    await stack.stop("relay")
    stack.launch("relay")
    async with asyncio.timeout(30):
        while stack.log("relay").count("no pg_hba.conf entry") < 2:  # noqa: ASYNC110 (another process does it)
            await asyncio.sleep(0.05)
    hba.write_text(known)
    await guarded.admin("SELECT pg_reload_conf()")
    for name in ("relay", "gateway"):
        await stack.ready(name)
    assert stack.log("relay").count("no pg_hba.conf entry") == 2
