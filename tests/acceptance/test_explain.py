from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import httpx

from tests.support.stack import JWT_SECRET, PROJECT

if TYPE_CHECKING:
    from tests.support.stack import Stack

SECRET = "the secret of an administrator, long enough"
ALICE = "00000000-0000-4000-8000-00000000000a"
BOB = "00000000-0000-4000-8000-00000000000b"
NOTES = """
    CREATE TABLE notes (id bigint PRIMARY KEY, author_id uuid NOT NULL, body text, salary int);
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    GRANT SELECT (id, author_id, body) ON notes TO ayb_authenticated;
    CREATE POLICY own ON notes FOR SELECT TO ayb_authenticated
        USING (author_id = current_setting('ayb.user_id')::uuid);
"""


async def ask(stack: Stack, secret: str | None, **asked: Any) -> httpx.Response:
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as http:
        return await http.post(f"{stack.gateway_url}/api/admin/explain", json=asked)


async def test_an_administrator_sees_why_a_client_misses_an_event(start_stack: Any) -> None:
    """Over HTTP: captured, role, hidden columns, each policy's verdict and the position."""
    stack = await start_stack(gateway={"AYB_EXPLAIN_SECRET": SECRET})
    await stack.create(NOTES, "notes")
    async with stack.stream("notes", token=stack.token(ALICE)) as alice:
        await stack.sql(f"INSERT INTO notes VALUES (42, '{ALICE}', 'x', 1)")
        seen = await alice.next_message()
    for user, expected in ((ALICE, True), (BOB, False)):
        answer = await ask(stack, SECRET, table="notes", key=["42"], token=stack.token(user))
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert said["table"] == "public.notes"
        assert said["role"] == "ayb_authenticated"
        assert said["hidden"] == ["salary"]
        assert said["is_shown_now"] is expected
        (change,) = said["changes"]
        assert change["action"] == "create"
        assert change["is_visible"] is expected
        assert change["position"] == seen.id
        assert [(p["name"], p["verdict"]) for p in change["policies"]] == [("own", expected)]


async def test_the_administrators_question_needs_the_secret(start_stack: Any) -> None:
    """401 without the secret, 400 for an unknown table, and 404 if no secret is configured."""
    stack = await start_stack(gateway={"AYB_EXPLAIN_SECRET": SECRET})
    await stack.create(NOTES, "notes")
    token = stack.token(ALICE)
    asked = {"table": "notes", "key": ["1"], "token": token}
    assert (await ask(stack, None, **asked)).status_code == 401
    assert (await ask(stack, token, **asked)).status_code == 401
    assert (await ask(stack, SECRET, **{**asked, "table": "nothing"})).status_code == 400
    assert (await ask(stack, SECRET, **{**asked, "token": "x"})).status_code == 401
    await stack.stop("gateway")
    stack.set("gateway", AYB_EXPLAIN_SECRET="")
    del stack._environments["gateway"]["AYB_EXPLAIN_SECRET"]
    await stack.start("gateway")
    assert (await ask(stack, SECRET, **asked)).status_code == 404


async def test_the_command_says_it_in_words(start_stack: Any) -> None:
    """`python -m gateway explain` prints each policy's verdict; a mistake is one line."""
    stack = await start_stack()
    await stack.create(NOTES, "notes")
    await stack.sql(f"INSERT INTO notes VALUES (42, '{ALICE}', 'x', 1)")
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("AYB_")},
        "AYB_READ_DATABASE_URL": stack.database.gateway_dsn,
        "AYB_REDIS_URL": stack.valkey.url,
        "AYB_AUTH_JWT_SECRET": JWT_SECRET,
        "AYB_EXPLAIN_TOKEN": stack.token(BOB),
    }

    async def command(*arguments: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "explain", *arguments,
            cwd=PROJECT, env=environment, stdout=-1, stderr=-1,
        )  # fmt: skip
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    status, out, _ = await command("--table", "notes", "--key", "42")
    assert status == 0
    assert "own" in out
    assert "salary" in out
    status, out, err = await command("--table", "nothing", "--key", "42")
    assert (status, out, err.count("\n")) == (1, "", 1)
