"""From a write in Postgres to messages on the bus (CASES 1 to 10)."""

from __future__ import annotations

import json

import asyncpg
import pytest


async def test_odd_names(database, relays, ear):
    """Tables, columns and schemas of any name: all three actions, with key columns in key order."""
    await database.execute("""
        CREATE TABLE "Weird Table" ("Id" bigint, "select" int, PRIMARY KEY ("select", "Id"));
        CREATE TABLE "a.b" (id int PRIMARY KEY);
        CREATE TABLE "Größe-😀" ("a""b" int PRIMARY KEY, "quo'te\\" text);
        CREATE SCHEMA "my-app";
        CREATE TABLE "my-app"."Orders" ("No" int PRIMARY KEY);
        GRANT USAGE ON SCHEMA "my-app" TO ayb_relay;
        GRANT TRIGGER ON ALL TABLES IN SCHEMA "my-app" TO ayb_relay;
    """)
    async with relays.running(realtime_tables=("public.*", '"my-app".*')):
        await database.execute("""
            INSERT INTO "Weird Table" VALUES (1, 2);
            UPDATE "Weird Table" SET "Id" = 3;
            DELETE FROM "Weird Table";
            INSERT INTO "a.b" VALUES (4);
            INSERT INTO "Größe-😀" VALUES (5, 'x');
            INSERT INTO "my-app"."Orders" VALUES (6);
        """)
        heard = await ear.changes(6)
    assert [(h.table, h.key, h.op, h.new, h.old) for h in heard] == [
        ("public.Weird Table", ("select", "Id"), "I", '{"Id":1,"select":2}', None),
        (
            "public.Weird Table",
            ("select", "Id"),
            "U",
            '{"Id":3,"select":2}',
            '{"Id":1,"select":2}',
        ),
        ("public.Weird Table", ("select", "Id"), "D", None, '{"Id":3,"select":2}'),
        ("public.a.b", ("id",), "I", '{"id":4}', None),
        ("public.Größe-😀", ('a"b',), "I", '{"a\\"b":5,"quo\'te\\\\":"x"}', None),
        ("my-app.Orders", ("No",), "I", '{"No":6}', None),
    ]
    assert [h.change.index for h in heard] == [0, 1, 2, 3, 4, 5]


VALUES = r"""
    CREATE TYPE mood AS ENUM ('so so', 'fine');
    CREATE TYPE pair AS (a int, at timestamptz);
    CREATE DOMAIN stamp AS timestamptz;
    CREATE DOMAIN later AS stamp;
    CREATE TABLE every (
        big bigint, num numeric, nan float8, minus float8, real4 real, flag boolean, bytes bytea,
        at timestamptz, round timestamptz, never timestamptz, domain_at later, local timestamp,
        day date, endless date, clock time, range int4range, spans tstzrange,
        list text[], feeling mood, span interval, both_ pair, doc json, docb jsonb,
        price money, nothing text, addr inet, doubled int GENERATED ALWAYS AS (length('ab')) STORED
    );
"""
INSERT_VALUES = r"""
    INSERT INTO public.every VALUES (
        9007199254740993, 0.1234567890123456789012345, 'NaN', '-Infinity', 0.1, true, '\x00ff',
        '2026-02-07 22:00:00.123456+02', '2026-02-07 22:00:00+00', 'infinity',
        '2026-02-07 22:00:00+00', '2026-02-07 22:00:00.5', '2026-02-07', 'infinity', '12:30',
        '[1,5)', '[2026-02-07 22:00:00+00,)',
        ARRAY['a', NULL, 'q"q'], 'so so', '1 year 2 days 03:04:05', (7, '2026-02-07 22:00:00+00'),
        E'{"a":\n[1,\r\n 2.50]}', '{"x":1.0}', 12.5, NULL, '10.0.0.1/8'
    )
"""
EXPECTED = (
    '{"big":9007199254740993,"num":0.1234567890123456789012345,"nan":"NaN","minus":"-Infinity",'
    '"real4":0.1,"flag":true,"bytes":"\\\\x00ff","at":"2026-02-07T20:00:00.123456Z",'
    '"round":"2026-02-07T22:00:00Z","never":"infinity","domain_at":"2026-02-07T22:00:00Z",'
    '"local":"2026-02-07T22:00:00.5","day":"2026-02-07","endless":"infinity","clock":"12:30:00",'
    '"range":"[1,5)","spans":"[\\"2026-02-07 22:00:00+00\\",)",'
    '"list":["a",null,"q\\"q"],"feeling":"so so","span":"1 year 2 days 03:04:05",'
    '"both_":{"a":7,"at":"2026-02-07T22:00:00+00:00"},"doc":{"a": [1,   2.50]},'
    '"docb":{"x": 1.0},"price":"$12.50","nothing":null,"addr":"10.0.0.1/8","doubled":2}'
)


