from __future__ import annotations

from gateway.diagnostics.doctor import examine
from relay.capture.patterns import parse_pattern
from relay.capture.triggers import Capture
from relay.metrics import RelayMetrics
from shared.pool import open_pool

TABLES = """
    CREATE TABLE fast (id int PRIMARY KEY, author_id uuid);
    CREATE TABLE slow (LIKE fast INCLUDING ALL);
    CREATE TABLE shut (LIKE fast INCLUDING ALL);
    CREATE TABLE open (LIKE fast INCLUDING ALL);
    CREATE TABLE hidden (LIKE fast INCLUDING ALL);
    CREATE TABLE opaque (LIKE fast INCLUDING ALL);
    CREATE TABLE keyless (LIKE fast);
    CREATE TABLE heir () INHERITS (fast);
    CREATE TABLE members (user_id uuid);
    GRANT SELECT ON fast, slow, shut, open, opaque, keyless, members TO ayb_authenticated;
    ALTER TABLE fast ENABLE ROW LEVEL SECURITY;
    ALTER TABLE slow ENABLE ROW LEVEL SECURITY;
    ALTER TABLE shut ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION is_mine(uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
    BEGIN RETURN $1 = current_setting('ayb.user_id')::uuid; END $$;
    GRANT EXECUTE ON FUNCTION is_mine TO ayb_authenticated;
    CREATE POLICY own ON fast USING (author_id = current_setting('ayb.user_id')::uuid);
    ALTER TABLE opaque ENABLE ROW LEVEL SECURITY;
    ALTER TABLE keyless ENABLE ROW LEVEL SECURITY;
    ALTER TABLE members ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON slow USING (EXISTS (SELECT FROM members m WHERE m.user_id = author_id));
    CREATE POLICY own ON opaque USING (is_mine(author_id));
    CREATE POLICY own ON keyless USING (is_mine(author_id));
"""


async def test_each_table_is_told_with_its_form(database) -> None:
    """Joined, looped with the reason and the remedy, closed, open, and not readable."""
    await database.execute(TABLES)
    async with database.connect(database.relay_dsn) as relay:
        capture = Capture(
            relay, [parse_pattern("public.*")], lock_milliseconds=500, metrics=RelayMetrics()
        )
        await capture.install()
    async with open_pool(database.gateway_dsn, application_name="test", most=2) as pool:
        said = await examine(pool, ["ayb_authenticated", "nobody_there"])
    told = {line.partition(" for ayb_authenticated: ")[0]: line for line in said}
    assert told["public.fast"].endswith("ok: one question for all users")
    assert "warning: asked in a loop over users: " in told["public.slow"]
    assert "has RLS itself" in told["public.slow"]
    assert said[said.index(told["public.slow"]) + 1].startswith("  to make it joinable")
    assert "warning: asked by a SELECT for each user: " in told["public.opaque"]
    assert "is_mine" in told["public.opaque"]
    assert "has not changed since" in said[said.index(told["public.opaque"]) + 1]
    assert said[said.index(told["public.keyless"]) + 1].endswith("nothing of it is delivered")
    assert any(
        line.startswith("public.fast: warning: rows of tables that inherit") for line in said
    )
    assert "no policy shows" in told["public.shut"]
    assert "without RLS" in told["public.open"]
    assert "may not read" in told["public.hidden"]
    assert "public.fast for nobody_there: warning: the role does not exist" in said
