"""AYB's API keys in a real Postgres, over the gateway's own login."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from gateway.auth.api_key_watch import ApiKeyWatch
from gateway.auth.api_keys import MOST_KEPT_BYTES, ApiKeys, key_throttle
from gateway.auth.throttle import Buckets
from gateway.auth.verifier import TokenVerifier
from gateway.diagnostics.ayb_tables import check_ayb_tables
from gateway.errors import InvalidTokenError, NotConfiguredError, TooManyTriesError
from shared.errors import DatabaseUnavailableError
from shared.pool import open_pool
from tests.support.ayb_tables import (
    GRANTS,
    add_api_key,
    change_api_key,
    key_hash,
    make_api_keys,
)
from tests.support.tokens import claims, gateway_settings, hs256

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from gateway.auth.claims import Claims
    from tests.support.databases import Database

UNKNOWN = "ayb_" + "0" * 48


@contextlib.asynccontextmanager
async def keys_of(
    database: Database,
    *,
    throttle: Buckets | None = None,
    most_kept_bytes: int = MOST_KEPT_BYTES,
) -> AsyncIterator[tuple[ApiKeys, asyncpg.Pool]]:
    async with open_pool(database.gateway_dsn, application_name="test", most=2) as pool:
        keys = ApiKeys(
            pool,
            gateway_settings(auth_claim_settings="app.scope=apiKeyScope").token_options.mapping,
            throttle=key_throttle() if throttle is None else throttle,
            most_kept_bytes=most_kept_bytes,
        )
        yield keys, pool


async def test_a_key_stands_for_its_user(database: Database) -> None:
    """The row and its user give the claims; scope and tables are among them, the key is not."""
    await make_api_keys(database)
    key = await add_api_key(database, "u@x", scope="readonly", allowed_tables=["posts", "app.x"])
    async with database.connect() as admin:
        user = str(await admin.fetchval("SELECT id FROM _ayb_users"))
    async with keys_of(database) as (keys, _):
        found = await keys.verify(key)
    assert (found.user_id, found.email, found.tenant_id) == (user, "u@x", "")
    assert (found.role, found.expires_at) == ("ayb_authenticated", None)
    assert found.settings()[4:] == ("readonly",)
    assert json.loads(found.payload) == {
        "sub": user, "email": "u@x", "apiKeyScope": "readonly", "allowedTables": ["posts", "app.x"],
    }  # fmt: skip
    assert found.allows("public.posts", "posts")
    assert found.allows("app.x", "app.x")
    assert not found.allows("public.other", "other")
    assert key not in repr(found)
    assert key_hash(key) not in repr(found)


async def test_older_versions_have_no_scope(database: Database) -> None:
    """Without the columns a key may read every table."""
    await make_api_keys(database, scopes=False)
    key = await add_api_key(database, "u@x")
    async with keys_of(database) as (keys, _):
        found = await keys.verify(key)
    assert found.allows("public.posts")
    assert json.loads(found.payload).keys() == {"sub", "email"}


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"revoked_at": datetime(2020, 1, 1, tzinfo=UTC)}, "revoked"),
        ({"revoked_at": datetime(2099, 1, 1, tzinfo=UTC)}, "revoked"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expired"),
        ({"scope": "writeonly"}, "scope"),
    ],
)
async def test_a_key_that_is_not_valid_is_refused(
    database: Database, columns: dict[str, object], reason: str
) -> None:
    """The client does not learn why; the log says why, and nothing of the key."""
    await make_api_keys(database)
    key = await add_api_key(database, "u@x", **columns)
    async with keys_of(database) as (keys, _):
        with capture_logs() as logs, pytest.raises(InvalidTokenError):
            await keys.verify(key)
    assert reason in logs[0]["reason"]
    assert not any(text in json.dumps(logs) for text in (key[4:], key_hash(key)))


async def test_what_is_no_key_is_refused(database: Database) -> None:
    """Unknown keys, other forms of a known one, and texts that only begin like a key."""
    await make_api_keys(database)
    key = await add_api_key(database, "u@x")
    wrong = [
        UNKNOWN, "ayb_", key.upper(), key[:-1], key + "0", f" {key}", key + "\n",
        "ayb_at_" + key[4:],
        key_hash(key), f"ayb_{key_hash(key)}", "ayb_\u0660" + key[5:], "ayb_" + "0" * 5_000,
    ]  # fmt: skip
    async with keys_of(database) as (keys, _):
        for text in wrong:
            with pytest.raises(InvalidTokenError):
                await keys.verify(text)
        assert (await keys.verify(key)).email == "u@x"


async def test_a_revoked_hash_beside_a_valid_one_counts(database: Database) -> None:
    """The hash is not unique in AYB's table: of two rows the stricter one counts."""
    await make_api_keys(database)
    key = await add_api_key(database, "u@x")
    await database.execute(
        "INSERT INTO _ayb_api_keys (user_id, key_hash, key_prefix, revoked_at)"
        " SELECT user_id, key_hash, key_prefix, now() FROM _ayb_api_keys"
    )
    async with keys_of(database) as (keys, _):
        with pytest.raises(InvalidTokenError):
            await keys.verify(key)