async def test_values(database, relays, ear):
    """Every type has the JSON of the protocol's table: every digit, on one line."""
    await database.execute(VALUES)
    async with relays.running():
        await database.execute(INSERT_VALUES)
        (heard,) = await ear.changes(1)
    assert heard.new == EXPECTED
    json.loads(EXPECTED)


async def test_values_do_not_depend_on_the_session(database, relays, ear):
    """A session with other zones and styles, and traps on its search_path, writes the same JSON."""
    await database.execute(VALUES)
    await database.execute("""
        CREATE SCHEMA trap;
        CREATE FUNCTION trap.row_to_json(record) RETURNS json LANGUAGE plpgsql
            AS $$BEGIN RETURN 1; END$$;
        CREATE FUNCTION trap.left(text, int) RETURNS text LANGUAGE sql AS $$SELECT 'X'$$;
        CREATE FUNCTION trap.nextval(text) RETURNS bigint LANGUAGE sql AS $$SELECT 1::bigint$$;
    """)
    async with relays.running(), database.connect() as session:
        await session.execute("""
            SET search_path = trap, pg_catalog; SET timezone = 'Asia/Kathmandu';
            SET datestyle = 'German'; SET intervalstyle = 'iso_8601'; SET bytea_output = 'escape';
            SET extra_float_digits = -15; SET quote_all_identifiers = on;
            CREATE TEMP TABLE horizon (most_bytes int);
            CREATE DOMAIN pg_temp.json AS text CHECK (false);
        """)
        await session.execute(
            INSERT_VALUES.replace("2026-02-07 22:00:00.5", "2026-02-07 22:00:00.5")
        )
        (heard,) = await ear.changes(1)
    assert heard.new == EXPECTED


ALIKE = (
    "timezone = 'UTC'", "timezone = 'Etc/UTC'", "datestyle = 'ISO, DMY'", "datestyle = 'ISO, YMD'",
    "extra_float_digits = 3", "lc_monetary = 'POSIX'",
)  # fmt: skip
"""Settings with which a session writes the same JSON as with the pinned ones."""

UNLIKE = (
    "timezone = 'Africa/Abidjan'", "timezone = 'Europe/London'", "datestyle = 'SQL, DMY'",
    "intervalstyle = 'sql_standard'", "bytea_output = 'escape'", "extra_float_digits = 0",
)  # fmt: skip


