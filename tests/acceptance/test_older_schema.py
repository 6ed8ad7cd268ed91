"""A gateway that is newer than the schema, as when it was upgraded before the relay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.support.stack import Stack

TABLE = """
    CREATE TABLE notes (id int PRIMARY KEY, owner text);
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON notes TO ayb_authenticated;
    CREATE FUNCTION fine(text) RETURNS boolean LANGUAGE plpgsql STABLE
        AS $$ BEGIN EXECUTE 'SELECT 1'; RETURN true; END $$;
    CREATE POLICY p ON notes USING ({policy});
"""
OLDER = """
    ALTER FUNCTION ayb_realtime.{name} RENAME TO judged_formerly;
    UPDATE ayb_realtime.installed_functions SET version = version - 1;
"""
AS_NOW = """
    ALTER FUNCTION ayb_realtime.judged_formerly RENAME TO {name};
    UPDATE ayb_realtime.installed_functions SET version = version + 1;
"""


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("judge_joined", "owner = current_setting('ayb.user_id')"),
        ("judge_opaque", "fine(owner)"),
        ("rules", "owner = current_setting('ayb.user_id')"),
    ],
)
async def test_events_are_held(start_stack: Any, name: str, policy: str) -> None:
    """Nothing is denied, lost or reported as a client's fault: the gateway is not ready and says
    what to do, and goes on once the schema is as new as itself.
    """
    stack: Stack = await start_stack()
    await stack.create(TABLE.replace("{policy}", policy), "notes")
    async with stack.stream("notes", token=stack.token("me")) as client:
        await client.connected()
        await stack.sql("INSERT INTO notes VALUES (1, 'me')")
        assert (await client.next_message()).json()["record"]["id"] == 1
        await stack.sql(OLDER.format(name=name))
        await stack.sql("INSERT INTO notes VALUES (2, 'me')")
        answer = await unready(stack)
        assert "older than this gateway" in answer["parts"]["outbox"]
        assert "upgrade the relay" in answer["parts"]["outbox"]
        await client.silence(0.5)
        assert "older than this gateway" in stack.log("gateway")
        await stack.sql(AS_NOW.format(name=name))
        assert (await client.next_message()).json()["record"]["id"] == 2
        assert {event.type for event in client.events} == {"connected", "message"}
        await stack.ready()


async def unready(stack: Stack) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(10):
        while True:
            response = await http.get(f"{stack.gateway_url}/readyz")
            answer: dict[str, Any] = response.json()
            if response.status_code == 503 and answer["parts"]["outbox"] != "ok":
                return answer
            await asyncio.sleep(0.1)