async def test_keys_are_accepted_only_where_the_setting_says_so(database: Database) -> None:
    """A verifier without API keys takes one for a malformed token; with them, both are accepted."""
    await make_api_keys(database)
    key = await add_api_key(database, "u@x")
    options = gateway_settings().token_options
    with pytest.raises(InvalidTokenError):
        await TokenVerifier(options).verify(key)
    async with keys_of(database) as (keys, _):
        both = TokenVerifier(options, api_keys=keys)
        assert (await both.verify(key)).email == "u@x"
        assert (await both.verify(hs256(claims()))).email == "user@example.com"


async def test_a_crowd_costs_few_queries(database: Database) -> None:
    """Keys that come together are looked up together, and known again for some seconds."""
    await make_api_keys(database)
    made = [await add_api_key(database, f"u{n}@x") for n in range(40)]
    async with keys_of(database) as (keys, pool):
        count = 0
        fetch = pool.fetch

        async def counted(*arguments: object) -> object:
            nonlocal count
            count += 1
            return await fetch(*arguments)

        pool.fetch = counted
        for _ in range(3):
            found = await asyncio.gather(*(keys.verify(key) for key in made))
            assert [claims.email for claims in found] == [f"u{n}@x" for n in range(40)]
        assert count <= 3
        for _ in range(5):
            with pytest.raises(InvalidTokenError):
                await keys.verify(UNKNOWN)
        assert count <= 4


async def test_a_list_of_tables_that_is_none_allows_nothing(database: Database) -> None:
    """In a version of AYB that keeps the list as JSON, anything but a list is refused."""
    await make_api_keys(database)
    await database.execute(
        "ALTER TABLE _ayb_api_keys DROP COLUMN allowed_tables;"
        "ALTER TABLE _ayb_api_keys ADD COLUMN allowed_tables jsonb"
    )
    key = await add_api_key(database, "u@x")
    for value, is_refused in (("null", False), ("[]", False), ('"posts"', True), ("{}", True)):
        await database.execute(f"UPDATE _ayb_api_keys SET allowed_tables = '{value}'")
        async with keys_of(database) as (keys, _):
            if is_refused:
                with pytest.raises(InvalidTokenError):
                    await keys.verify(key)
            else:
                await keys.verify(key)


async def test_what_is_kept_is_bounded_in_bytes(database: Database) -> None:
    """Made-up keys, and keys with long lists of tables, push each other out."""
    await make_api_keys(database)
    big = [await add_api_key(database, f"u{n}@x", allowed_tables=["t" * 2_000]) for n in range(10)]
    async with keys_of(database, most_kept_bytes=20_000) as (keys, _):
        for key in big:
            await keys.verify(key)
        assert 0 < keys.kept_bytes <= 20_000
        for n in range(100):
            with pytest.raises(InvalidTokenError):
                await keys.verify(f"ayb_{n:048x}")
        assert 0 < keys.kept_bytes <= 20_000
        assert (await keys.verify(big[0])).email == "u0@x"


async def test_a_network_that_guesses_has_to_wait(database: Database) -> None:
    """Unknown keys count for their network; known keys, and other networks, do not wait."""
    await make_api_keys(database)
    key = await add_api_key(database, "u@x")
    async with keys_of(database, throttle=Buckets(3, 60.0)) as (keys, _):
        for n in range(3):
            with pytest.raises(InvalidTokenError):
                await keys.verify(f"ayb_{n:048x}", "2001:db8::1")
        for address in ("2001:db8::1", "2001:db8::2"):
            with pytest.raises(TooManyTriesError) as caught:
                await keys.verify(f"ayb_{9:048x}", address)
            assert caught.value.retry_after
        assert (await keys.verify(key, "192.0.2.1")).email == "u@x"
        assert (await keys.verify(key, "2001:db8::1")).email == "u@x"  # known by now


async def test_a_database_that_is_away_says_nothing_of_a_key(database: Database) -> None:
    """The request is refused for a passing reason, never as an invalid token."""
    await make_api_keys(database)
    key = await add_api_key(database, "u@x")
    async with keys_of(database) as (keys, pool):
        async with database.connect() as admin:
            await admin.execute(f"REVOKE CONNECT ON DATABASE {database.name} FROM PUBLIC")
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'ayb_gateway' AND datname = current_database()"
            )
            with pytest.raises(DatabaseUnavailableError):
                await keys.verify(key)
            await admin.execute(f"GRANT CONNECT ON DATABASE {database.name} TO PUBLIC")
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(DatabaseUnavailableError):
                    assert (await keys.verify(key)).email == "u@x"
                    break
        assert pool is not None


@pytest.mark.parametrize("missing", ["tables", "grants"])
async def test_missing_tables_and_grants_are_ours_to_say(database: Database, missing: str) -> None:
    """The client is refused for a passing reason; the log says what is needed."""
    if missing == "grants":
        await make_api_keys(database, grants=False)
    async with keys_of(database) as (keys, _):
        with capture_logs() as logs, pytest.raises(NotConfiguredError):
            await keys.verify(UNKNOWN)
    assert "needs SELECT on AYB's tables" in logs[0]["event"]