async def test_each_setting_alone(database, relays, ear):
    """An image is the same whichever setting differs, of inserts and updates. Only where one that
    matters differs are the settings pinned: without the function that does so, only those sessions'
    changes have no image.
    """
    await database.execute(VALUES)
    usual = "timezone = 'UTC'", "datestyle = 'ISO, MDY'", "extra_float_digits = 1"

    async def write(setting: str) -> None:
        async with database.connect() as session:
            for each in (*usual, "lc_monetary = 'C'", setting):
                await session.execute(f"SET {each}")
            await session.execute(INSERT_VALUES)
            await session.execute("UPDATE every SET flag = flag; TRUNCATE every")

    async with relays.running():
        for setting in (*ALIKE, *UNLIKE):
            await write(setting)
        both = len(ALIKE) + len(UNLIKE)
        heard = [h for h in await ear.changes(3 * both) if h.op != "T"]
        assert {(h.op, h.new, h.old) for h in heard} == {
            ("I", EXPECTED, None),
            ("U", EXPECTED, EXPECTED),
        }
        await database.execute("""
            CREATE OR REPLACE FUNCTION ayb_realtime.pinned_images(
                table_oid oid, new_row record, old_row record, is_computed boolean
            ) RETURNS json[] LANGUAGE plpgsql AS $$BEGIN RAISE 'not now'; END$$
        """)
        for setting in (*ALIKE, *UNLIKE):
            await write(setting)
        later = [h for h in await ear.changes(6 * both) if h.op == "I"][both:]
    assert [h.new for h in later] == [EXPECTED] * len(ALIKE) + [None] * len(UNLIKE)


async def test_text_cannot_break_a_line(database, relays, ear):
    """Line breaks, U+2028 and text that looks like fields stay escaped within one line."""
    nasty = "a\r\nb\n\ndata: x\nid: 5\u2028c\x01"
    await database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    async with relays.running():
        await database.execute("INSERT INTO t VALUES (1, $1)", nasty)
        (heard,) = await ear.changes(1)
    assert heard.new is not None
    assert "\n" not in heard.new
    assert "\r" not in heard.new
    assert json.loads(heard.new)["v"] == nasty


async def test_large_rows(database, relays, ear):
    """Rows around 8,000 bytes and of 100 kB travel whole; over the limit, key and `truncated`."""
    await database.execute(
        "CREATE TABLE t (n int, id text, at timestamptz, v text, PRIMARY KEY (id, at))"
    )
    sizes = [*range(7990, 8011), 100_000]
    insert = "INSERT INTO t VALUES (1, $1, '2026-01-01+00', repeat($2, $3))"
    async with relays.running():
        for size in sizes:
            await database.execute(insert, str(size), "x", size)
        await database.execute(insert, "ascii", "y", 5_000_000)
        await database.execute(insert, "wide", "😀", 1_250_000)
        await database.execute("UPDATE t SET n = 2 WHERE id = '100000'")
        await database.execute("UPDATE t SET v = '' WHERE id = 'ascii'")
        heard = await ear.changes(len(sizes) + 4)
    for size, one in zip(sizes, heard, strict=False):
        assert one.new is not None
        assert json.loads(one.new)["v"] == "x" * size
        assert not one.change.truncated
    ascii_, wide, updated, shrunk = heard[-4:]
    assert ascii_.new == '{"id":"ascii","at":"2026-01-01T00:00:00Z"}'
    assert wide.new == '{"id":"wide","at":"2026-01-01T00:00:00Z"}'
    assert ascii_.change.truncated
    assert wide.change.truncated
    assert updated.new is not None
    assert json.loads(updated.new)["v"] == "x" * 100_000
    assert shrunk.change.truncated
    assert shrunk.new == shrunk.old == '{"id":"ascii","at":"2026-01-01T00:00:00Z"}'


async def test_no_primary_key(database, relays, ear):
    """A table without a key, and one without columns: all actions arrive."""
    await database.execute("CREATE TABLE loose (v int); CREATE TABLE bare ()")
    async with relays.running():
        await database.execute("INSERT INTO loose VALUES (1)")
        await database.execute("UPDATE loose SET v = 2")
        await database.execute("DELETE FROM loose")
        await database.execute("INSERT INTO bare DEFAULT VALUES")
        heard = await ear.changes(4)
    assert [(h.op, h.key, h.new, h.old) for h in heard] == [
        ("I", (), '{"v":1}', None),
        ("U", (), '{"v":2}', '{"v":1}'),
        ("D", (), None, '{"v":2}'),
        ("I", (), "{}", None),
    ]


