"""Pods whose values, Secrets or servers are wrong: one line says what, and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from devstack.ports import free_port
from tests.support.chart import changed
from tests.support.cluster import GATEWAY, RELAY, pod_environment, values_for
from tests.support.databases import ROLES_SQL, open_connection
from tests.support.stack import JWT_SECRET, PROJECT

if TYPE_CHECKING:
    from tests.support.databases import Database
    from tests.support.stack import Stack
    from tests.support.stack_fixtures import StartStack

COMMANDS = {GATEWAY: ["gateway"], RELAY: ["relay", "run"]}
NOWHERE = "127.0.0.1:1"


async def ended(name: str, environment: dict[str, str]) -> tuple[int | None, str]:
    """Run a pod's command until it ends by itself; return its status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *COMMANDS[name], cwd=PROJECT,
        env={"AYB_RELAY_PORT": "0", "AYB_MANAGEMENT_PORT": str(free_port()), **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(120):
            printed, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    return process.returncode, printed.decode()


WRONG: list[tuple[str, dict[str, str], str]] = [
    # A Secret whose key is there, but empty: Kubernetes itself names one that is missing.
    (GATEWAY, {"AYB_READ_DATABASE_URL": ""}, "AYB_READ_DATABASE_URL"),
    (GATEWAY, {"AYB_AUTH_JWT_SECRET": ""}, "AYB_AUTH_JWT_SECRET"),
    (GATEWAY, {"AYB_REDIS_URL": ""}, "AYB_REDIS_URL"),
    (RELAY, {"AYB_DATABASE_URL": ""}, "AYB_DATABASE_URL"),
    # A wrong scheme, a list where one is due, a file that is missing.
    (RELAY, {"AYB_DATABASE_URL": "mysql://db/app"}, "AYB_DATABASE_URL: must begin with postgres"),
    (RELAY, {"AYB_REDIS_URL": "http://redis"}, "AYB_REDIS_URL"),
    (GATEWAY, {"AYB_REDIS_URL": "redis://a,redis://b"}, "AYB_REDIS_URL: must be one URL"),
    (GATEWAY, {"AYB_READ_DATABASE_PASSWORD_FILE": "/none"}, "AYB_READ_DATABASE_PASSWORD_FILE"),
]


async def test_a_wrong_variable_is_named(database: Database) -> None:
    """A pod with a wrong variable ends with 1 and one line that names it, without its value."""
    values = values_for(database, f"redis://{NOWHERE}")
    found = await asyncio.gather(
        *(ended(name, pod_environment(values, name) | wrong) for name, wrong, _ in WRONG)
    )
    for (status, printed), (_, wrong, expected) in zip(found, WRONG, strict=True):
        assert status == 1, (wrong, printed)
        [line] = printed.splitlines()
        assert expected in line
        assert JWT_SECRET not in line


async def test_an_old_schema_is_named(database: Database) -> None:
    """A relay that may not migrate ends with the command to run; a gateway waits, and says it."""
    await database.execute("DROP SCHEMA ayb_realtime CASCADE")
    values = changed(
        changed(values_for(database, f"redis://{NOWHERE}"), "migrations.enabled", value=True),
        "migrations.url", database.dsn,
    )  # fmt: skip
    status, printed = await ended(RELAY, pod_environment(values, RELAY))
    assert status == 1
    [line] = [text for text in printed.splitlines() if not text.startswith("{")]
    assert "the schema ayb_realtime lacks" in line
    assert "python -m relay install" in line


async def readiness(url: str, expected: str) -> str:
    """Wait until `/readyz` is 503 and says this."""
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(30):
        text = ""
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await http.get(f"{url}/readyz")
                text = answer.text
                if answer.status_code == 503 and expected in text:
                    assert (await http.get(f"{url}/healthz")).status_code == 200
                    return text
            await asyncio.sleep(0.1)


async def allow_connections(stack: Stack, *, allowed: bool) -> None:
    """Let the database refuse everybody, or not."""
    async with open_connection(stack.postgres.dsn()) as admin:
        await admin.execute(f"ALTER DATABASE {stack.database.name} ALLOW_CONNECTIONS {allowed}")


@pytest.mark.parametrize("away", ["postgres", "schema"])
async def test_what_is_away_at_the_start_is_waited_for(
    start_stack: StartStack, database: Database, away: str
) -> None:
    """Pods that find no Postgres, or no schema, stay alive, are not ready, and say why in one line;
    they get ready by themselves, and an unreachable Redis alone keeps no pod from being ready.
    """
    values = values_for(database, f"redis://{NOWHERE}")
    stack: Stack = await start_stack(
        relay=pod_environment(values, RELAY), gateway=pod_environment(values, GATEWAY), start=False
    )
    if away == "postgres":
        await allow_connections(stack, allowed=False)
    else:
        await database.execute("DROP SCHEMA ayb_realtime CASCADE")
    try:
        stack.launch("gateway")
        if away == "postgres":
            stack.launch("relay")
            await readiness(stack.url("relay"), "not currently accepting connections")
            await readiness(stack.gateway_url, "database unavailable")
        else:
            await readiness(stack.gateway_url, "python -m relay install")
    finally:
        await allow_connections(stack, allowed=True)
    if away == "schema":
        await database.execute(ROLES_SQL.read_text(encoding="utf-8"))
        stack.launch("relay")
    await stack.ready("relay")
    await stack.ready("gateway")
    async with httpx.AsyncClient(trust_env=False) as http:
        said = (await http.get(f"{stack.url('relay')}/readyz")).text
        assert "\nredis" in said, said
        parts = (await http.get(f"{stack.gateway_url}/readyz")).json()["parts"]
        assert parts["bus"] != "ok", parts
    for name in ("relay", "gateway"):
        assert "Traceback" not in stack.log(name)
