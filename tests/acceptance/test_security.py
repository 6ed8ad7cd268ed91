"""What an attacker tries over HTTP, over the bus, and with stolen logins."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import psutil
import pytest
import redis.asyncio as redis

from shared.channels import Channels
from tests.support.bus import history_of
from tests.support.sse_client import SseClient
from tests.support.stack import JWT_SECRET
from tests.support.tokens import as_json, encode, hs256, key_set, rsa_signer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.stack import Stack

ALICE = "00000000-0000-4000-8000-00000000000a"
BOB = "00000000-0000-4000-8000-00000000000b"
NOTES = """
    CREATE TABLE notes (id bigint PRIMARY KEY, author_id text NOT NULL, body text);
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON notes TO ayb_authenticated;
    CREATE POLICY own ON notes USING (author_id = current_setting('ayb.user_id'));
    CREATE TABLE open (id bigint PRIMARY KEY, body text);
    GRANT SELECT ON open TO ayb_authenticated;
"""
PASSWORD = "the-password-of-the-database"
BUS_KEY = "the key that the messages on the bus are signed with"
EXPLAIN_SECRET = "the secret of those who may ask why and why not"


@pytest.fixture
async def stack(start_stack: Any) -> Stack:
    stack: Stack = await start_stack()
    await stack.create(NOTES, "notes", "open")
    return stack


async def get(url: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.get(url, headers=headers)


def has_logged(stack: Stack, name: str, text: str) -> bool:
    return text in stack.log(name)


async def until(holds: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until something holds in another process."""
    async with asyncio.timeout(seconds):
        while True:
            answer = holds()
            if await answer if inspect.isawaitable(answer) else answer:
                return
            await asyncio.sleep(0.05)


def metric(stack: Stack, line: str) -> Callable[[], Any]:
    async def has_it() -> bool:
        return line in (await get(f"{stack.gateway_url}/metrics")).text

    return has_it