async def test_partitions(database, relays, ear):
    """Writes to root or leaf, to a partition attached later, and moves: all report the root."""
    await database.execute("""
        CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
        CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
        CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2) PARTITION BY LIST (k);
        CREATE TABLE p22 PARTITION OF p2 FOR VALUES IN (2);
        CREATE TABLE p3 (id int, k int NOT NULL, PRIMARY KEY (id, k));
    """)
    async with relays.running():
        await database.execute("INSERT INTO p VALUES (1, 1), (2, 2)")
        await database.execute("INSERT INTO p22 VALUES (3, 2)")
        await database.execute("INSERT INTO p3 VALUES (4, 3)")
        await database.execute("ALTER TABLE p ATTACH PARTITION p3 FOR VALUES IN (3)")
        await database.execute("INSERT INTO p3 VALUES (5, 3)")
        await database.execute("UPDATE p SET k = 3 WHERE id = 1")
        await database.execute("ALTER TABLE p DETACH PARTITION p3")
        await database.execute("ALTER TABLE p ATTACH PARTITION p3 FOR VALUES IN (3)")
        await database.execute("INSERT INTO p VALUES (6, 3)")
        await database.execute("TRUNCATE p")
        heard = await ear.changes(9)
    assert [(h.table, h.op, h.new or h.old) for h in heard] == [
        ("public.p", "I", '{"id":1,"k":1}'),
        ("public.p", "I", '{"id":2,"k":2}'),
        ("public.p", "I", '{"id":3,"k":2}'),
        ("public.p3", "I", '{"id":4,"k":3}'),
        ("public.p", "I", '{"id":5,"k":3}'),
        ("public.p", "D", '{"id":1,"k":1}'),
        ("public.p", "I", '{"id":1,"k":3}'),
        ("public.p", "I", '{"id":6,"k":3}'),
        ("public.p", "T", None),
    ]
    assert all(h.key == ("id", "k") for h in heard)


async def test_detached_partition_is_captured_by_itself(database, relays, ear):
    """A partition that was detached soon gets triggers of its own."""
    await database.execute("""
        CREATE TABLE p (id int) PARTITION BY LIST (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
    """)
    async with relays.running():
        await database.execute("ALTER TABLE p DETACH PARTITION p1")
        await _captured(database, "p1")
        await database.execute("INSERT INTO p1 VALUES (1)")
        (heard,) = await ear.changes(1)
    assert heard.table == "public.p1"


async def test_equal_updates(database, relays, ear):
    """Three updates of a row with the same values in one transaction are three changes."""
    await database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)"
    )
    async with relays.running():
        await database.execute("UPDATE t SET v = 1; UPDATE t SET v = 1; UPDATE t SET v = 1")
        heard = await ear.changes(3)
    assert [h.op for h in heard] == ["U", "U", "U"]


