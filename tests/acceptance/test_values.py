"""Names, values, sizes and shapes of tables, from SQL to the bytes on a client's socket."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.integration.relay.test_capture import EXPECTED, INSERT_VALUES, VALUES

if TYPE_CHECKING:
    from tests.support.sse_client import SseClient
    from tests.support.stack import Stack

EVERY_FRAME = f'data: {{"action":"create","table":"every","record":{EXPECTED}}}\n\n'.encode()
RESTRICTED = """
    ALTER TABLE every ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON every TO ayb_authenticated;
    CREATE POLICY shown ON every FOR SELECT TO ayb_authenticated USING (
        big = 9007199254740993 AND nan = 'NaN' AND minus < 0 AND bytes = '\\x00ff' AND doubled = 2
        AND at < '2026-02-07 20:00:01+00' AND round = domain_at AND clock > '12:00'
        AND num = 0.1234567890123456789012345 AND feeling = 'so so' AND 2 <@ range
        AND list[3] = 'q"q' AND docb ->> 'x' = '1.0' AND addr << '0.0.0.0/0'
        AND span > '1 year'
    );
"""


async def tell(client: SseClient, count: int, seconds: float = 10.0) -> list[tuple[Any, ...]]:
    """Read messages as action, table and the record's JSON text."""
    told = []
    for message in await client.take(count, seconds):
        action, table, record = message.json().values()
        text = message.data.split('"record":', 1)[1][:-1]
        assert json.loads(text) == record
        told.append((action, table, text))
    return told


async def grant_all(stack: Stack, sql: str, *tables: str) -> None:
    await stack.create(sql, *tables)
    await stack.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO ayb_authenticated")


async def test_odd_names(start_stack: Any) -> None:
    """Tables, columns and schemas of any name: subscribed as written in SQL, with their keys (CASE
    1).
    """
    stack: Stack = await start_stack(relay={"AYB_REALTIME_TABLES": 'public.*,"my-app".*'})
    await stack.sql("""
        CREATE SCHEMA "my-app"; GRANT USAGE ON SCHEMA "my-app" TO ayb_relay, ayb_authenticated;
        CREATE TABLE "my-app"."Orders" ("No" int PRIMARY KEY, "from" text);
        GRANT TRIGGER ON "my-app"."Orders" TO ayb_relay;
        GRANT SELECT ON "my-app"."Orders" TO ayb_authenticated;
    """)
    await grant_all(
        stack,
        """
        CREATE TABLE "Weird Table" ("Id" bigint, "select" int, PRIMARY KEY ("Id", "select"));
        CREATE TABLE "a.b" ("x""y" int PRIMARY KEY, "quo'te\\" text);
        CREATE TABLE "Größe-😀" ("ключ" int PRIMARY KEY);
        """,
        '"Weird Table"', '"a.b"', '"Größe-😀"', '"my-app"."Orders"',
    )  # fmt: skip
    names = 'Weird Table,"a.b","Größe-😀","my-app"."Orders"'
    async with stack.stream(names, token=stack.token()) as client:
        await client.connected()
        await stack.sql("""
            INSERT INTO "Weird Table" VALUES (1, 2); UPDATE "Weird Table" SET "select" = 3;
            DELETE FROM "Weird Table";
            INSERT INTO "a.b" VALUES (1, 'x'); UPDATE "a.b" SET "x""y" = 2; DELETE FROM "a.b";
            INSERT INTO "Größe-😀" VALUES (1); UPDATE "Größe-😀" SET "ключ" = 2;
            DELETE FROM "Größe-😀";
            INSERT INTO "my-app"."Orders" VALUES (1, 'x'); UPDATE "my-app"."Orders" SET "No" = 2;
            DELETE FROM "my-app"."Orders";
        """)
        told = await tell(client, 16)
    assert told == [
        ("create", "Weird Table", '{"Id":1,"select":2}'),
        ("delete", "Weird Table", '{"Id":1,"select":2}'),
        ("create", "Weird Table", '{"Id":1,"select":3}'),
        ("delete", "Weird Table", '{"Id":1,"select":3}'),
        ("create", "a.b", '{"x\\"y":1,"quo\'te\\\\":"x"}'),
        ("delete", "a.b", '{"x\\"y":1}'),
        ("create", "a.b", '{"x\\"y":2,"quo\'te\\\\":"x"}'),
        ("delete", "a.b", '{"x\\"y":2}'),
        ("create", "Größe-😀", '{"ключ":1}'),
        ("delete", "Größe-😀", '{"ключ":1}'),
        ("create", "Größe-😀", '{"ключ":2}'),
        ("delete", "Größe-😀", '{"ключ":2}'),
        ("create", "my-app.Orders", '{"No":1,"from":"x"}'),
        ("delete", "my-app.Orders", '{"No":1}'),
        ("create", "my-app.Orders", '{"No":2,"from":"x"}'),
        ("delete", "my-app.Orders", '{"No":2}'),
    ]