async def test_the_doctor_names_what_is_missing(database: Database) -> None:
    """A missing table, a missing grant, and Row-Level Security that hides rows from the gateway."""
    async with open_pool(database.gateway_dsn, application_name="test", most=1) as pool:

        async def said() -> str:
            return "\n".join(await check_ayb_tables(pool, "AYB_AUTH_API_KEYS"))

        assert (await said()).count("is missing") == 2
        await make_api_keys(database, grants=False)
        assert 'GRANT SELECT ON public._ayb_api_keys TO "ayb_gateway"' in await said()
        assert 'GRANT SELECT ON public._ayb_users TO "ayb_gateway"' in await said()
        await database.execute(GRANTS)
        assert (await said()).count(": ok:") == 2
        await database.execute("ALTER TABLE _ayb_api_keys ENABLE ROW LEVEL SECURITY")
        assert "CREATE POLICY ayb_gateway ON public._ayb_api_keys" in await said()
        await database.execute(
            "CREATE POLICY ayb_gateway ON public._ayb_api_keys FOR SELECT TO ayb_gateway"
            " USING (true)"
        )
        assert (await said()).count(": ok:") == 2


@pytest.mark.parametrize(
    "change",
    [
        "revoked_at = now()",
        "expires_at = now() - interval '1 second'",
        "expires_at = now() + interval '1 day'",
        "allowed_tables = '{posts}'",
        "scope = 'readonly'",
        "scope = 'none'",
        "key_hash = 'x'",
        None,
    ],
)
async def test_a_stream_ends_when_its_key_changes(database: Database, change: str | None) -> None:
    """Revoked, expired, deleted, limited: all streams of the key end, those of others stay."""
    await make_api_keys(database)
    first = await add_api_key(database, "a@x")
    other = await add_api_key(database, "b@x")
    ended: list[str] = []
    async with keys_of(database) as (keys, _), asyncio.TaskGroup() as group:
        watch = ApiKeyWatch(keys, seconds=0.05)
        running = group.create_task(watch.run())
        with (
            watch.watching(await keys.verify(first), lambda: ended.append("first")),
            watch.watching(await keys.verify(first), lambda: ended.append("again")),
            watch.watching(await keys.verify(other), lambda: ended.append("other")),
            watch.watching(None, lambda: ended.append("anonymous")),
        ):
            await asyncio.sleep(0.2)
            assert not ended
            if change is None:
                await database.execute("DELETE FROM _ayb_users WHERE email = 'a@x'")
            else:
                await change_api_key(database, first, change)
            async with asyncio.timeout(10):
                while len(ended) < 2:  # noqa: ASYNC110 (another task does it)
                    await asyncio.sleep(0.01)
            assert set(ended) == {"first", "again"}
        assert len(watch) == 0
        running.cancel()


async def test_a_stream_that_opens_during_the_look_stays(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key was not asked about."""
    await make_api_keys(database)
    first = await add_api_key(database, "a@x")
    other = await add_api_key(database, "b@x")
    ended: list[str] = []
    async with keys_of(database) as (keys, _), asyncio.TaskGroup() as group:
        looked, go_on = asyncio.Event(), asyncio.Event()
        look = keys.current

        async def slow(digests: list[str]) -> dict[str, Claims]:
            answer = await look(digests)
            looked.set()
            await go_on.wait()
            return answer

        monkeypatch.setattr(keys, "current", slow)
        watch = ApiKeyWatch(keys, seconds=0.01)
        running = group.create_task(watch.run())
        with watch.watching(await keys.verify(first), lambda: ended.append("first")):
            await looked.wait()
            with watch.watching(await keys.verify(other), lambda: ended.append("other")):
                looked.clear()
                go_on.set()
                await looked.wait()
            assert ended == []
        running.cancel()


async def test_streams_stay_while_the_database_is_away(database: Database) -> None:
    """What cannot be looked up ends nothing; it is looked up again."""
    await make_api_keys(database)
    key = await add_api_key(database, "a@x", expires_at=datetime.now(UTC) + timedelta(hours=1))
    ended: list[str] = []
    async with keys_of(database) as (keys, _), asyncio.TaskGroup() as group:
        found = await keys.verify(key)
        assert found.expires_at is not None
        assert found.expires_at > time.time()
        watch = ApiKeyWatch(keys, seconds=0.05)
        running = group.create_task(watch.run())
        with capture_logs() as logs, watch.watching(found, lambda: ended.append("x")):
            await database.execute("REVOKE SELECT ON _ayb_api_keys FROM ayb_gateway")
            async with asyncio.timeout(10):
                while not any("stay open" in entry["event"] for entry in logs):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert not ended
            await database.execute("GRANT SELECT ON _ayb_api_keys TO ayb_gateway")
            await change_api_key(database, key, "revoked_at = now()")
            async with asyncio.timeout(10):
                while not ended:  # noqa: ASYNC110 (another task does it)
                    await asyncio.sleep(0.01)
        running.cancel()
