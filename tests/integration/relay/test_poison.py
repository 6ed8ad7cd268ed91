"""Whatever SQL can store costs its own row at the most: no relay ends, no other change is lost."""

from __future__ import annotations

import asyncpg
import pytest

from shared.outbox import fetch_images
from tests.integration.relay.conftest import Relays
from tests.support.databases import ROLES_SQL, Database

PADDING = "repeat('x', 1100000)"

LARGE = {
    "NUL": rf"""('{{"a":"\u0000","b":"' || {PADDING} || '"}}')::json""",
    "a lone surrogate": rf"""('{{"a":"\ud800","b":"' || {PADDING} || '"}}')::json""",
    "a surrogate's name": rf"""('{{"\udead":1,"b":"' || {PADDING} || '"}}')::json""",
    "deep json": f"""(repeat('[', 5000) || '"' || {PADDING} || '"' || repeat(']', 5000))::json""",
    "deep jsonb": f"""(repeat('[', 5000) || '"' || {PADDING} || '"' || repeat(']', 5000))::jsonb""",
    "line breaks": r"""(repeat(E'\n', 1100000) || '1')::json""",
}
SMALL = {
    "NUL": r"""'{"a":"\u0000"}'::json""",
    "a lone surrogate": r"""'{"a":"\ud800"}'::json""",
    "deep json": "(repeat('[', 5000) || repeat(']', 5000))::json",
    "deep jsonb": "(repeat('[', 5000) || repeat(']', 5000))::jsonb",
    "a huge number": "('1' || repeat('0', 100000))::numeric",
}


async def test_images_that_cannot_be_parsed(database, relays, ear):
    """Large images that no parser takes are delivered by their key or as lost, each by itself."""
    await database.execute("CREATE TABLE t (id int PRIMARY KEY, v json, w jsonb, n numeric)")
    async with relays.running():
        await _poison(database, [*LARGE.values(), *SMALL.values()])
        heard = await ear.changes(2 * len(LARGE) + 2 * len(SMALL))
    for number, change in enumerate(heard):
        if number % 2:
            assert change.new == f'{{"id":{number},"v":null,"w":null,"n":null}}'
        elif number < 2 * len(LARGE):
            assert change.change.lost or change.new == f'{{"id":{number}}}'
            assert change.change.lost or change.change.truncated


async def test_poison_in_a_burst_and_at_a_restart(database, relays, ear):
    """The same within a transaction that is cut into batches, and found by a relay that starts."""
    await database.execute("CREATE TABLE t (id int PRIMARY KEY, v json, w jsonb, n numeric)")
    async with relays.running():
        pass
    async with database.connect() as session, session.transaction():
        for number, value in enumerate([*LARGE.values(), *SMALL.values()]):
            await _insert(session, 2 * number, value)
            await session.execute("INSERT INTO t (id) VALUES ($1)", 2 * number + 1)
    async with relays.running(realtime_batch_changes=3):
        heard = await ear.changes(2 * len(LARGE) + 2 * len(SMALL))
    assert [h.new for h in heard[1::2]] == [
        f'{{"id":{n},"v":null,"w":null,"n":null}}' for n in range(1, len(heard), 2)
    ]
    async with relays.running():  # reads the last batch again
        await ear.ticked()


async def _poison(database, values):
    async with database.connect() as session:
        for number, value in enumerate(values):
            await _insert(session, 2 * number, value)
            await session.execute("INSERT INTO t (id) VALUES ($1)", 2 * number + 1)


async def _insert(session, number, value):
    column = {"jsonb": "w", "numeric": "n"}.get(value.rpartition("::")[2], "v")
    await session.execute(f"INSERT INTO t (id, {column}) VALUES ({number}, {value})")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP"])