async def test_every_value(stack: Stack) -> None:
    """Every type has the JSON of the protocol's table, byte for byte: live, judged by a policy that
    reads the values, from the ring and from the outbox, whatever the writer's session settings
    (CASES 2, 2b).
    """
    await stack.create(VALUES, "every")
    await stack.sql(RESTRICTED)
    await stack.sql("""
        CREATE SCHEMA trap;
        CREATE FUNCTION trap.row_to_json(record) RETURNS json LANGUAGE plpgsql
            AS $$BEGIN RETURN 1; END$$;
        CREATE FUNCTION trap.text_eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
    """)
    token = stack.token()
    async with stack.stream("every", token=token) as client:
        await client.connected()
        start = client.last_event_id
        await stack.sql(INSERT_VALUES)
        await client.next_message()
        async with stack.database.connect() as session:
            await session.execute("""
                SET search_path = trap, public, pg_catalog; SET timezone = 'Asia/Kathmandu';
                SET datestyle = 'German'; SET intervalstyle = 'iso_8601';
                SET bytea_output = 'escape'; SET extra_float_digits = -15;
                SET lc_monetary = 'C'; SET xmlbinary = 'hex'; SET quote_all_identifiers = on;
            """)
            await session.execute(INSERT_VALUES)
        await client.next_message()
        assert client.raw.count(EVERY_FRAME) == 2
    async with stack.stream("every", token=token, last_event_id=start) as client:
        await client.take(2)
        assert client.raw.count(EVERY_FRAME) == 2
    await stack.restart("gateway")
    async with stack.stream("every", token=token, last_event_id=start) as client:
        await client.take(2)
        assert client.raw.count(EVERY_FRAME) == 2


async def test_values_of_the_readable_columns(stack: Stack) -> None:
    """If a column may not be read, the others stay the same byte for byte (CASES 2, 18)."""
    await stack.create(VALUES, "every")
    members = json.loads(EXPECTED, parse_float=str, parse_int=str)
    columns = [name for name in members if name not in ("flag", "nothing")]
    await stack.sql(f"GRANT SELECT ({', '.join(columns)}) ON every TO ayb_authenticated")
    async with stack.stream("every", token=stack.token()) as client:
        await client.connected()
        await stack.sql(INSERT_VALUES)
        told = await tell(client, 1)
    expected = EXPECTED.replace('"flag":true,', "").replace('"nothing":null,', "")
    assert told == [("create", "every", expected)]


async def test_text_is_one_field(stack: Stack) -> None:
    """Text with line breaks and whole fields in it is one `data` line, nothing else (CASE 3)."""
    await grant_all(stack, "CREATE TABLE t (id int PRIMARY KEY, v text, j json)", "t")
    nasty = "a\r\nb\rc\n\ndata: {}\n\nid: 5\nevent: x\nretry: 1\u2028\u2029\x85\x00".strip("\x00")
    async with stack.stream("t", token=stack.token()) as client:
        await client.connected()
        await stack.sql("INSERT INTO t VALUES (1, $1, '{\"a\":\r\n\n[1,\r2]}')", nasty)
        message = await client.next()
        await client.silence()
    assert message.type == "message"
    assert message.json()["record"] == {"id": 1, "v": nasty, "j": {"a": [1, 2]}}
    assert client.parser.retry_milliseconds is None
    _, frame = bytes(client.raw).split(b"\n\n", 1)
    assert [line.split(b":")[0] for line in frame.split(b"\n")[:4]] == [b"id", b"data", b"", b""]