async def speak(stack: Stack, *parts: bytes) -> tuple[bytes, bool]:
    """Send bytes as they are; return the response, and whether the connection was closed."""
    port = int(stack.gateway_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer, ended = b"", False
    try:
        async with asyncio.timeout(10):
            for part in parts:
                writer.write(part)
                await writer.drain()
            while piece := await reader.read(65536):
                answer += piece
            ended = True
    except ConnectionError:
        ended = True
    finally:
        writer.transport.abort()
    return answer, ended


async def relid(stack: Stack, table: str) -> int:
    rows = await stack.rows("SELECT $1::regclass::oid::bigint AS relid", table)
    return int(rows[0]["relid"])


class Forger:
    """Writes to the channels as an attacker with access to Redis would."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._client = redis.Redis.from_url(stack.valkey.url)
        self._history = ""

    async def __aenter__(self) -> Forger:
        self._history = await history_of(self._stack.database)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def publish(self, channel: str, message: object) -> None:
        """Publish a message; a list gets the history that it lacks, after the format."""
        if isinstance(message, list):
            message = [*message[:1], self._history, *message[1:]]
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        await self._client.publish(f"{Channels.of(self._history).prefix}:{channel}", data)

    async def next_batch(self) -> int:
        rows = await self._stack.rows("SELECT max(id) AS last FROM ayb_realtime.batches")
        return int(rows[0]["last"] or 0) + 1

    async def announce(self, table: str, relid: int, batch: int, *changes: object) -> None:
        """Publish a whole batch with invented changes of one table."""
        content = [f"public.{table}", relid, ["id"], list(changes)]
        await self.publish(f"table:public.{table}", [1, 1, batch, content])
        tick = [1, 1, batch, 0, time.time(), [[f"public.{table}", relid, len(changes)]]]
        await self.publish("tick", tick)


HUGE = 10**30
BAD_TICKS: list[object] = [
    b"", b"\xff\xfe", b"null", b"[" * 50_000, b'["' + b"x" * 1_000_000 + b'"]',
    [1], [2, 1, 1, 0, 1.0, []], [1, 1, 1, 0, "now", []], [1, 1, HUGE, 0, 1.0, []],
    [1, 1, -5, 0, 1.0, []], [1, HUGE, 1, 0, 1.0, []], [1, 1, 1, HUGE, 1.0, []],
    b'["\xff",1,1,0,1.0,[]]', b'[1,1,1,0,1.0,[["\xff",1,1]]]',
    [1, 1, 1, 0, 1.0, [["public.notes", HUGE, 1]]], [1, 1, 1, 0, 1.0, [["public.notes", -1, 1]]],
]  # fmt: skip
BAD_CONTENTS: list[object] = [
    b"\xff", b"{}", [1], [2, 1, 1, ["public.notes", 1, [], []]],
    [1, 1, 1, ["public.open", 1, [], []]],  # on another's channel
    [1, 1, 1, ["public.notes", 1, [], [[0, 1, "X"]]]],
    [1, 1, 1, ["public.notes", 1, [], [[0, HUGE, "I", {}]]]],
    [1, 1, 1, ["public.notes", 1, [], [[-1, 1, "I", {}]]]],
    [1, 1, HUGE, ["public.notes", 1, [], []]],
    b'[1,1,1,["public.notes",1,[],[[0,1,"I",{"id":1,"body":"\xff"}]]]]',
]  # fmt: skip


async def test_malformed_messages_are_dropped_and_counted(stack: Stack) -> None:
    """Anything that is not a message of ours is counted and dropped; the stream continues."""
    async with (
        Forger(stack) as forger,
        stack.stream("notes", token=stack.token(ALICE)) as client,
    ):
        await client.connected()
        for tick in BAD_TICKS:
            await forger.publish("tick", tick)
        for content in BAD_CONTENTS:
            await forger.publish("table:public.notes", content)
        await stack.sql("INSERT INTO notes VALUES (1, $1, 'real')", ALICE)
        assert (await client.next_message()).json()["record"]["body"] == "real"
    expected = f"ayb_bus_messages_dropped_total {len(BAD_TICKS) + len(BAD_CONTENTS)}.0"
    assert expected in (await get(f"{stack.gateway_url}/metrics")).text
    assert (await get(f"{stack.gateway_url}/readyz")).status_code == 200


def forged_changes(row: dict[str, Any]) -> list[list[object]]:
    """Changes in well-formed messages that no relay would ever send."""
    return [
        [0, 1, "I", [1, 2]],
        [0, 1, "I", "text"],
        [0, 1, "U", None, row],
        [0, 1, "D", row, None],
        [0, 1, "I", {**row, "id": "no number"}],
        [0, 1, "I", {**row, "id": HUGE}],
        [0, 1, "I", {**row, "body": "\x00"}],
        [0, 1, "I", {**row, "body": "\ud800"}],
        [0, 1, "I", {**row, "body": nested(300)}],
        [0, 1, "I", {**row, "other": 1}],
        [0, 1, "I", {}],
        [0, 2**62, "I", row, None, True],
        [0, 1, "U", row, [3]],
        [0, 1, "T"],
        [0, 1, "I", row, None, False, True],
    ]


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("deletes", ["all", "visible"])
async def test_forged_rows_do_no_harm(start_stack: Any, deletes: str) -> None:
    """Rows that no relay would send stop nothing, and show no one what a policy hides."""
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_DELETES": deletes})
    await stack.create(NOTES, "notes", "open")
    notes = await relid(stack, "notes")
    secret = {"id": 66, "author_id": BOB, "body": "for bob's eyes only"}
    async with (
        Forger(stack) as forger,
        stack.stream("notes,open", token=stack.token(ALICE), leave="true") as alice,
    ):
        await alice.connected()
        batch = await forger.next_batch()
        for change in forged_changes(secret):
            for table in (notes, 4_000_000_000, 1259):
                await forger.announce("notes", table, batch, change)
                batch += 1
        overtaken = 0
        while await forger.next_batch() <= batch:  # the forged numbers are used up
            overtaken += 1
            await stack.sql("INSERT INTO open VALUES ($1)", overtaken)
        await stack.sql("INSERT INTO notes VALUES (1, $1, 'real')", ALICE)
        while (await alice.next_message()).json()["record"].get("body") != "real":
            pass
        assert b"eyes only" not in alice.raw
    assert stack.child("gateway").is_running
    assert (await get(f"{stack.gateway_url}/readyz")).status_code == 200


async def test_a_forged_message_asks_nothing_about_a_hidden_row(stack: Stack) -> None:
    """A message that names another table's change is not judged with that change's real row."""
    await stack.create(
        """
        CREATE TABLE guesses (id bigint PRIMARY KEY, body text);
        ALTER TABLE guesses ENABLE ROW LEVEL SECURITY;
        CREATE POLICY guess ON guesses USING (body LIKE 'k%');
        GRANT SELECT ON guesses TO ayb_authenticated;
        """,
        "guesses",
    )
    guesses = await relid(stack, "guesses")
    async with (
        Forger(stack) as forger,
        stack.stream("guesses", token=stack.token(ALICE)) as alice,
    ):
        await alice.connected()
        await stack.sql("INSERT INTO notes VALUES (1, $1, 'known to bob alone')", BOB)
        rows = await stack.rows("SELECT max(seq) AS seq FROM ayb_realtime.changes")
        batch = await forger.next_batch()
        await forger.announce(
            "guesses", guesses, batch, [0, rows[0]["seq"], "I", {"id": 1}, None, True]
        )
        overtaken = 1
        while await forger.next_batch() <= batch:  # the forged number is used up
            overtaken += 1
            await stack.sql("INSERT INTO notes VALUES ($1, $2, '')", overtaken, BOB)
        await stack.sql("INSERT INTO guesses VALUES (7, 'k')")
        shown = []
        while shown[-1:] != [7]:
            shown.append((await alice.next_message()).json()["record"]["id"])
        assert shown == [7]


# -- tokens ------------------------------------------------------------------------------------


async def test_no_forged_token_opens_a_stream(start_stack: Any, tmp_path: Path) -> None:
    """Each forged token gets the same 401, in the header and in the query (CASE 27)."""
    signer = rsa_signer("first")
    public = tmp_path / "keys.json"
    public.write_bytes(key_set(signer))
    stack: Stack = await start_stack(gateway={"AYB_AUTH_JWKS_FILE": str(public)})
    await stack.create(NOTES, "notes", "open")
    now = int(time.time())
    claims = {"sub": ALICE, "exp": now + 600}
    good = stack.token(ALICE)
    head, payload, signature = good.split(".")
    n = public.read_bytes()
    pem = signer.public_pem()
    forged = {
        "not a token": "x",
        "no signature": f"{head}.{payload}.",
        "alg none": f"{encode(as_json({'alg': 'none'}))}.{payload}.",
        "another secret": hs256(claims, secret="another secret of at least 32 characters"),
        "public key as secret": hs256(claims, secret=pem, header={"alg": "HS256", "kid": "first"}),
        "key set as secret": hs256(claims, secret=n, header={"alg": "HS256", "kid": "first"}),
        "another's payload": f"{head}.{encode(as_json({**claims, 'sub': BOB}))}.{signature}",
        "no exp": signer.sign({"sub": ALICE}),
        "expired": signer.sign({**claims, "exp": now - 1}),
        "not yet": signer.sign({**claims, "nbf": now + 600}),
        "no sub type": signer.sign({**claims, "sub": [5]}),
        "20 kB": signer.sign({**claims, "more": "x" * 20_000}),
        "unknown key": rsa_signer("second").sign(claims),
    }
    url = f"{stack.gateway_url}/api/realtime"
    for what, token in forged.items():
        for answer in (
            await get(f"{url}?tables=notes", Authorization=f"Bearer {token}"),
            await get(f"{url}?tables=notes&token={token}"),
        ):
            assert answer.status_code == 401, what
            assert answer.json() == {"code": 401, "message": "invalid or expired token"}, what
    for token in (good, signer.sign(claims)):
        async with stack.stream("notes", token=token) as client:
            await client.connected()


async def test_the_header_wins(stack: Stack) -> None:
    """A token in the header counts; a bad one there is not replaced by a good one in the query."""
    url = f"{stack.gateway_url}/api/realtime"
    good = stack.token(ALICE)
    bad = await get(f"{url}?tables=notes&token={good}", Authorization="Bearer x")
    assert bad.status_code == 401
    alice = stack.stream("notes", token=good)
    alice.url += f"&token={stack.token(BOB)}"
    async with alice:
        await alice.connected()
        await stack.sql("INSERT INTO notes VALUES (2, $1, 'bobs'), (3, $2, 'mine')", BOB, ALICE)
        assert (await alice.next_message()).json()["record"]["id"] == 3


async def test_only_listed_roles(start_stack: Any) -> None:
    """The role claim may name a listed role, and never one that bypasses Row-Level Security."""
    roles = """
        CREATE ROLE listed_{n} NOLOGIN; CREATE ROLE mighty_{n} NOLOGIN BYPASSRLS;
        CREATE ROLE strange_{n} NOLOGIN;
        GRANT listed_{n}, mighty_{n} TO ayb_gateway;
        GRANT SELECT ON open TO listed_{n}, mighty_{n}, strange_{n};
    """
    n = time.time_ns()
    stack: Stack = await start_stack(
        gateway={
            "AYB_AUTH_ROLE_CLAIM": "role",
            "AYB_AUTH_ROLES": f"listed_{n},mighty_{n},strange_{n},nobody_{n}",
        },
        start=False,
    )
    await stack.start("relay")
    await stack.create(NOTES, "notes", "open")
    await stack.sql(roles.format(n=n))
    await stack.start("gateway")
    try:
        url = f"{stack.gateway_url}/api/realtime?tables=open"
        for role in ("mighty", "strange", "nobody"):
            token = stack.token(ALICE, role=f"{role}_{n}")
            assert (await get(url, Authorization=f"Bearer {token}")).status_code == 503, role
        said = (await get(f"{stack.gateway_url}/readyz")).json()
        assert said["status"] == "ready", "only those whose tokens name them are concerned"
        for role in ("mighty", "strange", "nobody"):
            assert f"{role}_{n}" in said["parts"]["other roles"]
        for wrong in ("postgres", "ayb_relay", "ayb_gateway", "", 5, None):
            token = stack.token(ALICE, role=wrong)
            assert (await get(url, Authorization=f"Bearer {token}")).status_code == 401, role
        async with stack.stream("open", token=stack.token(ALICE, role=f"listed_{n}")) as client:
            await client.connected()
            await stack.sql("INSERT INTO open VALUES (1)")
            assert (await client.next_message()).json()["record"]["id"] == 1
            denied = await get(
                f"{stack.gateway_url}/api/realtime?tables=notes",
                Authorization=f"Bearer {stack.token(ALICE, role=f'listed_{n}')}",
            )
            assert denied.status_code == 403
    finally:
        await stack.stop("gateway")
        await stack.sql(
            f"DROP OWNED BY listed_{n}, mighty_{n}, strange_{n};"
            f"DROP ROLE listed_{n}, mighty_{n}, strange_{n}"
        )


# -- secrets -----------------------------------------------------------------------------------


async def test_no_secret_is_told(start_stack: Any, database: Any, own_valkey: Any) -> None:
    """Tokens, keys and passwords never appear in a log, metric, error or process list."""

    def with_password(dsn: str) -> str:
        user, rest = dsn.split("@", 1)
        return f"{user}:{PASSWORD}@{rest}"

    stack: Stack = await start_stack(
        relay={
            "AYB_DATABASE_URL": with_password(database.relay_dsn),
            "AYB_REALTIME_BUS_KEY": BUS_KEY,
        },
        gateway={
            "AYB_DATABASE_URL": with_password(database.gateway_dsn),
            "AYB_READ_DATABASE_URL": with_password(database.gateway_dsn),
            "AYB_REALTIME_BUS_KEY": BUS_KEY,
            "AYB_EXPLAIN_SECRET": EXPLAIN_SECRET,
        },
    )
    await stack.create(NOTES, "notes", "open")
    # One more that reaches nothing: a server that is not there, a password that is not asked for.
    stack.prepare_gateway(
        "lost",
        AYB_READ_DATABASE_URL=f"postgresql://ayb_gateway:{PASSWORD}@127.0.0.1:1/none",
        AYB_REDIS_URL=own_valkey.url.replace("redis://", f"redis://nobody:{PASSWORD}@"),
    )
    stack.launch("lost")
    await until(lambda: "Uvicorn running" in stack.log("lost"))
    token = stack.token(ALICE, email="alice@example.com")
    lapsed = stack.token(ALICE, exp=1)
    answers: list[str] = []
    for url in (stack.gateway_url, stack.url("lost")):
        for query in (
            f"tables=notes&token={lapsed}", f"tables=nothing&token={token}",
            f"tables={token}&token={token}", f"token={token}", f"tables=notes&token={token}x",
        ):  # fmt: skip
            answers.append((await get(f"{url}/api/realtime?{query}")).text.replace(token, "", 1))
        answers.append((await get(f"{url}/{token}?token={token}")).text)
        answers.append((await get(f"{url}/metrics")).text)
        answers.append((await get(f"{url}/readyz")).text)
    async with SseClient(stack.gateway_url, tables="notes", token=token) as client:
        await client.connected()
        await stack.sql("INSERT INTO notes VALUES (1, $1, 'what alice wrote')", ALICE)
        await client.next_message()
    async with SseClient(
        stack.gateway_url, tables="notes", lastEventId=token, leave=token, x=token,
        headers={"Authorization": f"Bearer {token}", "Origin": token, "X-Forwarded-For": token},
    ) as client:  # fmt: skip
        await client.connected()
    answers.append((await get(f"{stack.url('relay')}/metrics")).text)
    for text in ("waiting for the outbox", "redis unavailable"):
        await until(partial(has_logged, stack, "lost", text))
    await stack.stop("lost")
    processes = [
        " ".join(process.cmdline()) for name in ("relay", "gateway")
        for process in (psutil.Process(stack.child(name).pid),)
    ]  # fmt: skip
    logs = [stack.log(name) for name in ("relay", "gateway", "lost")]
    for secret in (
        token, lapsed, token.split(".")[2], lapsed.split(".")[2], PASSWORD, BUS_KEY,
        EXPLAIN_SECRET, JWT_SECRET,
    ):  # fmt: skip
        for text in (*answers, *processes, *logs):
            assert secret not in text
    for text in (*logs, *answers):
        assert "what alice wrote" not in text
        assert "alice@example.com" not in text


# -- requests ----------------------------------------------------------------------------------


async def test_oversized_requests(stack: Stack) -> None:
    """Too many tables, a list or query that is too long, an endless head: refused, never stored."""
    token = stack.token(ALICE)
    url = f"{stack.gateway_url}/api/realtime?token={token}&tables="
    for tables in (
        ",".join(f"t{n}" for n in range(101)), "x" * 9_000, "," * 9_000, "x" * 60_000,
        "notes&" + "&".join(f"a{n}=1" for n in range(200)),
    ):  # fmt: skip
        answer = await get(url + tables)
        assert (answer.status_code, answer.json()["message"]) == (414, "request too long")
    async with stack.stream(",".join(["notes"] * 1_000), token=token) as client:
        await client.connected()  # one table, whatever it takes to say it
    before = psutil.Process(stack.child("gateway").pid).memory_info().rss
    start = b"GET /api/realtime?tables=notes HTTP/1.1\r\nHost: x\r\n"
    for parts in (
        [start + b"X-A: ", *[b"a" * 1_000_000] * 50],
        [start, *[b"X-A: " + b"a" * 1_000 + b"\r\n"] * 50_000],
        [b"GET /" + b"a" * 1_000_000, *[b"a" * 1_000_000] * 50],
    ):
        raw, ended = await speak(stack, *parts)
        assert ended
        assert not raw or raw.startswith(b"HTTP/1.1 431 ")
    assert psutil.Process(stack.child("gateway").pid).memory_info().rss - before < 20 * 2**20


async def test_bodies_are_bounded(start_stack: Any) -> None:
    """A body of any length is refused without reading it all: 401 without the secret, else 413."""
    stack: Stack = await start_stack(gateway={"AYB_EXPLAIN_SECRET": EXPLAIN_SECRET})
    before = psutil.Process(stack.child("gateway").pid).memory_info().rss
    head = (
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "Authorization: Bearer {secret}\r\nConnection: close\r\nContent-Length: 60000001\r\n\r\n["
    )
    for path, secret, status in (
        ("/api/admin/explain", "x", 401), ("/api/admin/explain", EXPLAIN_SECRET, 413),
        ("/api/auth/login", "x", 413), ("/api/auth/refresh", "x", 413),
    ):  # fmt: skip
        body = [b"1," * 500_000] * 60
        answer, ended = await speak(stack, head.format(path=path, secret=secret).encode(), *body)
        assert ended
        assert not answer or answer.startswith(b"HTTP/1.1 %d " % status)
    assert psutil.Process(stack.child("gateway").pid).memory_info().rss - before < 20 * 2**20
    assert (await get(f"{stack.gateway_url}/readyz")).status_code == 200


async def test_a_request_behind_a_stream_ends_it(stack: Stack) -> None:
    """A second request on the socket of a stream ends it, and leaves nothing behind."""
    request = (
        b"GET /api/realtime?tables=notes HTTP/1.1\r\nHost: x\r\n"
        b"Authorization: Bearer " + stack.token(ALICE).encode() + b"\r\n\r\n"
    )
    for parts in ([request, request], [request * 3], [request, request[:-2], b"\r\n"]):
        _, ended = await speak(stack, *parts)
        assert ended
    await until(metric(stack, "ayb_streams_open 0.0"))


async def test_nothing_can_be_injected(stack: Stack) -> None:
    """Line breaks in names, origins and positions create no header, field or event."""
    name = "a\r\nid: 5\r\ndata: {}\n\nb"
    await stack.create(
        f'CREATE TABLE "{name}" ("id\n\ndata: x" int PRIMARY KEY);'
        f'GRANT SELECT ON "{name}" TO ayb_authenticated;',
        f'"{name}"',
    )
    token = stack.token(ALICE)
    answer = await get(
        f"{stack.gateway_url}/api/realtime?token={token}&tables=x%0d%0aX-Evil:%201%0d%0a%0d%0ay"
    )
    assert answer.status_code == 400
    assert answer.json()["message"] == "unknown table: x\r\nX-Evil: 1\r\n\r\ny"
    assert "x-evil" not in answer.headers
    async with stack.stream(
        f'"{name}"', token=token, last_event_id="1", lastEventId="1\r\nevent: x\r\n\r\n"
    ) as client:
        await client.connected()
        assert (await client.next()).json() == {"reason": "expired", "tables": [name]}
        await stack.sql(f'INSERT INTO "{name}" VALUES (7)')
        await stack.sql(f'TRUNCATE "{name}"')
        message = await client.next()
        assert (message.type, message.json()) == (
            "message", {"action": "create", "table": name, "record": {"id\n\ndata: x": 7}},
        )  # fmt: skip
        truncate = await client.next()
        assert (truncate.type, truncate.json()) == ("truncate", {"table": name})
        assert message.id != "5"


# -- the login ---------------------------------------------------------------------------------


async def test_the_gateways_login_can_do_nothing_else(stack: Stack) -> None:
    """With the gateway's password one can read the outbox and act as a user, and nothing else."""
    database = stack.database
    await stack.add_user("user@example.com", "password")
    await stack.sql("REVOKE SELECT ON _ayb_users FROM ayb_gateway")
    await stack.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as Postgres 15 and later do
    refused = """
        TABLE _ayb_users; TABLE notes; INSERT INTO notes VALUES (1, 'x', 'y');
        CREATE TABLE mine (); CREATE SCHEMA mine; CREATE ROLE mine;
        CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1';
        ALTER TABLE notes DISABLE ROW LEVEL SECURITY; DROP POLICY own ON notes;
        DROP TRIGGER "!ayb_realtime_row_" ON notes; TRUNCATE notes;
        SET ROLE postgres; SET ROLE ayb_relay; SET SESSION AUTHORIZATION postgres;
        GRANT ayb_relay TO ayb_gateway; ALTER ROLE ayb_gateway SUPERUSER;
        COPY (SELECT 1) TO PROGRAM 'true'; COPY (SELECT 1) TO '/tmp/x';
        SELECT pg_read_file('/etc/passwd'); SELECT lo_import('/etc/passwd');
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres';
        TABLE pg_authid; ALTER SYSTEM SET log_statement = 'all'; SELECT pg_reload_conf();
        DELETE FROM ayb_realtime.changes; UPDATE ayb_realtime.batches SET lsn = '0/0';
        INSERT INTO ayb_realtime.epochs SELECT * FROM ayb_realtime.epochs;
        DROP TABLE ayb_realtime.changes; CREATE TABLE ayb_realtime.mine ();
        CREATE FUNCTION ayb_realtime.mine() RETURNS int LANGUAGE sql AS 'SELECT 1';
        SELECT setval('ayb_realtime.change_seq', 1); SELECT nextval('ayb_realtime.change_seq');
        CREATE PUBLICATION mine; CREATE SUBSCRIPTION mine CONNECTION 'x' PUBLICATION mine;
        CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION ayb_realtime.capture_row()
    """
    async with database.connect(database.gateway_dsn) as gateway:
        for statement in refused.split(";"):
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.PostgresError)) as one:
                await gateway.execute(statement)
            assert one.value.sqlstate in ("42501", "42704"), (statement, one.value)
        definers = await gateway.fetch("""
            SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n
                ON n.oid = p.pronamespace
            WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND p.prosecdef
                AND has_function_privilege(p.oid, 'EXECUTE')
        """)
        assert definers == []
        writable = await gateway.fetch("""
            SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n
                ON n.oid = c.relnamespace
            WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
                AND c.relkind IN ('r', 'p', 'v', 'm')
                AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
        """)
        assert writable == []
        await gateway.execute("SET ROLE ayb_authenticated")
        assert await gateway.fetch("SELECT * FROM open") == []
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await gateway.fetch("TABLE ayb_realtime.changes")