async def test_encodings(postgres_server, valkey_server, ear, encoding):
    """Bytes that are no UTF-8, in values and in names, cost their own row or table."""
    name = f"test_{encoding.lower()}"
    odd = {"SQL_ASCII": b"\xe9", "LATIN1": b"\xe9", "EUC_JP": b"\xb0\xa1"}[encoding].hex()
    database = Database(
        name=name,
        dsn=postgres_server.dsn(name),
        relay_dsn=postgres_server.dsn(name, user="ayb_relay"),
        gateway_dsn=postgres_server.dsn(name, user="ayb_gateway"),
    )
    async with database.connect(postgres_server.dsn()) as admin:
        await admin.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' "
            "LC_COLLATE 'C' LC_CTYPE 'C'"
        )
        try:
            await database.execute(ROLES_SQL.read_text(encoding="utf-8"))
            await database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
            relays = Relays(database.relay_dsn, valkey_server.url)
            odd_text = f"convert_from('\\x{odd}', getdatabaseencoding())"
            async with relays.running():
                await database.execute(f"""
                    INSERT INTO t VALUES (1, {odd_text});
                    INSERT INTO t VALUES (2, 'plain');
                """)
                (first, second) = await ear.changes(2)
                assert first.change.lost == (encoding == "SQL_ASCII")
                assert second.new == '{"id":2,"v":"plain"}'
                await database.execute(f"""
                    DO $$ BEGIN
                        EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY)', {odd_text});
                        EXECUTE format('GRANT TRIGGER ON %I TO ayb_relay', {odd_text});
                        EXECUTE format('CREATE TABLE u (id int PRIMARY KEY, %I text)', {odd_text});
                        GRANT TRIGGER ON u TO ayb_relay;
                    END $$""")
                async with database.connect() as session:
                    captured = 1 if encoding == "SQL_ASCII" else 3
                    while captured != await session.fetchval(
                        "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '!ayb%row%'"
                    ):
                        await session.execute("SELECT pg_sleep(0.05)")
                await database.execute("INSERT INTO u (id) VALUES (3); INSERT INTO t VALUES (4)")
                await ear.until(lambda: len(ear.heard) >= (3 if encoding == "SQL_ASCII" else 4))
                assert ear.heard[-1].new == '{"id":4,"v":null}'
        finally:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_column_that_is_named_like_our_alias(database, owner_relays, ear):
    """Columns named `image` or `source` beside an array that looks like one with bounds."""
    await database.execute("""
        CREATE TABLE t (id int PRIMARY KEY, image text, source text, list text[], b int[]);
    """)
    async with owner_relays.running():
        await database.execute("""
            INSERT INTO t VALUES (1, 'i', 's', ARRAY[']={'], '[2:3]={4,5}');
            UPDATE t SET image = 'j';
        """)
        created, updated = await ear.changes(2)
    assert created.new == '{"id":1,"image":"i","source":"s","list":["]={"],"b":"[2:3]={4,5}"}'
    assert updated.new == '{"id":1,"image":"j","source":"s","list":["]={"],"b":"[2:3]={4,5}"}'
    assert updated.old == created.new


async def test_virtual_column_beside_one_named_image(database, owner_relays, ear):
    """A virtual generated column, and a column named `image`."""
    async with database.connect() as session:
        try:
            await session.execute("""
                CREATE TABLE t (id int PRIMARY KEY, image text, source int,
                                twice int GENERATED ALWAYS AS (source * 2) VIRTUAL)
            """)
        except asyncpg.PostgresSyntaxError:
            pytest.skip("Postgres 18 has virtual generated columns")
    async with owner_relays.running():
        await database.execute("INSERT INTO t VALUES (1, 'i', 2)")
        (created,) = await ear.changes(1)
    assert created.new == '{"id":1,"image":"i","source":2,"twice":4}'


async def test_a_row_for_which_there_is_no_memory(database):
    """Memory that one image lacks is that image's trouble: the others are read."""
    await database.execute(
        """
        CREATE TABLE t (id int PRIMARY KEY);
        INSERT INTO t VALUES (1), (2), (3);
        CREATE FUNCTION image(id int, is_guarded boolean) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
            IF id = 2 AND NOT is_guarded THEN RAISE SQLSTATE '53200'; END IF;
            RETURN CASE WHEN id <> 2 THEN id END;
        END $$;
        """
    )
    async with database.connect() as session:
        rows = await fetch_images(session, "SELECT image(id, $2) FROM t WHERE id > $1", 0)
    assert [row[0] for row in rows] == ["1", None, "3"]