async def test_sizes(stack: Stack) -> None:
    """Rows up to the limit arrive whole; over it, their key and `truncated` (CASE 4)."""
    await grant_all(stack, "CREATE TABLE t (id text, n int, v text, PRIMARY KEY (id))", "t")
    sizes = [*range(7_990, 8_011), 100_000, 1_000_000]
    async with stack.stream("t", token=stack.token()) as client:
        await client.connected()
        for size in sizes:
            await stack.sql("INSERT INTO t VALUES ($1, 1, repeat('x', $2))", str(size), size)
            record = (await client.next_message()).json()["record"]
            assert record == {"id": str(size), "n": 1, "v": "x" * size}
        await stack.sql("UPDATE t SET n = 2 WHERE id = '1000000'")  # its text is not written again
        record = (await client.next_message()).json()["record"]
        assert record == {"id": "1000000", "n": 2, "v": "x" * 1_000_000}
        await stack.sql("INSERT INTO t VALUES ('ascii', 1, repeat('x', 5000000))")
        await stack.sql("INSERT INTO t VALUES ('wide', 1, repeat('😀', 1250000))")
        await stack.sql("UPDATE t SET n = 2 WHERE id = 'wide'")
        await stack.sql("DELETE FROM t WHERE id = 'wide'")
        events = [message.data for message in await client.take(4)]
    truncated = '{"action":"%s","table":"t","record":{"id":"%s"},"truncated":true}'
    assert events == [
        truncated % ("create", "ascii"),
        truncated % ("create", "wide"),
        truncated % ("update", "wide"),
        '{"action":"delete","table":"t","record":{"id":"wide"}}',
    ]


async def test_a_table_without_a_key(start_stack: Any) -> None:
    """Creates and updates arrive and are judged; deletes arrive with an empty record (CASE 5)."""
    stack: Stack = await start_stack(gateway={"AYB_REALTIME_DELETES": "visible"})
    await grant_all(
        stack,
        """
        CREATE TABLE loose (owner text, v int);
        ALTER TABLE loose ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON loose USING (owner = current_setting('ayb.user_id'));
        """,
        "loose",
    )
    async with (
        stack.stream("loose", token=stack.token("a")) as a,
        stack.stream("loose", token=stack.token("b")) as b,
    ):
        await a.connected()
        await b.connected()
        await stack.sql("INSERT INTO loose VALUES ('a', 1), ('a', 1), ('b', 1)")
        await stack.sql("UPDATE loose SET v = 2 WHERE owner = 'a'")
        await stack.sql("DELETE FROM loose")
        assert await tell(a, 6) == [
            ("create", "loose", '{"owner":"a","v":1}'), ("create", "loose", '{"owner":"a","v":1}'),
            ("update", "loose", '{"owner":"a","v":2}'), ("update", "loose", '{"owner":"a","v":2}'),
            ("delete", "loose", "{}"), ("delete", "loose", "{}"),
        ]  # fmt: skip
        assert await tell(b, 2) == [
            ("create", "loose", '{"owner":"b","v":1}'), ("delete", "loose", "{}"),
        ]  # fmt: skip


async def test_partitions(stack: Stack) -> None:
    """Written through the root or a leaf, attached while streaming, moved: events name the root
    (CASE 6).
    """
    await grant_all(
        stack,
        """
        CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
        CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
        CREATE TABLE p3 (id int, k int NOT NULL, PRIMARY KEY (id, k));
        """,
        "p", "p3",
    )  # fmt: skip
    async with stack.stream("p", token=stack.token()) as client:
        await client.connected()
        await stack.sql("INSERT INTO p VALUES (1, 1)")
        await stack.sql("INSERT INTO p1 VALUES (2, 1)")
        await stack.sql("CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2)")
        await stack.sql("INSERT INTO p2 VALUES (3, 2)")
        await stack.sql("ALTER TABLE p ATTACH PARTITION p3 FOR VALUES IN (3)")
        await stack.sql("INSERT INTO p3 VALUES (4, 3)")
        await stack.sql("UPDATE p SET k = 3 WHERE id = 1")
        told = await tell(client, 6)
    assert told == [
        ("create", "p", '{"id":1,"k":1}'), ("create", "p", '{"id":2,"k":1}'),
        ("create", "p", '{"id":3,"k":2}'), ("create", "p", '{"id":4,"k":3}'),
        ("delete", "p", '{"id":1,"k":1}'), ("create", "p", '{"id":1,"k":3}'),
    ]  # fmt: skip


