"""Does an installation stream: `python -m gateway smoke --url http://localhost:8090 ...`.

It is what `helm test` runs, in the image and with no right of its own: it asks for readiness, signs
a token of a user who does not exist, opens a stream with it, and, where it is given SQL, changes a
row and waits until the change arrives. Each step is one line; the first that fails is the last, and
names what was expected.

Secrets come from the environment: AYB_AUTH_JWT_SECRET signs the token (or AYB_SMOKE_TOKEN is one),
and AYB_SMOKE_DATABASE_URL is the login that runs the SQL, with its password in
AYB_SMOKE_DATABASE_PASSWORD_FILE if it is not in the URL.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
from jose import jwt

from gateway.diagnostics.frames import Frame, frames
from shared.errors import DatabaseUnavailableError, OperatorError, first_error
from shared.postgres import DatabaseAddress, connect, unavailable_as_ours

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

_TOKEN_SECONDS = 300


class SmokeError(OperatorError):
    """The installation does not do what it should."""


@dataclass(frozen=True, slots=True)
class SmokeTest:
    """What to try: with no table no stream is opened, with no SQL no event is awaited."""

    url: str
    ready: tuple[str, ...] = ()
    table: str | None = None
    sql: str | None = None
    token: str | None = None
    database: DatabaseAddress | None = None
    seconds: float = 30.0
    """How long each step may take."""


async def smoke(test: SmokeTest, say: Callable[[str], object]) -> None:
    """Run every step. Raises `SmokeError` with what was expected, `DatabaseUnavailableError`."""
    async with httpx.AsyncClient(trust_env=False, timeout=test.seconds) as http:
        for url in test.ready:
            await _expect_ok(http, url)
            say(f"ready: {url}")
        if test.table is None:
            return
        try:
            async with asyncio.timeout(test.seconds):
                await _stream(http, test, say)
        except TimeoutError:
            awaited = "a change" if test.sql else "a connection"
            raise SmokeError(
                f"{awaited} of {test.table} did not arrive within {test.seconds:g} s: see "
                "`python -m relay doctor`"
            ) from None
        except httpx.HTTPError as error:
            raise SmokeError(f"{test.url} broke off: {error!r}") from None


async def _expect_ok(http: httpx.AsyncClient, url: str) -> None:
    try:
        answer = await http.get(url)
    except httpx.HTTPError as error:
        raise SmokeError(f"{url} does not answer: {error!r}") from None
    if answer.status_code != httpx.codes.OK:
        raise SmokeError(f"{url} answers {answer.status_code}: {' '.join(answer.text.split())}")


async def _stream(http: httpx.AsyncClient, test: SmokeTest, say: Callable[[str], object]) -> None:
    headers = {"Authorization": f"Bearer {test.token}"} if test.token else {}
    async with http.stream(
        "GET", f"{test.url}/api/realtime", params={"tables": test.table}, headers=headers
    ) as answer:
        if answer.status_code != httpx.codes.OK:
            text = (await answer.aread()).decode(errors="replace")
            raise SmokeError(f"the stream was refused with {answer.status_code}: {text.strip()}")
        arriving = frames(answer.aiter_lines())
        await _expect_frame(arriving, "connected")
        say(f"connected to {test.table}")
        if test.sql is not None:
            began = time.monotonic()
            await _change(test.database, test.sql)
            change = await _expect_frame(arriving, None)
            say(f"received after {time.monotonic() - began:.3f} s: {_summary(change)}")


async def _expect_frame(arriving: AsyncIterator[Frame], event: str | None) -> Frame:
    """Read on until a frame of this name; None is a change. Heartbeats may come between."""
    async for frame in arriving:
        if frame.event == event:
            return frame
        if frame.event in ("busy", "error", "closing", "resync"):
            raise SmokeError(f"the stream said {frame.event}: {frame.data}")
    raise SmokeError(f"the stream ended before {event or 'a change'} arrived")


async def _change(database: DatabaseAddress | None, sql: str) -> None:
    if database is None:
        raise SmokeError("--sql needs AYB_SMOKE_DATABASE_URL: a login that may run it")
    connection = await connect(database, application_name="ayb-gateway smoke")
    try:
        with unavailable_as_ours():
            await connection.execute(sql)
    except asyncpg.PostgresError as error:
        # Without the details, which may hold values of rows.
        raise SmokeError(f"the SQL failed: {error.args[0]}") from None
    finally:
        connection.terminate()


def _summary(change: Frame) -> str:
    """Return what changed, without the values of the row."""
    data = json.loads(change.data)
    return f"{data['action']} of {data['table']}"


def signed_token(
    secret: str, claims: Mapping[str, Any], *, issuer: str | None, audience: str | None
) -> str:
    """Sign a token of a new user, valid for five minutes; `claims` are added to it."""
    common = {"iss": issuer, "aud": audience}
    return jwt.encode(
        {
            "sub": str(uuid.uuid4()),
            "exp": int(time.time()) + _TOKEN_SECONDS,
            **{name: value for name, value in common.items() if value},
            **claims,
        },
        secret,
        algorithm="HS256",
    )


def smoke_main(arguments: Sequence[str]) -> int:
    """Run the command with what follows `smoke`; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gateway smoke", description=__doc__)
    parser.add_argument("--url", required=True, help="where clients reach the gateways")
    parser.add_argument("--ready", action="append", default=[],
                        help="a URL that must answer 200; may be repeated")  # fmt: skip
    parser.add_argument("--table", help="a table to stream")
    parser.add_argument("--sql", help="a statement that changes a row of it")
    parser.add_argument("--claims", type=json.loads, default={},
                        help="further claims of the token, as JSON")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=30.0,
                        help="how long each step may take")  # fmt: skip
    asked = parser.parse_args(arguments)
    found = os.environ.get
    token = found("AYB_SMOKE_TOKEN")
    if token is None and (secret := found("AYB_AUTH_JWT_SECRET")):
        token = signed_token(
            secret, asked.claims,
            issuer=found("AYB_AUTH_JWT_ISSUER"), audience=found("AYB_AUTH_JWT_AUDIENCE"),
        )  # fmt: skip
    test = SmokeTest(
        asked.url.rstrip("/"), tuple(asked.ready), asked.table, asked.sql, token,
        _writer(found("AYB_SMOKE_DATABASE_URL"), found("AYB_SMOKE_DATABASE_PASSWORD_FILE")),
        asked.seconds,
    )  # fmt: skip
    status = 0
    try:
        asyncio.run(smoke(test, print))
        print("all is well")
    except* (OperatorError, DatabaseUnavailableError) as group:
        print(f"smoke: {first_error(group)}", file=sys.stderr)
        status = 1
    return status


def _writer(url: str | None, password_file: str | None) -> DatabaseAddress | None:
    if not url:
        return None
    return DatabaseAddress(url, Path(password_file) if password_file else None)
