from __future__ import annotations

from gateway.diagnostics.doctor import examine
from gateway.visibility.cohorts import KNOWN_SETTINGS
from relay.capture.patterns import parse_pattern
from relay.capture.triggers import Capture
from relay.metrics import RelayMetrics
from shared.pool import open_pool

TABLES = """
    CREATE TABLE fast (id int PRIMARY KEY, author_id uuid);
    CREATE TABLE slow (LIKE fast INCLUDING ALL);
    CREATE TABLE shut (LIKE fast INCLUDING ALL);
    CREATE TABLE open (LIKE fast INCLUDING ALL);
    CREATE TABLE wrong (LIKE fast INCLUDING ALL);
    CREATE TABLE hidden (LIKE fast INCLUDING ALL);
    CREATE TABLE opaque (LIKE fast INCLUDING ALL);
    CREATE TABLE keyless (LIKE fast);
    CREATE TABLE computed (LIKE fast INCLUDING ALL);
    CREATE TABLE heir () INHERITS (fast);
    CREATE TABLE members (user_id uuid);
    GRANT SELECT ON fast, slow, shut, open, opaque, keyless, members, wrong TO ayb_authenticated;
    ALTER TABLE fast ENABLE ROW LEVEL SECURITY;
    ALTER TABLE slow ENABLE ROW LEVEL SECURITY;
    ALTER TABLE shut ENABLE ROW LEVEL SECURITY;
    ALTER TABLE wrong ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION is_mine(uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
    BEGIN EXECUTE 'SELECT 1'; RETURN $1 = current_setting('ayb.user_id')::uuid; END $$;
    GRANT EXECUTE ON FUNCTION is_mine TO ayb_authenticated;
    CREATE POLICY own ON fast USING (author_id = current_setting('ayb.user_id')::uuid);
    ALTER TABLE opaque ENABLE ROW LEVEL SECURITY;
    ALTER TABLE keyless ENABLE ROW LEVEL SECURITY;
    ALTER TABLE members ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON slow USING (EXISTS (SELECT FROM members m WHERE m.user_id > author_id));
    CREATE POLICY own ON opaque USING (is_mine(author_id));
    CREATE POLICY own ON keyless USING (is_mine(author_id));
    GRANT SELECT ON computed TO ayb_authenticated;
    CREATE FUNCTION me() RETURNS uuid LANGUAGE plpgsql STABLE AS $$
    BEGIN RETURN (SELECT m.user_id FROM members m LIMIT 1); END $$;
    ALTER TABLE computed ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON computed USING (author_id = me());
    CREATE POLICY own ON wrong USING (author_id = current_setting('app.user_id', true)::uuid);
"""


async def test_each_form_is_explained(database) -> None:
    """Joined, looped and opaque with reason and remedy, closed, open, not readable; and a policy
    that reads a setting which nothing sets.
    """
    async with open_pool(database.gateway_dsn, application_name="test", most=2) as pool:
        assert "no table is captured" in (await examine(pool, ["ayb_authenticated"]))[0]
    await database.execute(TABLES)
    async with database.connect(database.relay_dsn) as relay:
        capture = Capture(
            relay, [parse_pattern("public.*")], lock_milliseconds=500, metrics=RelayMetrics()
        )
        await capture.install()
    async with open_pool(database.gateway_dsn, application_name="test", most=2) as pool:
        lines = await examine(pool, ["ayb_authenticated", "nobody_there"])
    about = {line.partition(" for ayb_authenticated: ")[0]: n for n, line in enumerate(lines)}

    def said(table: str, place: int = 0) -> str:
        return lines[about[f"public.{table}"] + place]

    assert said("fast").endswith("ok: joined: one question for all users")
    assert "warning: looped" in said("slow")
    assert "has RLS itself" in said("slow")
    assert said("slow", 1).startswith("  to have it joined, give functions")
    assert said("computed").endswith("after what is computed for each: public.me()")
    assert "warning: opaque" in said("opaque")
    assert "is_mine" in said("opaque")
    assert "has not changed since" in said("opaque", 1)
    assert said("keyless", 1).endswith("nothing of it is delivered")
    assert any(
        line.startswith("public.fast: warning: rows of tables that inherit") for line in lines
    )
    assert "never set for clients: app.user_id" in said("wrong", 1)
    assert "no policy shows" in said("shut")
    assert "no RLS" in said("open")
    assert "may not read" in said("hidden")
    assert "public.fast for nobody_there: warning: the role does not exist" in lines


async def test_settings_that_claims_are_mapped_to(database) -> None:
    """A setting that is mapped counts as set; one that an extension has defined is named."""
    await database.execute(TABLES)
    async with database.connect(database.relay_dsn) as relay:
        capture = Capture(
            relay, [parse_pattern("public.*")], lock_milliseconds=500, metrics=RelayMetrics()
        )
        await capture.install()
    async with open_pool(database.gateway_dsn, application_name="test", most=1) as pool:
        await pool.execute(
            "DO $$ BEGIN END $$"
        )  # loads the extension, whose settings are known then
        names = (*KNOWN_SETTINGS, "app.user_id", "plpgsql.extra_errors")
        mapped = "\n".join(await examine(pool, ["ayb_authenticated"], setting_names=names))
        plain = "\n".join(await examine(pool, ["ayb_authenticated"]))
    assert "never set for clients: app.user_id" in plain
    assert "never set" not in mapped
    assert "AYB_AUTH_CLAIM_SETTINGS: plpgsql.extra_errors is a setting of Postgres" in mapped
    assert "AYB_AUTH_CLAIM_SETTINGS" not in plain
    assert "app.user_id is a setting" not in mapped


async def test_types_that_are_found_before_those_of_postgres(database) -> None:
    """A type named like one of Postgres is named where a search path finds it first: the login's,
    or a function's own.
    """
    await database.execute(
        """
        CREATE SCHEMA odd;
        CREATE DOMAIN odd.uuid AS text;
        CREATE TYPE odd.mine AS ENUM ('a');
        CREATE TABLE date (id int);
        CREATE FUNCTION first() RETURNS int LANGUAGE sql SET search_path = odd, pg_catalog
            AS 'SELECT 1';
        CREATE FUNCTION last() RETURNS int LANGUAGE sql SET search_path = pg_catalog, odd
            AS 'SELECT 1';
        CREATE FUNCTION other() RETURNS int LANGUAGE sql SET search_path = odd AS 'SELECT 1';
        """
    )
    path = {"search_path": "public, pg_catalog"}
    for settings, expected in (
        ({}, {"odd.uuid: the search path of first()"}),
        (path, {"odd.uuid: the search path of first()",
                "public.date: the search path of ayb_gateway"}),
    ):  # fmt: skip
        async with open_pool(
            database.gateway_dsn, application_name="test", most=1, settings=settings
        ) as pool:
            lines = await examine(pool, ["ayb_authenticated"])
        named = {line.split()[1]: line for line in lines if "a type of Postgres" in line}
        assert set(named) == {text.partition(":")[0] for text in expected}
        for text in expected:
            name, _, place = text.partition(": ")
            assert place.removesuffix("()") in named[name]