async def test_what_counts_as_a_change(stack: Stack) -> None:
    """Each of several equal updates is delivered; what was rolled back in any way is not (CASES 7,
    10).
    """
    await grant_all(
        stack,
        "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text)",
        "t",
    )
    async with (
        stack.stream("t", token=stack.token()) as client,
        stack.database.connect() as session,
    ):
        await client.connected()
        await session.execute("INSERT INTO t VALUES (1, 'x')")
        await session.execute("UPDATE t SET v = 'x'; UPDATE t SET v = 'x'; UPDATE t SET v = 'x'")
        await session.execute("BEGIN; INSERT INTO t VALUES (2, 'never'); ROLLBACK")
        await session.execute("""
            BEGIN; SAVEPOINT s; INSERT INTO t VALUES (3, 'never'); ROLLBACK TO s;
            INSERT INTO t VALUES (4, 'x'); COMMIT
        """)
        with pytest.raises(asyncpg.UniqueViolationError):
            await session.execute("BEGIN; INSERT INTO t VALUES (1, 'never'); COMMIT")
        with contextlib.suppress(asyncpg.PostgresError):
            await session.execute("DO $$BEGIN INSERT INTO t VALUES (6, 'never'); RAISE 'x'; END$$")
        await session.execute("INSERT INTO t VALUES (7, 'x')")
        told = await tell(client, 6)
        await client.silence()
    x = '{"id":%d,"v":"x"}'
    assert told == [
        ("create", "t", x % 1), *[("update", "t", x % 1)] * 3,
        ("create", "t", x % 4), ("create", "t", x % 7),
    ]  # fmt: skip
    assert b"never" not in client.raw


async def test_tables_change_while_streaming(stack: Stack) -> None:
    """Columns are added, renamed, retyped and dropped; the table is renamed, dropped and recreated
    under its name: the stream lives, and its records follow (CASE 8).
    """
    await grant_all(stack, "CREATE TABLE t (id int PRIMARY KEY, v int)", "t")
    steps = {
        "INSERT INTO t VALUES (1, 1)": ("t", '{"id":1,"v":1}'),
        "ALTER TABLE t ADD w text DEFAULT 'w'; INSERT INTO t VALUES (2, 2)":
            ("t", '{"id":2,"v":2,"w":"w"}'),
        "ALTER TABLE t RENAME v TO x; INSERT INTO t VALUES (3, 3)": ("t", '{"id":3,"x":3,"w":"w"}'),
        "ALTER TABLE t ALTER x TYPE text; INSERT INTO t VALUES (4, 'four')":
            ("t", '{"id":4,"x":"four","w":"w"}'),
        "ALTER TABLE t DROP x; INSERT INTO t VALUES (5)": ("t", '{"id":5,"w":"w"}'),
        "ALTER TABLE t RENAME TO u; INSERT INTO u VALUES (6)": ("u", '{"id":6,"w":"w"}'),
    }  # fmt: skip
    async with stack.stream("t", token=stack.token()) as client:
        await client.connected()
        for sql, (table, record) in steps.items():
            await stack.sql(sql)
            assert await tell(client, 1) == [("create", table, record)]
        await grant_all(stack, "DROP TABLE u; CREATE TABLE t (other text PRIMARY KEY)", "t")
        await stack.sql("INSERT INTO t VALUES ('seven')")
        assert await tell(client, 1) == [("create", "t", '{"other":"seven"}')]
        await grant_all(stack, "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY)", "t")
        await stack.sql("INSERT INTO t VALUES (8); DELETE FROM t")
        assert await tell(client, 2) == [("create", "t", '{"id":8}'), ("delete", "t", '{"id":8}')]


async def test_images_that_cannot_be_told(stack: Stack) -> None:
    """A change whose row cannot become JSON fails no writer and becomes `resync`; many in a row
    become one. What comes before and after is delivered as usual.
    """
    await stack.sql("""
        CREATE TYPE mood AS ENUM ('good', 'bad');
        CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE plpgsql
            AS 'BEGIN IF $1 = ''bad'' THEN RAISE ''not today''; END IF;
                RETURN to_json($1::text); END';
        CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
    """)
    await grant_all(stack, "CREATE TABLE moods (id int PRIMARY KEY, mood mood)", "moods")
    async with stack.stream("moods", token=stack.token()) as client:
        await client.connected()
        await stack.sql("INSERT INTO moods VALUES (1, 'good')")
        await stack.sql("INSERT INTO moods SELECT g, 'bad' FROM generate_series(2, 51) g")
        await stack.sql("INSERT INTO moods VALUES (52, 'good')")
        assert [told[2] for told in await tell(client, 2)] == [
            '{"id":1,"mood":"good"}',
            '{"id":52,"mood":"good"}',
        ]
        told = [event for event in client.events if event.type == "resync"]
        assert [event.json() for event in told] == [{"reason": "overflow", "tables": ["moods"]}]
        assert (await stack.rows("SELECT count(*) AS n FROM moods"))[0]["n"] == 52
