"""`python -m gateway smoke` names what an installation lacks, in one line."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from tests.support.stack import JWT_SECRET, PROJECT

if TYPE_CHECKING:
    from tests.support.stack import Stack

NOTES = """
CREATE TABLE notes (id int PRIMARY KEY, at timestamptz);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON notes TO ayb_authenticated;
CREATE POLICY anyone ON notes USING (current_setting('ayb.tenant_id', true) = 'one');
INSERT INTO notes VALUES (1);
"""
CHANGE = "--sql=UPDATE notes SET at = now() WHERE id = 1"
TENANT = '--claims={"tenantId": "one"}'


async def smoke(stack: Stack, *arguments: str, **environment: str) -> tuple[int, list[str], str]:
    """Run the command; return its status, its lines, and its error."""
    given = {
        "AYB_AUTH_JWT_SECRET": JWT_SECRET,
        "AYB_SMOKE_DATABASE_URL": stack.database.dsn,
        **environment,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "smoke", f"--url={stack.gateway_url}", *arguments,
        env={name: value for name, value in given.items() if value}, cwd=PROJECT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    assert len(err.decode().splitlines()) <= 1, err.decode()
    return process.returncode, out.decode().splitlines(), err.decode()


async def test_smoke(stack: Stack) -> None:
    """What works is a line each; the first thing that does not is named, and ends it with 1."""
    await stack.create(NOTES, "notes")
    ready = [f"--ready={stack.gateway_url}/readyz", f"--ready={stack.url('relay')}/readyz"]
    status, lines, _ = await smoke(stack, *ready, "--table=notes", CHANGE, TENANT)
    assert status == 0
    assert [line.partition(" after ")[0] for line in lines] == [
        f"ready: {stack.gateway_url}/readyz",
        f"ready: {stack.url('relay')}/readyz",
        "connected to notes",
        "received",
        "all is well",
    ]
    cases: list[tuple[list[str], dict[str, str], str]] = [
        (["--ready=http://127.0.0.1:1/readyz"], {}, "http://127.0.0.1:1/readyz does not answer"),
        ([f"--ready={stack.gateway_url}/nothing"], {}, "/nothing answers 404"),
        (["--table=nothing"], {}, "the stream was refused with 400"),
        (["--table=notes"], {"AYB_AUTH_JWT_SECRET": "x" * 32}, "the stream was refused with 401"),
        (["--table=notes"], {"AYB_SMOKE_TOKEN": "no token"}, "the stream was refused with 401"),
        (["--table=notes", CHANGE], {"AYB_SMOKE_DATABASE_URL": ""}, "needs AYB_SMOKE_DATABASE_URL"),
        (["--table=notes", "--sql=UPDATE nothing"], {}, "the SQL failed: syntax error"),
        (
            ["--table=notes", CHANGE],
            {"AYB_SMOKE_DATABASE_URL": "postgresql://postgres@127.0.0.1:1/app"},
            "database unavailable",
        ),
        (["--table=notes", CHANGE, "--seconds=1.5"], {}, "a change of notes did not arrive"),
    ]
    ended = await asyncio.gather(
        *(smoke(stack, *arguments, **environment) for arguments, environment, _ in cases)
    )
    for (status, _, error), (_, _, expected) in zip(ended, cases, strict=True):
        assert (status, expected in error) == (1, True), error
        assert JWT_SECRET not in error