async def test_ddl_while_streaming(database, relays, ear):
    """Columns are added, renamed, retyped and dropped, a table is renamed, dropped and recreated:
    capture follows.
    """
    await database.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    async with relays.running():
        steps = [
            "INSERT INTO t VALUES (1, 1)",
            "ALTER TABLE t ADD at timestamptz DEFAULT '2026-01-01+00'",
            "INSERT INTO t VALUES (2, 2)",
            "ALTER TABLE t RENAME v TO w",
            "INSERT INTO t VALUES (3, 3)",
            "ALTER TABLE t ALTER w TYPE text",
            "INSERT INTO t VALUES (4, 'four')",
            "ALTER TABLE t DROP w",
            "INSERT INTO t VALUES (5)",
            "ALTER TABLE t RENAME TO u",
            "INSERT INTO u VALUES (6)",
        ]
        for count, step in enumerate(steps):
            await database.execute(step)
            await ear.until(lambda: len(ear.heard) > count // 2)  # noqa: B023
        await database.execute("DROP TABLE u; CREATE TABLE u (other text PRIMARY KEY)")
        await _captured(database, "u")
        await database.execute("INSERT INTO u VALUES ('seven')")
        heard = await ear.changes(7)
    assert [(h.table, h.new) for h in heard] == [
        ("public.t", '{"id":1,"v":1}'),
        ("public.t", '{"id":2,"v":2,"at":"2026-01-01T00:00:00Z"}'),
        ("public.t", '{"id":3,"w":3,"at":"2026-01-01T00:00:00Z"}'),
        ("public.t", '{"id":4,"w":"four","at":"2026-01-01T00:00:00Z"}'),
        ("public.t", '{"id":5,"at":"2026-01-01T00:00:00Z"}'),
        ("public.u", '{"id":6,"at":"2026-01-01T00:00:00Z"}'),
        ("public.u", '{"other":"seven"}'),
    ]
    assert heard[-1].key == ("other",)


async def test_dropped_table_leaves_no_hole(database, relays, ear):
    """Changes of a table dropped right after them are left out; numbers continue without a hole."""
    await database.execute("CREATE TABLE t (id int); CREATE TABLE gone (id int)")
    async with relays.running() as metrics:
        async with database.connect() as session, session.transaction():
            await session.execute("INSERT INTO gone VALUES (1); INSERT INTO t VALUES (1)")
            await session.execute("DROP TABLE gone; INSERT INTO t VALUES (2)")
        await database.execute("INSERT INTO t VALUES (3)")
        heard = await ear.changes(3)
        skipped = metrics.skipped._value.get()
    first = heard[0].batch
    assert [(h.batch - first, h.change.index) for h in heard] == [(0, 1), (0, 2), (1, 0)]
    assert skipped == 1


async def test_truncate(database, relays, ear):
    """TRUNCATE is one change per table."""
    await database.execute("CREATE TABLE t (id int); CREATE TABLE u (id int)")
    async with relays.running():
        await database.execute("INSERT INTO t VALUES (1); TRUNCATE t, u")
        heard = await ear.changes(3)
    assert [h.op for h in heard] == ["I", "T", "T"]
    assert {h.table for h in heard[1:]} == {"public.t", "public.u"}


async def test_rolled_back(database, relays, ear):
    """Changes rolled back as a whole, to a savepoint or by a deferred constraint, are not
    published.
    """
    await database.execute("""
        CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text);
    """)
    async with relays.running(), database.connect() as session:
        await session.execute("BEGIN; INSERT INTO t VALUES (1, 'rolled back'); ROLLBACK")
        await session.execute("""
            BEGIN; INSERT INTO t VALUES (2, 'kept'); SAVEPOINT s;
            INSERT INTO t VALUES (3, 'to savepoint'); ROLLBACK TO s;
            INSERT INTO t VALUES (4, 'kept'); COMMIT
        """)
        with pytest.raises(asyncpg.UniqueViolationError):
            await session.execute("BEGIN; INSERT INTO t VALUES (5, 'x'), (5, 'y'); COMMIT")
        await session.execute("INSERT INTO t VALUES (6, 'kept')")
        heard = await ear.changes(3)
        await ear.ticked()
    assert len(heard) == 3
    assert [json.loads(h.new or "")["id"] for h in heard] == [2, 4, 6]


async def test_virtual_generated_columns(database, owner_relays, ear):
    """Generated columns that are not stored are in both images, including one added later."""
    async with database.connect() as session:
        if await session.fetchval("SELECT current_setting('server_version_num')::int < 180000"):
            pytest.skip("Postgres 18 or newer")
    await database.execute("""
        CREATE TABLE t (a int PRIMARY KEY, "B b" int GENERATED ALWAYS AS (a * 2) VIRTUAL, c text);
        CREATE TABLE u (a int PRIMARY KEY);
    """)
    async with owner_relays.running():
        await database.execute("INSERT INTO t VALUES (1, DEFAULT, 'x'); UPDATE t SET a = 5")
        await database.execute("ALTER TABLE u ADD twice int GENERATED ALWAYS AS (a + a) VIRTUAL")
        await _captured(database, "u", "capture_row('computed')")
        await database.execute("INSERT INTO u VALUES (4)")
        heard = await ear.changes(3)
    assert [(h.new, h.old) for h in heard] == [
        ('{"a":1,"B b":2,"c":"x"}', None),
        ('{"a":5,"B b":10,"c":"x"}', '{"a":1,"B b":2,"c":"x"}'),
        ('{"a":4,"twice":8}', None),
    ]


@pytest.mark.parametrize(
    "computed", ["", ", twice int[] GENERATED ALWAYS AS (list || list) VIRTUAL"]
)
async def test_bounds_of_arrays(database, owner_relays, ear, computed):
    """An array whose subscripts do not begin at 1 is read back from its image as it was written."""
    async with database.connect() as session:
        if computed and session.get_server_version().major < 18:
            pytest.skip("Postgres 18 or newer")
        await session.execute(f"""
            CREATE TYPE pair AS (a int, list int[]);
            CREATE DOMAIN few AS int[] CHECK (cardinality(VALUE) < 9);
            CREATE TABLE t (id int PRIMARY KEY, list int[], few few, both_ pair, pairs pair[],
                texts text[], doc jsonb{computed});
            CREATE TEMP TABLE written AS TABLE t
        """)
        async with owner_relays.running():
            await session.execute("""
                INSERT INTO t VALUES
                (1, '[0:1]={7,8}', '[2:2]={1}', '(1,"[0:0]={5}")', '{"(1,\\"[0:0]={5}\\")"}',
                    '[-1:0][3:4]={{a,b},{c,NULL}}', '{"x": "[0:1]={1}"}'),
                (2, '{7,8}', '{1}', '(1,{5})', '{"(1,{5})"}', '{"[0:1]={x}"}', '[1]'),
                (3, NULL, NULL, NULL, NULL, NULL, NULL);
                INSERT INTO written TABLE t;
                DELETE FROM t;
            """)
            heard = await ear.changes(6)
        images = [h.new for h in heard[:3]]
        assert [h.old for h in heard[3:]] == images
        assert json.loads(images[0])["list"] == "[0:1]={7,8}"
        assert json.loads(images[1])["texts"] == ["[0:1]={x}"]
        same = await session.fetch(
            """
            SELECT row_to_json(w) #>> '{}',
                w::text = json_populate_record(NULL::t, image::json)::text
            FROM unnest($1::text[]) AS image
            JOIN written AS w ON w.id = (image::json ->> 'id')::int ORDER BY id
            """,
            images,
        )
    assert [row[1] for row in same] == [True, True, True]
    assert [row[0] for row in same[1:]] == images[1:]


async def test_writer_never_fails(database, owner_relays, ear):
    """A value that cannot become JSON loses its image; the write itself succeeds."""
    await database.execute("""
        CREATE TYPE evil AS ENUM ('x');
        CREATE FUNCTION evil_json(evil) RETURNS json LANGUAGE plpgsql
            AS $$BEGIN RAISE EXCEPTION 'no json'; END$$;
        CREATE CAST (evil AS json) WITH FUNCTION evil_json(evil);
        CREATE TABLE t (id int PRIMARY KEY, e evil, j json);
    """)
    deep = "[" * 2000 + "]" * 2000
    async with owner_relays.running():
        await database.execute("INSERT INTO t VALUES (1, 'x')")
        await database.execute("INSERT INTO t VALUES (2)")
        await database.execute("INSERT INTO t VALUES (3, NULL, $1)", deep)
        heard = await ear.changes(3)
        async with database.connect() as session:
            assert await session.fetchval("SELECT count(*) FROM t") == 3
    assert [(h.change.lost, h.new) for h in heard] == [
        (True, None),
        (False, '{"id":2,"e":null,"j":null}'),
        (True, None),
    ]


async def test_trigger_that_writes_again_comes_after(database, relays, ear):
    """A row that another trigger writes again is published in the order of the writes."""
    await database.execute("""
        CREATE TABLE t (id int PRIMARY KEY, v int);
        CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql
            AS $$BEGIN UPDATE t SET v = v + 1 WHERE id = NEW.id; RETURN NULL; END$$;
        CREATE TRIGGER "000" AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION again();
    """)
    async with relays.running():
        await database.execute("INSERT INTO t VALUES (1, 1)")
        heard = await ear.changes(2)
    assert [(h.op, h.new) for h in heard] == [("I", '{"id":1,"v":1}'), ("U", '{"id":1,"v":2}')]


async def test_what_is_not_captured(database, owner_relays, ear):
    """Temporary tables, views, AYB's own tables and tables of other schemas are left alone."""
    await database.execute("""
        CREATE TABLE t (id int); CREATE VIEW v AS TABLE t; CREATE MATERIALIZED VIEW m AS TABLE t;
        CREATE TABLE _ayb_users (id int); CREATE SCHEMA other; CREATE TABLE other.t (id int);
    """)
    async with owner_relays.running(), database.connect() as session:
        await session.execute("""
            CREATE TEMP TABLE tmp (id int); INSERT INTO tmp VALUES (1);
            INSERT INTO _ayb_users VALUES (1); INSERT INTO other.t VALUES (1);
            INSERT INTO v VALUES (2);
        """)
        (heard,) = await ear.changes(1)
    assert (heard.table, heard.new) == ("public.t", '{"id":2}')


async def test_triggers_follow_the_setting(database, owner_relays, ear):
    """A table that no longer matches loses its triggers; replicated writes count (ALWAYS)."""
    await database.execute("CREATE TABLE t (id int); CREATE TABLE u (id int)")
    async with owner_relays.running():
        pass
    async with owner_relays.running(realtime_tables=("public.*", "!public.u")):
        await database.execute("SET session_replication_role = replica; INSERT INTO t VALUES (1)")
        await database.execute("INSERT INTO u VALUES (1)")
        await ear.changes(1)
        async with database.connect() as session:
            left = await session.fetch("SELECT tgrelid::regclass::text AS t FROM pg_trigger")
    assert {row["t"] for row in left} == {"t"}


async def test_busy_table_is_not_blocked(database, relays, ear):
    """A table in use does not delay the relay, nor the relay the table: it is tried again."""
    await database.execute("CREATE TABLE busy (id int); CREATE TABLE t (id int)")
    async with database.connect() as session:
        transaction = session.transaction()
        await transaction.start()
        await session.execute("INSERT INTO busy VALUES (1)")
        async with relays.running(relay_lock_milliseconds=20):
            await database.execute("INSERT INTO t VALUES (1)")
            await ear.changes(1)
            await session.execute("INSERT INTO busy VALUES (2)")
            await transaction.commit()
            await _captured(database, "busy")
            await database.execute("INSERT INTO busy VALUES (3)")
            heard = await ear.changes(2)
    assert heard[1].new == '{"id":3}'


async def _captured(database, table, call="capture_row()"):
    """Wait until a table has its triggers."""
    async with database.connect() as session:
        while not await session.fetchval(
            "SELECT count(*) = 2 AND bool_or(position($2 in pg_get_triggerdef(oid)) > 0) "
            "FROM pg_trigger WHERE tgrelid = to_regclass($1) AND tgname LIKE '!ayb%' || tgrelid",
            table,
            call,
        ):
            await session.fetchval("SELECT pg_sleep(0.02)")
